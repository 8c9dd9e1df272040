"""The real Canaille, from its locked set, with a real PostgreSQL: as the guest runs it."""

from __future__ import annotations

import http.client
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING

import pytest

from tests import postgres, sets
from tests.debian import BASE, part, plan

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FOLDER = BASE / "services/canaille"
NAME = "auth.rave.localhost:3002"
ORIGIN = "https://rave.localhost:3002"
SMOKE_SECRET = "5" * 64
MATRIX_SECRET = "7" * 64
PORTAL_SECRET = "8" * 64
# As systemd does it: the socket is the first descriptor, and it is said to whom it is handed over.
HAND = (
    "import os, sys; os.dup2(int(sys.argv[1]), 3); os.environ['LISTEN_PID'] = str(os.getpid());"
    " os.execv(sys.argv[2], sys.argv[2:])"
)
# Where Canaille tells Synapse and the portal that sessions have ended: known before they run.
MATRIX_PORT = postgres.free_port()
PORTAL_PORT = postgres.free_port()
SECRET_KEY = "0123456789abcdef" * 4


@dataclass(frozen=True)
class Answer:
    """What was answered over HTTP."""

    status: int
    headers: http.client.HTTPMessage
    text: str


@dataclass
class Canaille:
    """A running Canaille, and where it listens."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path
    control: Path
    groups: Path

    @contextmanager
    def connected(self) -> Iterator[http.client.HTTPConnection]:
        """A connection that stays open meanwhile."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            yield connection
        finally:
            connection.close()

    def get(self, path: str, headers: dict[str, str] | None = None) -> Answer:
        """Ask for a page as nginx does, or with other headers."""
        with self.connected() as connection:
            connection.request("GET", path, headers=forwarded() if headers is None else headers)
            answer = connection.getresponse()
            return Answer(answer.status, answer.msg, answer.read().decode())

    def end(self) -> float:
        """Tell it to end, as systemd does; return the seconds that it took."""
        began = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(30)
        return time.monotonic() - began


def know(place: Path, secret: str | None) -> None:
    """Let the smoke suite's client have a secret, and the others, as canaille-clients does it."""
    known = {"rave-smoke": secret, "matrix": MATRIX_SECRET, "portal": PORTAL_SECRET}
    lines = (
        f"{name} {sha256(text.encode()).hexdigest()}\n" for name, text in known.items() if text
    )
    (place / "clients").write_text("".join(lines))


def forwarded(name: str = NAME) -> dict[str, str]:
    """Return what nginx adds to a request for a name."""
    return {"Host": name, "X-Forwarded-Host": name, "X-Forwarded-Proto": "https",
            "X-Forwarded-For": "10.0.2.2"}  # fmt: skip


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Canaille's set, by the program that seals it for the image, with what is ours in it."""
    place = tmp_path_factory.mktemp("sets") / "canaille"
    sets.fill("canaille", place)
    ours = FOLDER / "rootfs/usr/lib/rave/sets/canaille"
    shutil.copytree(ours, place, dirs_exist_ok=True)
    sets.compile_all(place)
    return place


@pytest.fixture(scope="session")
def signing_key() -> str:
    """A key as `rave secrets init` makes it."""
    argv = ["openssl", "genrsa", "2048"]
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout


@pytest.fixture(scope="session")
def database() -> Iterator[postgres.Server]:
    with postgres.running() as server:
        server.sql("create role canaille login")
        server.sql("create database canaille owner canaille")
        server.sql("create role synapse login")
        like = "template template0 locale 'C'"
        server.sql(f"create database synapse owner synapse {like}")
        yield server


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory, database: postgres.Server) -> Path:
    """A directory with its configuration, which leads to the test's database."""
    folder = tmp_path_factory.mktemp("canaille")
    text = (FOLDER / "templates/etc/rave/canaille.toml").read_text()
    address = f"postgresql+psycopg2://canaille@/canaille?host={database.place}&port={database.port}"
    text, count = re.subn(
        r"^DATABASE_URI = .*$", f'DATABASE_URI = "{address}"', text, flags=re.MULTILINE
    )
    assert count == 1
    (folder / "canaille.toml").write_text(text)
    (folder / "origin").write_text(f"{ORIGIN}\n")
    clients = part("canaille").files(plan("development"))["etc/rave/clients.json"]
    for port, ours in ((8008, MATRIX_PORT), (3006, PORTAL_PORT)):
        clients = clients.replace(f":{port}/", f":{ours}/")
    (folder / "clients.json").write_text(clients)
    know(folder, SMOKE_SECRET)
    return folder


@pytest.fixture(scope="session")
def secrets(place: Path, signing_key: str) -> Path:
    """Its secrets, in the directory that is /run/secrets/canaille in the guest."""
    folder = place / "secrets"
    folder.mkdir()
    (folder / "secret-key").write_text(SECRET_KEY)
    (folder / "signing-key").write_text(signing_key)
    return folder


@contextmanager
def running(wheels: Path, place: Path, secrets: Path) -> Iterator[Canaille]:
    """Start it as its unit does, and wait until it says that it is ready."""
    port = postgres.free_port()
    log = place / f"log-{port}"
    with (
        ExitStack() as stack,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told,
        log.open("wb") as output,
    ):
        address = place / f"notify-{port}"
        told.bind(str(address))
        told.settimeout(120)
        control = place / f"run-{port}"
        control.mkdir(0o700)
        groups = place / f"groups-{port}"
        listener = stack.enter_context(socket.socket(socket.AF_UNIX))
        listener.bind(str(groups))
        listener.listen()
        env = {
            "CANAILLE_CONFIG": str(place / "canaille.toml"), "NOTIFY_SOCKET": str(address),
            "RUNTIME_DIRECTORY": str(control), "LISTEN_FDS": "1", "LISTEN_FDNAMES": "groups",
        }  # fmt: skip
        argv = [
            sys.executable, "-c", HAND, str(listener.fileno()),
            sys.executable, "-IS", str(wheels), "rave_accounts", str(secrets), str(port),
            str(place / "origin"), str(place / "clients.json"), str(place / "clients"),
        ]  # fmt: skip
        process = subprocess.Popen(
            argv, env=env, cwd="/", stdout=output, stderr=output, pass_fds=[listener.fileno()]
        )
        try:
            assert told.recv(100) == b"READY=1"
            yield Canaille(process, port, log, control / "control", groups)
        finally:
            process.kill()
            process.wait()
            address.unlink()


@pytest.fixture(scope="module")
def canaille(wheels: Path, place: Path, secrets: Path) -> Iterator[Canaille]:
    with running(wheels, place, secrets) as found:
        yield found
