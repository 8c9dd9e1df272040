"""A real nats-server and the real dispatcher, as processes that a test may kill."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import nats
from nats.js.api import ConsumerConfig, DeliverPolicy

from tests.unit.platform.deliveries import KEY, body, signed
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Sequence

SOURCE = Path(__file__).resolve().parents[3] / "src"


def free_port() -> int:
    """Return a port that nobody has, and that no connection is given while nobody listens there.

    Below what the kernel gives to clients: one that tries to connect to a port of that range again
    and again can meet itself, and then has the port.
    """
    while True:
        port = secrets.choice(range(20_000, 32_000))
        try:
            socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            continue
        return port


def answers(port: int) -> bool:
    with socket.socket() as end:
        return end.connect_ex(("127.0.0.1", port)) == 0


class Killable:
    """A process that can be killed and started again."""

    def __init__(self, argv: Sequence[str], port: int, log: Path, **environment: str) -> None:
        self.argv, self.port, self.log = argv, port, log
        self.environment = {**os.environ, **environment}
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self.argv, stderr=log, env=self.environment)
        until(lambda: answers(self.port) or self._gone(), pause=0.005)
        assert not self._gone(), self.log.read_text()

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def _gone(self) -> bool:
        return self.process is None or self.process.poll() is not None

    def end(self, number: int = signal.SIGKILL) -> int:
        assert not self._gone(), self.log.read_text()
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait()


def nats_server(place: Path, port: int, **more: object) -> Killable:
    """Return a server with one account; `more` is written into its configuration."""
    program = shutil.which("nats-server", path=f"{os.environ['PATH']}:/usr/sbin")
    assert program, "apt-get install nats-server"
    settings = {
        "listen": f"127.0.0.1:{port}",
        "jetstream": {"store_dir": str(place / "stream"), "max_file_store": 256 * 1024**2},
        "authorization": {"user": "rave", "password": "hunter2"},
        **more,
    }
    (place / "nats.conf").write_text(json.dumps(settings))
    argv = [program, "--config", str(place / "nats.conf")]
    return Killable(argv, port, place / "nats.log")


@dataclass
class Platform:
    """Both, and what was acknowledged."""

    place: Path
    nats: Killable
    dispatcher: Killable
    acknowledged: dict[int, str] = field(default_factory=dict)
    answered: Counter[int] = field(default_factory=Counter)
    counting: threading.Lock = field(default_factory=threading.Lock)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.dispatcher.port}"

    def post(self, client: httpx.Client, number: int, *, padding: int = 0) -> httpx.Response:
        """Send one webhook and note its acknowledgement."""
        content = body(number)[:-1] + b', "padding": "' + b"x" * padding + b'"}'
        answer = client.post(f"{self.url}/webhooks/forge", content=content, headers=signed(content))
        with self.counting:
            self.answered[answer.status_code] += 1
        if answer.is_success:
            self.acknowledged[number] = answer.json()["event_uuid"]
        return answer

    def post_until_taken(self, numbers: Sequence[int]) -> None:
        """Send webhooks as a sender does: again, until each is acknowledged."""
        with httpx.Client(timeout=60) as client:
            for number in numbers:
                until(partial(self._taken, client, number))

    def _taken(self, client: httpx.Client, number: int) -> bool:
        try:
            return self.post(client, number).is_success
        except httpx.TransportError:
            return False

    def send(self, numbers: Sequence[int], senders: int = 4) -> None:
        """Send webhooks, several at a time."""
        with ThreadPoolExecutor(senders) as pool:
            list(pool.map(self.post_until_taken, (numbers[at::senders] for at in range(senders))))

    def health(self) -> dict[str, Any]:
        found: dict[str, Any] = httpx.get(f"{self.url}/healthz", timeout=60).json()
        return found

    def settle(self) -> None:
        """Wait until nothing waits for the stream."""
        until(lambda: self.health()["waiting"] == 0, pause=0.05)

    def messages(self) -> list[tuple[str, dict[str, Any]]]:
        """Return what the stream holds: the id of each message, and what it says."""
        return asyncio.run(self._messages())

    async def _messages(self) -> list[tuple[str, dict[str, Any]]]:
        client = await nats.connect(
            f"nats://127.0.0.1:{self.nats.port}", user="rave", password="hunter2"
        )
        jetstream = client.jetstream()
        count = (await jetstream.stream_info("RAVE_EVENTS")).state.messages
        reader = await jetstream.pull_subscribe(
            "rave.events.>", config=ConsumerConfig(deliver_policy=DeliverPolicy.ALL)
        )
        found: list[tuple[str, dict[str, Any]]] = []
        while len(found) < count:
            for message in await reader.fetch(min(100, count - len(found)), timeout=60):
                assert message.headers is not None
                found.append((message.headers["Nats-Msg-Id"], json.loads(message.data)))
                await message.ack()
        await client.close()
        return found


def platform(place: Path, store: Path | None = None, **more: object) -> Platform:
    """Return a platform in a directory; nothing runs yet."""
    return with_server(place, nats_server(place, free_port(), **more), store)


def with_server(
    place: Path, server: Killable, store: Path | None = None, stream: str = ""
) -> Platform:
    """Return a platform before a server of NATS; `stream` is written into its settings of that."""
    port = free_port()
    for name, text in {"key": KEY.decode(), "nats-password": "hunter2"}.items():
        (place / name).write_text(text)
        (place / name).chmod(0o400)
    (place / "settings.toml").write_text(
        f"""
store = "{store or place / "events.db"}"
port = {port}
[nats]
url = "nats://127.0.0.1:{server.port}"
user = "rave"
{stream}
password_file = "nats-password"
[sources.forge]
scheme = "github"
secret_files = ["key"]
rate_per_second = 10000
burst = 100000
"""
    )
    (place / "settings.toml").chmod(0o644)
    argv = [sys.executable, "-m", "rave_platform.dispatcher", str(place / "settings.toml")]
    dispatcher = Killable(
        argv, port, place / "dispatcher.log",
        CREDENTIALS_DIRECTORY=str(place), PYTHONPATH=str(SOURCE),
    )  # fmt: skip
    return Platform(place, server, dispatcher)
