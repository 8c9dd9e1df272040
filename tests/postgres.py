"""A real PostgreSQL server of the account `nobody`, for tests that run as root."""

from __future__ import annotations

import os
import pwd
import socket
import subprocess
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

PROGRAMS = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
NOBODY = pwd.getpwnam("nobody")

# Marks of a module whose tests need it.
NEEDED = [
    pytest.mark.skipif(not PROGRAMS, reason="no PostgreSQL server on this host (postgresql-15)"),
    pytest.mark.skipif(os.getuid() != 0, reason="PostgreSQL must not run as root: needs setuid"),
]


def program(name: str) -> str:
    """Return the path of one of PostgreSQL's programs."""
    return str(PROGRAMS[-1].with_name(name))


@dataclass(frozen=True)
class Server:
    """A running server: its directory, which has its socket, and its port."""

    place: Path
    port: int

    def run(self, argv: list[str], **more: Any) -> subprocess.CompletedProcess[str]:
        """Run a program as the server's account."""
        return subprocess.run(
            argv, user=NOBODY.pw_uid, group=NOBODY.pw_gid, extra_groups=[], cwd=self.place,
            capture_output=True, text=True, check=True, **more,
        )  # fmt: skip

    def sql(self, text: str) -> None:
        """Carry out statements as `postgres`."""
        place = ["-h", str(self.place), "-p", str(self.port)]
        self.run([program("psql"), *place, "-U", "postgres", "-c", text])

    @property
    def log(self) -> str:
        """What the server has logged: everything."""
        return (self.place / "log").read_text()


def free_port() -> int:
    """Return a port of the loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running() -> Iterator[Server]:
    """Start a server that trusts its socket and wants passwords over TCP; stop it afterwards."""
    with tempfile.TemporaryDirectory(prefix="rave-pg-") as name:
        server = Server(Path(name), free_port())
        os.chown(server.place, NOBODY.pw_uid, NOBODY.pw_gid)
        server.run([program("initdb"), "-D", f"{name}/data", "-U", "postgres", "-A", "trust", "-N"])
        (server.place / "data/pg_hba.conf").write_text(
            "local all all trust\nhost all all 127.0.0.1/32 scram-sha-256\n"
        )
        control = [program("pg_ctl"), "-D", f"{name}/data", "-w"]
        # Everything is logged: what must not be logged then still is not.
        where = f"-k {name} -p {server.port} -c listen_addresses=127.0.0.1"
        options = f"{where} -c log_statement=all -F"
        subprocess.run(
            [*control, "-l", f"{name}/log", "-o", options, "start"],
            user=NOBODY.pw_uid, group=NOBODY.pw_gid, extra_groups=[], cwd=server.place, check=True,
            stdout=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            yield server
        finally:
            server.run([*control, "-m", "immediate", "stop"])
