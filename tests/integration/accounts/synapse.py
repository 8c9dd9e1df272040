"""The real Synapse, from its locked set, beside the Canaille of the tests: as the guest runs it."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from rave_cli.secrets import generate
from tests import postgres
from tests.debian import BASE, plan, rendered
from tests.integration.accounts.conftest import MATRIX_PORT, MATRIX_SECRET, ORIGIN

if TYPE_CHECKING:
    from collections.abc import Iterator

CONFIGURE = BASE / "services/matrix/rootfs/usr/lib/rave/matrix-configure"
SITE = ORIGIN.replace("//", "//matrix.")


@dataclass
class Synapse:
    """A running Synapse: where clients and Prometheus reach it, and its directory."""

    process: subprocess.Popen[bytes]
    port: int
    metrics: int
    place: Path

    @property
    def status(self) -> str:
        """What the kernel tells of its process (proc(5), "status")."""
        return Path(f"/proc/{self.process.pid}/status").read_text()

    @property
    def log(self) -> str:
        """What it has said so far."""
        return (self.place / "log").read_text()


def secrets(place: Path) -> Path:
    """Make its secrets as `rave secrets init` does; returns what is /run/secrets in the guest."""
    for name, record in plan("development")["secrets"].items():
        if name.startswith("matrix/"):
            file = place / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(generate.make(record["generate"], {}, now=datetime.now(UTC)))
    (place / "oidc").mkdir()
    (place / "oidc/matrix-client-secret").write_text(MATRIX_SECRET)
    return place


def settings(place: Path, database: postgres.Server, canaille: int, ports: tuple[int, int]) -> None:
    """Write its settings as the guest has them, but for the places and ports of the test."""
    files = rendered("development")
    places = {
        "/run/secrets/": f"{place}/secrets/",
        "/run/matrix-synapse/": f"{place}/",
        "/var/lib/matrix-synapse/": f"{place}/",
        "/etc/rave/matrix/": f"{place}/",
        "host: /run/postgresql,": f"host: {database.place}, port: {database.port},",
        "port: 8008\n": f"port: {ports[0]}\n",
        "port: 9010\n": f"port: {ports[1]}\n",
        "127.0.0.1:3040/": f"127.0.0.1:{canaille}/",
    }
    for name in ("homeserver.yaml", "log.yaml", "origin.yaml"):
        text = files[f"etc/rave/matrix/{name}"]
        for there, here in places.items():
            text = text.replace(there, here)
        (place / f"{name}.in").write_text(text)
    (place / "homeserver.yaml.in").rename(place / "homeserver.yaml")
    (place / "log.yaml.in").rename(place / "log.yaml")
    (place / "origin").write_text(f"{ORIGIN}\n")
    env = {**os.environ, "STATE_DIRECTORY": str(place), "RUNTIME_DIRECTORY": str(place)}
    argv = [
        str(CONFIGURE), str(place / "origin"), str(place / "origin.yaml.in"), str(place / "none"),
    ]  # fmt: skip
    subprocess.run(argv, env=env, check=True)


@contextmanager
def running(
    wheels: Path, place: Path, database: postgres.Server, canaille: int
) -> Iterator[Synapse]:
    """Start it with the command of its unit, and wait until it says that it is ready."""
    secrets(place / "secrets")
    port, metrics = MATRIX_PORT, postgres.free_port()
    settings(place, database, canaille, (port, metrics))
    unit = rendered("development")["etc/systemd/system/matrix-synapse.service"]
    (words,) = re.findall(r"^ExecStart=/usr/bin/python3 -IS \S+ (.+)$", unit, re.MULTILINE)
    for there in ("/etc/rave/matrix", "/run/matrix-synapse"):
        words = words.replace(there, str(place))
    argv = [sys.executable, "-IS", str(wheels), *words.split()]
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told,
        (place / "log").open("wb") as log,
    ):
        told.bind(str(place / "notify"))
        told.settimeout(120)
        env = {"NOTIFY_SOCKET": str(place / "notify")}
        process = subprocess.Popen(argv, env=env, cwd="/", stdout=log, stderr=log)
        synapse = Synapse(process, port, metrics, place)
        try:
            while b"READY=1" not in told.recv(4096).split(b"\n"):
                pass
            yield synapse
        finally:
            process.kill()
            process.wait()
