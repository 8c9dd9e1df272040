"""A real Synapse and the real bridge, as processes that a test may kill."""

from __future__ import annotations

import asyncio
import json
import secrets
import sys
from base64 import b64encode
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import httpx
import nats
from nats.js.api import ConsumerConfig, DeliverPolicy

from tests.integration.platform.services import SOURCE, Killable, free_port, nats_server
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from nats.aio.client import Client

SERVER = "rave.test"
US = f"@rave:{SERVER}"
KEY = "rave.deed"
# The alias of a room that the bridge makes.
OWN = "commands"


@dataclass
class Person:
    """Somebody who is signed in."""

    http: httpx.Client
    user: str

    def ask(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        answer = self.http.request(method, f"/_matrix/client/v3{path}", json=body)
        assert answer.is_success, (path, answer.text)
        found: dict[str, Any] = answer.json()
        return found

    def create_room(self, *invited: str, **more: object) -> str:
        body = {"preset": "private_chat", "invite": list(invited), **more}
        return str(self.ask("POST", "/createRoom", body)["room_id"])

    def say(self, room: str, text: str, type_: str = "m.room.message", **more: Any) -> str:
        """Send a message until the homeserver has it; return its id."""
        name, said = secrets.token_hex(8), ""
        content = {"msgtype": "m.text", "body": text, **more}

        def sent() -> bool:
            nonlocal said
            try:
                said = str(self.ask("PUT", f"{at(room)}/send/{type_}/{name}", content)["event_id"])
            except httpx.TransportError:
                return False
            return True

        until(sent, pause=0.05)
        return said

    def members(self, room: str) -> set[str]:
        found = self.ask("GET", f"{at(room)}/members")["chunk"]
        return {event["state_key"] for event in found if event["content"]["membership"] == "join"}

    def messages(self, room: str) -> list[dict[str, Any]]:
        """Return everything that was said in a room, in its order."""
        found: list[dict[str, Any]] = []
        start = ""
        while True:
            page = self.ask("GET", f"{at(room)}/messages?dir=f&limit=500{start}")
            found += [event for event in page["chunk"] if event["type"] == "m.room.message"]
            if "end" not in page:
                return found
            start = f"&from={page['end']}"

    def answers(self, room: str, to: str = "") -> list[dict[str, Any]]:
        """Return what the bridge said in a room, or in answer to a message."""
        return [
            event["content"]
            for event in self.messages(room)
            if event["sender"] == US and (not to or event["content"][KEY] == f"answer:{to}")
        ]

    def answer(self, room: str, to: str) -> str:
        """Wait for the answer to a message."""
        until(lambda: self.answers(room, to), pause=0.05)
        (found,) = self.answers(room, to)
        return str(found["body"])


def at(room: str) -> str:
    return f"/rooms/{quote(room, safe='')}"


@dataclass
class Chat:
    """Synapse, NATS and the bridge."""

    place: Path
    synapse: Killable
    nats: Killable
    bridge: Killable
    clients: list[httpx.Client] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.synapse.port}"

    def close(self) -> None:
        """End whatever runs."""
        for client in self.clients:
            client.close()
        for process in (self.bridge, self.nats, self.synapse):
            if process.process is not None and process.process.poll() is None:
                process.end()

    def start_synapse(self) -> None:
        self.synapse.start()
        until(self._answers, pause=0.05)

    def _answers(self) -> bool:
        try:
            return httpx.get(f"{self.url}/health", timeout=60).is_success
        except httpx.TransportError:
            return False

    def person(self, name: str) -> Person:
        """Register somebody."""
        client = httpx.Client(base_url=self.url, timeout=60)
        body = {
            "username": name,
            "password": secrets.token_hex(8),
            "auth": {"type": "m.login.dummy"},
        }
        answer = client.post("/_matrix/client/v3/register", json=body)
        assert answer.is_success, answer.text
        found = answer.json()
        client.headers["authorization"] = f"Bearer {found['access_token']}"
        self.clients.append(client)
        return Person(client, found["user_id"])

    def allow(self, *rooms: str, **permissions: Sequence[str]) -> None:
        """Write the bridge's settings."""
        lines = [
            f"store = {json.dumps(str(self.place / 'bridge.db'))}",
            f"port = {self.bridge.port}",
            f"rooms = {json.dumps(list(rooms))}",
            f"groups_file = {json.dumps(str(self.place / 'groups.json'))}",
            "[permissions]",
            *(f"{group} = {json.dumps(list(verbs))}" for group, verbs in permissions.items()),
            "[nats]",
            f'url = "nats://127.0.0.1:{self.nats.port}"',
            'user = "rave"',
            'password_file = "nats-password"',
            "[matrix]",
            f'url = "{self.url}"',
            f'own_rooms = ["{OWN}"]',
            'as_token_file = "as-token"',
            'hs_token_file = "hs-token"',
        ]
        write(self.place / "bridge.toml", "\n".join(lines), 0o644)

    def groups(self, **members: Sequence[str]) -> None:
        write(self.place / "groups.json", json.dumps(members), 0o644)

    def health(self) -> dict[str, Any]:
        url = f"http://127.0.0.1:{self.bridge.port}/healthz"
        found: dict[str, Any] = httpx.get(url, timeout=60).json()
        return found

    def metrics(self) -> str:
        return httpx.get(f"http://127.0.0.1:{self.bridge.port}/metrics", timeout=60).text

    def peak(self) -> float:
        """Return the most memory that the bridge has had, in MiB."""
        status = Path(f"/proc/{self.bridge.pid}/status").read_text()
        (line,) = [line for line in status.splitlines() if line.startswith("VmHWM:")]
        return int(line.split()[1]) / 1024

    def settle(self) -> None:
        """Wait until everything that was heard is decided and done."""
        until(lambda: self._waiting() == 0, pause=0.05)

    def _waiting(self) -> int:
        found = self.health()
        return int(found["undecided"] + found["deeds"] + found["waiting"])

    def stream(self, subjects: str) -> list[tuple[str, str, dict[str, Any]]]:
        """Return what the stream of tasks holds: subject, id and what it says."""
        return asyncio.run(self._stream(subjects))

    async def _stream(self, subjects: str) -> list[tuple[str, str, dict[str, Any]]]:
        client = await self._client()
        jetstream = client.jetstream()
        reader = await jetstream.pull_subscribe(
            subjects, config=ConsumerConfig(deliver_policy=DeliverPolicy.ALL), stream="RAVE_TASKS"
        )
        count = (await reader.consumer_info()).num_pending or 0
        found: list[tuple[str, str, dict[str, Any]]] = []
        while len(found) < count:
            for message in await reader.fetch(min(100, count - len(found)), timeout=60):
                name = (message.headers or {}).get("Nats-Msg-Id", "")
                found.append((message.subject, name, json.loads(message.data)))
        await client.close()
        return found

    def publish(self, *messages: tuple[str, bytes]) -> None:
        """Publish as an agent does."""

        async def send() -> None:
            client = await self._client()
            for subject, data in messages:
                await client.jetstream().publish(subject, data)
            await client.close()

        asyncio.run(send())

    async def _client(self) -> Client:
        return await nats.connect(
            f"nats://127.0.0.1:{self.nats.port}", user="rave", password="hunter2"
        )


def write(place: Path, text: str, mode: int = 0o400) -> None:
    place.unlink(missing_ok=True)
    place.write_text(text)
    place.chmod(mode)


def chat(place: Path, run_synapse: Callable[[Path], list[str]]) -> Chat:
    """Return a chat in a directory; nothing runs yet. `run_synapse` returns what runs Synapse."""
    synapse_port, bridge_port, nats_port = free_port(), free_port(), free_port()
    tokens = {name: secrets.token_hex(16) for name in ("as-token", "hs-token")}
    for name, text in {**tokens, "nats-password": "hunter2"}.items():
        write(place / name, text)
    registration = {
        "id": "rave", "url": f"http://127.0.0.1:{bridge_port}", "sender_localpart": "rave",
        "as_token": tokens["as-token"], "hs_token": tokens["hs-token"], "rate_limited": False,
        "namespaces": {
            "users": [{"exclusive": True, "regex": f"@rave:{SERVER}"}],
            "aliases": [{"exclusive": True, "regex": f"#{OWN}:{SERVER}"}],
        },
    }  # fmt: skip
    write(place / "registration.yaml", json.dumps(registration))
    much = {"per_second": 10000, "burst_count": 10000}
    # Real YAML is a superset of JSON.
    homeserver = {
        "server_name": SERVER, "pid_file": str(place / "synapse.pid"),
        "listeners": [{
            "port": synapse_port, "bind_addresses": ["127.0.0.1"], "type": "http",
            "resources": [{"names": ["client", "health"]}],
        }],
        "database": {"name": "sqlite3", "args": {"database": str(place / "synapse.db")}},
        "log_config": str(place / "log.yaml"), "media_store_path": str(place / "media"),
        "signing_key_path": str(place / "signing.key"), "report_stats": False,
        "trusted_key_servers": [], "federation_domain_whitelist": [],
        "enable_registration": True, "enable_registration_without_verification": True,
        "bcrypt_rounds": 4, "presence": {"enabled": False},
        "app_service_config_files": [str(place / "registration.yaml")],
        "rc_message": much, "rc_registration": much, "rc_joins": {"local": much},
        "rc_invites": {"per_room": much, "per_user": much, "per_issuer": much},
        "rc_room_creation": much, "macaroon_secret_key": secrets.token_hex(8),
        "form_secret": secrets.token_hex(8),
    }  # fmt: skip
    write(place / "homeserver.yaml", json.dumps(homeserver))
    seed = secrets.token_bytes(32)
    write(place / "signing.key", f"ed25519 a_test {b64encode(seed).decode().rstrip('=')}\n")
    log = {
        "version": 1, "disable_existing_loggers": False,
        "handlers": {"err": {"class": "logging.StreamHandler"}},
        "root": {"level": "WARNING", "handlers": ["err"]},
    }  # fmt: skip
    write(place / "log.yaml", json.dumps(log))
    argv = [*run_synapse(place), "--config-path", str(place / "homeserver.yaml")]
    return Chat(
        place,
        Killable(argv, synapse_port, place / "synapse.log"),
        nats_server(place, nats_port),
        Killable(
            [sys.executable, "-m", "rave_platform.bridge", str(place / "bridge.toml")],
            bridge_port, place / "bridge.log",
            CREDENTIALS_DIRECTORY=str(place), PYTHONPATH=str(SOURCE),
        ),
    )  # fmt: skip
