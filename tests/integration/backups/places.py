"""Real servers that keep a copy: OpenSSH's sshd with its sftp-server, and rclone's S3."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from rave_cli import paths
from rave_cli.secrets import identity, policy, store
from rave_cli.tls import making
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rave_cli.tls.making import KeyedCertificate

SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
SFTP_SERVER = Path("/usr/lib/openssh/sftp-server")
# rclone comes with what the tests install from Python's index.
RCLONE = shutil.which("rclone", path=f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}")

needs_sshd = pytest.mark.skipif(SSHD is None, reason="no sshd on this host (openssh-server)")
needs_s3 = pytest.mark.skipif(RCLONE is None, reason="no rclone on this host (requirements/dev)")

USER = pwd.getpwuid(os.geteuid()).pw_name
ACCESS, SECRET = "AKRAVETESTS", "a/secret+key0of0nobody"

CONFIG = """\
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host
AuthorizedKeysFile {folder}/authorized
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
PermitRootLogin prohibit-password
Subsystem sftp {subsystem}
"""


@dataclass
class Away:
    """A place that keeps a copy, and what serves it.

    Attributes:
        files: where the objects are on this disk.
        secrets: what is to be in the operator's file.
        argv: what serves it.
        scratch: for its own files.
    """

    files: Path
    secrets: dict[str, str]
    argv: list[str]
    scratch: Path
    port: int
    child: subprocess.Popen[bytes] | None = field(default=None)

    def start(self) -> None:
        log = (self.scratch / "log").open("ab")
        with log:
            self.child = subprocess.Popen(
                self.argv, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True
            )
        until(self._answers)

    def _answers(self) -> bool:
        assert self.child is not None
        assert self.child.poll() is None, (self.scratch / "log").read_text()[-2000:]
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
            return True
        return False

    def kill(self) -> None:
        """End it at once, with whatever it has started."""
        if self.child is None:
            return
        for pid in [self.child.pid, *descendants(self.child.pid)]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.child.wait()
        self.child = None

    def names(self) -> set[str]:
        found = (place for place in self.files.rglob("*") if place.is_file())
        return {place.relative_to(self.files).as_posix() for place in found}


def descendants(pid: int) -> list[int]:
    """Return what a process has started, and what that has."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError, IndexError):
            if int(stat.read_text().rpartition(")")[2].split()[1]) == pid:
                child = int(stat.parent.name)
                found += [child, *descendants(child)]
    return found


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@contextmanager
def sftp(scratch: Path, *, subsystem: str = "", files: Path | None = None) -> Iterator[Away]:
    """Serve a folder over SFTP; `subsystem` is a script of a shell instead of the usual server."""
    assert SSHD is not None
    scratch.mkdir(parents=True)
    for name in ("host", "own"):
        argv = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(scratch / name)]
        subprocess.run(argv, check=True)
    (scratch / "authorized").write_bytes((scratch / "own.pub").read_bytes())
    if os.geteuid() == 0:
        # Where sshd leaves its privileges behind (sshd(8), FILES).
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    program = str(SFTP_SERVER)
    if subsystem:
        script = scratch / "subsystem"
        script.write_text(f"#!/bin/sh\ncd {scratch}\n{subsystem}\n")
        script.chmod(0o755)
        program = str(script)
    port, kept = free_port(), files or scratch / "kept"
    (scratch / "config").write_text(CONFIG.format(port=port, folder=scratch, subsystem=program))
    secrets = {
        "place": f"sftp://{USER}@127.0.0.1:{port}{kept}/backups",
        "ssh-key": (scratch / "own").read_text(),
        "host-key": (scratch / "host.pub").read_text(),
    }
    argv = [SSHD, "-D", "-e", "-f", str(scratch / "config")]
    away = Away(kept / "backups", secrets, argv, scratch, port)
    away.start()
    try:
        yield away
    finally:
        away.kill()


@contextmanager
def s3(
    scratch: Path, *, files: Path | None = None, shown: KeyedCertificate | None = None
) -> Iterator[Away]:
    """Serve a folder with S3, over TLS if there is a certificate to show."""
    assert RCLONE is not None
    scratch.mkdir(parents=True)
    port, kept = free_port(), files or scratch / "kept"
    (kept / "bucket").mkdir(parents=True, exist_ok=True)
    argv = [
        RCLONE, "serve", "s3", "--config", "/dev/null", "--addr", f"127.0.0.1:{port}",
        "--auth-key", f"{ACCESS},{SECRET}", "--vfs-cache-mode", "off", str(kept),
    ]  # fmt: skip
    if shown is not None:
        (scratch / "shown.crt").write_text(shown.pem)
        (scratch / "shown.key").write_text(making.private_pem(shown.key))
        argv += ["--cert", f"{scratch}/shown.crt", "--key", f"{scratch}/shown.key"]
    scheme = "s3+http" if shown is None else "s3"
    secrets = {
        "place": f"{scheme}://127.0.0.1:{port}/bucket/backups",
        "access-key": ACCESS,
        "secret-key": SECRET,
    }
    away = Away(kept / "bucket/backups", secrets, argv, scratch, port)
    away.start()
    try:
        yield away
    finally:
        away.kill()


def authority(name: str = "An authority of one's own") -> KeyedCertificate:
    """Make an authority for this host."""
    return making.make(
        making.called(name), now=datetime.now(UTC), life=timedelta(days=1),
        vouches_for=making.constraints_of(making.names_of(["127.0.0.1", "localhost"])),
    )  # fmt: skip


def certified(
    issuer: KeyedCertificate, *names: str, life: timedelta = timedelta(hours=1)
) -> KeyedCertificate:
    """Let an authority issue a certificate; one whose life is over was good until then."""
    return making.make(
        making.called("a server of a test"), now=datetime.now(UTC), life=life,
        names=making.names_of(names), issuer=issuer,
    )  # fmt: skip


def keep(secrets: dict[str, str]) -> None:
    """Put secrets of the group into the operator's file, sealed."""
    keys, _ = identity.ensure()
    file = store.default_file()
    paths.atomic_write(file.parent / ".sops.yaml", policy.render(keys.recipients, file.name))
    values = {f"backup-copy/{name}": value for name, value in secrets.items()}
    paths.atomic_write(file, store.seal(values, policy.load(file), keys), mode=0o600)
