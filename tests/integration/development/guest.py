"""A development machine, as who may be its root has it, and who is signed in to its chat."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from http.client import HTTPException
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from rave_cli.machines import store
from rave_cli.machines.guest import connection
from rave_guest.wire.matrix import MatrixError
from tests.integration.development import falling
from tests.integration.development.people import Site, chatting, origin, site, trusting
from tests.waiting import until

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator, Mapping

    from rave_cli.machines.spec import Machine
    from rave_guest.chat import Chat
    from tests.integration.development.falling import Fall

LOOK = 1.0  # seconds between two looks
# Seconds for what an emulated machine comes to on a busy host: there one answer may take a minute,
# applications start anew, and an agent's task becomes another's.
LONGEST = 1200.0
USER, GROUP = "rave-faults", "leads"
# What comes of it where something in between was killed.
AWAY = (MatrixError, OSError, ValueError, HTTPException)

# Prints the name of each message of the stream of events, in which each is to be once.
HANDED_OVER = """
import asyncio, json, sys, tomllib
sys.path.insert(0, "/usr/lib/rave/sets/webhook-dispatcher")
import nats
from nats.js.api import ConsumerConfig, DeliverPolicy

async def names():
    with open("/etc/rave/webhook-dispatcher/safe.toml", "rb") as file:
        told = tomllib.load(file)["nats"]
    with open("/run/secrets/nats/password") as file:
        password = file.read().strip()
    client = await nats.connect(told["url"], user=told["user"], password=password)
    stream, found = client.jetstream(), []
    left = (await stream.stream_info("RAVE_EVENTS")).state.messages
    every = ConsumerConfig(deliver_policy=DeliverPolicy.ALL)
    reader = await stream.pull_subscribe("rave.events.>", config=every)
    while left > len(found):
        for message in await reader.fetch(min(100, left - len(found)), timeout=60):
            found.append(message.headers["Nats-Msg-Id"])
            await message.ack()
    await client.close()
    return found

json.dump(asyncio.run(names()), sys.stdout)
"""

DELETE = """
import sys
sys.path.insert(0, "/usr/lib/rave")
from rave_guest.wire.forge import PagureUser
with open("/run/secrets/pagure/token") as file:
    user = PagureUser(int(sys.argv[1]), "rave", file.read().strip(), 120)
for project in sys.argv[2:]:
    user.delete(project)
"""


def eventually(condition: Callable[[], object]) -> None:
    """Return as soon as a condition holds."""
    until(condition, pause=LOOK, ceiling=LONGEST)


@dataclass
class Guest:
    """The machine, as its root has it."""

    machine: Machine

    def run(self, *argv: str, timeout: float = 300.0) -> str:
        """Run a command in the machine as root."""
        with connection.connect(self.machine) as session:
            done = session.run(argv, timeout=timeout, sudo=True)
        assert done.ok, (argv, done.error_text)
        return done.text

    def kill(self, falls: Mapping[str, float]) -> list[Fall]:
        """End services as nothing but the kernel could, each in so many seconds; return once all
        run anew.
        """
        return falling.killed(self, {service: [after] for service, after in falls.items()})

    # --- the forge

    def forge(self, path: str) -> Any:
        """Return what the forge shows of something to everybody; None if it has none."""
        status, body = self.request(site(self.machine, "forge"), "GET", f"/api/0/{path}")
        assert status in (200, 404), (path, status)
        return json.loads(body) if status == 200 else None

    def delete(self, *projects: str) -> None:
        """Delete projects of the forge, those that are there."""
        plan = store.plan(self.machine)
        assert plan is not None
        (port,) = plan.services["pagure"].ports
        self.run("python3", "-I", "-c", DELETE, str(port.port), *projects)

    # --- webhooks

    def request(
        self, where: str, method: str, path: str, body: bytes | None = None, **headers: str
    ) -> tuple[int, bytes]:
        """Ask a site of the machine; return status and body."""
        connection_ = Site(where, self._trust)
        try:
            names = {name.replace("_", "-"): value for name, value in headers.items()}
            connection_.request(method, path, body, names)
            answer = connection_.getresponse()
            return answer.status, answer.read()
        finally:
            connection_.close()

    @cached_property
    def _trust(self) -> ssl.SSLContext:
        return trusting(self.machine)

    def hook(self, body: bytes, **headers: str) -> tuple[int, bytes]:
        """Send a webhook."""
        return self.request(
            origin(self.machine), "POST", "/webhooks/github", body,
            Content_Type="application/json", **headers,
        )  # fmt: skip

    @cached_property
    def _secret(self) -> bytes:
        return self.run("cat", "/run/secrets/webhook/github-secret").strip().encode()

    def signed(self, body: bytes) -> dict[str, str]:
        """Return the headers by which GitHub would prove a body."""
        digest = hmac.digest(self._secret, body, hashlib.sha256).hex()
        return {"X_Hub_Signature_256": f"sha256={digest}", "X_GitHub_Event": "push"}

    def handed_over(self) -> list[str]:
        """Return the names of all messages in the stream of events."""
        found: list[str] = json.loads(self.run("python3", "-I", "-c", HANDED_OVER))
        return found


@dataclass
class Member(Guest):
    """The machine, as somebody has it who is signed in to its chat, too."""

    talk: Chat
    # Of one connection, and several may talk.
    turn: threading.Lock = field(default_factory=threading.Lock)

    def say(self, text: str) -> str:
        """Say something until the homeserver has it, once; return its id."""
        name = os.urandom(8).hex()
        place = f"/rooms/{quote(self.talk.command_room)}/send/m.room.message/{name}"
        content = {"msgtype": "m.text", "body": text}
        return str(self.patiently("PUT", place, content)["event_id"])

    def patiently(self, method: str, path: str, document: object = None) -> dict[str, Any]:
        """Ask the homeserver until it answers."""
        found: list[dict[str, Any]] = []

        def asked() -> bool:
            try:
                with self.turn:
                    found.append(self.talk.one.ask(method, path, document))
            except MatrixError as error:
                if error.status != 429 and error.status < 500:
                    raise
            except AWAY:
                pass
            return bool(found)

        eventually(asked)
        return found[0]


@contextmanager
def somebody(machine: Machine) -> Iterator[Member]:
    """Have somebody signed in who may command."""
    with chatting(machine, USER, GROUP) as talk:
        yield Member(machine, talk)
