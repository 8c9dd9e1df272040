"""Agents and the bridge as processes, before real NATS and stand-ins for a forge and a chat."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import nats
from nats.js.api import ConsumerConfig, DeliverPolicy

from rave_platform.domain import tasks
from tests.integration.platform.forges import served
from tests.integration.platform.homeserver import write
from tests.integration.platform.mattermost import BOT, MattermostStub
from tests.integration.platform.mattermost import TOKEN as CHAT_TOKEN
from tests.integration.platform.services import SOURCE, Killable, free_port, nats_server
from tests.unit.platform.forges.gitlab import NAMESPACE, TOKEN, GitLabStub
from tests.waiting import until

if TYPE_CHECKING:
    from nats.aio.client import Client

    from rave_platform.domain.tasks import AgentTask

VERBS = ["help", "status", "agents", "run", "cancel", "approve", "reject", "create project"]


# httpx imports what draws its own command line wherever click is, which no set of a guest has for
# an agent: 5 MiB.
AS_IN_A_GUEST = """
import runpy, sys
sys.modules["click"] = None
del sys.argv[0]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""


class AgentProcess(Killable):
    """An agent: it listens nowhere, and says in its log that it works."""

    def start(self) -> None:
        self.log.write_bytes(b"")
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self.argv, stderr=log, env=self.environment)
        until(lambda: b'"working"' in self.log.read_bytes() or self._gone())
        assert not self._gone(), self.log.read_text()


class AgentPlatform:
    """All of it; nothing runs yet but the stand-ins."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.stack = ExitStack()
        self.gitlab, self.chat = GitLabStub(), MattermostStub()
        self.alice = self.chat.person("alice")
        self.nats = nats_server(place, free_port())
        self.bridge = self._process("bridge", str(place / "bridge.toml"), port=free_port())
        self.agents: list[AgentProcess] = []

    def __enter__(self) -> Self:
        forge = self.stack.enter_context(served(self.gitlab))
        chat = self.stack.enter_context(served(self.chat.app()))
        secrets = {"nats-password": "hunter2", "forge-token": TOKEN, "chat-token": CHAT_TOKEN}
        for name, text in secrets.items():
            write(self.place / name, text)
        stream = (
            f'[nats]\nurl = "nats://127.0.0.1:{self.nats.port}"\nuser = "rave"\n'
            'password_file = "nats-password"\n'
        )
        (self.place / "agents").mkdir()
        self.settings(
            f'[forge.gitlab]\nurl = "{forge}"\nnamespace = "{NAMESPACE}"\n'
            f'token_file = "forge-token"\n{stream}'
        )
        write(
            self.place / "bridge.toml",
            f'store = "{self.place / "bridge.db"}"\nport = {self.bridge.port}\n'
            f'rooms = ["{self.chat.channel}"]\n[permissions]\nleads = {json.dumps(VERBS)}\n'
            f'[groups]\nleads = ["alice"]\n{stream}'
            f'[mattermost]\nurl = "{chat}"\ntoken_file = "chat-token"\n',
            0o644,
        )  # fmt: skip
        return self

    def settings(self, rest: str) -> None:
        """Write the agents' settings."""
        # Whoever is killed is missed soon; who works says so in time on a busy host, too.
        first = f'state = "{self.place / "agents"}"\nsilent_seconds = 3\n'
        write(self.place / "agent.toml", f"{first}{rest}[limits]\nattempts = 1000\n", 0o644)

    def __exit__(self, *_fault: object) -> None:
        for process in (*self.agents, self.bridge, self.nats):
            if process.process is not None and process.process.poll() is None:
                process.end()
        self.stack.close()

    def agent(self, kind: str, instance: str = "one") -> AgentProcess:
        """Return an agent, which is to be started."""
        settings = str(self.place / "agent.toml")
        shape = self._process("agent", settings, kind, instance, log=f"{kind}-{instance}")
        found = AgentProcess(shape.argv, 0, shape.log, **shape.environment)
        self.agents.append(found)
        return found

    def _process(self, module: str, *words: str, port: int = 0, log: str = "") -> Killable:
        run = ["-c", AS_IN_A_GUEST] if module == "agent" else ["-m"]
        argv = [sys.executable, *run, f"rave_platform.{module}", *words]
        place = self.place / f"{log or module}.log"
        return Killable(
            argv, port, place, CREDENTIALS_DIRECTORY=str(self.place), PYTHONPATH=str(SOURCE)
        )

    # --- the chat

    def say(self, text: str) -> str:
        return self.chat.say(self.alice, text)

    def answers(self, root: str) -> list[str]:
        """Return what was said in a thread, without its fence."""
        posts = sorted(self.chat.posts.values(), key=lambda post: int(post["create_at"]))
        return [
            post["message"].split("\n", 1)[1].rpartition("\n")[0]
            for post in posts if post["user_id"] == BOT and post["root_id"] == root
        ]  # fmt: skip

    def hear(self, root: str, *words: str) -> str:
        """Wait for something that is said in a thread, with all of these words; return it."""

        def found() -> list[str]:
            return [text for text in self.answers(root) if all(word in text for word in words)]

        until(found, pause=0.05)
        return found()[0]

    # --- the stream

    def ask(self, *wanted: AgentTask) -> None:
        """Ask for tasks, as the bridge does."""

        async def send() -> None:
            client = await self._client()
            for task in wanted:
                await client.jetstream().publish(
                    tasks.asked_subject(task), task.model_dump_json().encode(),
                    headers={"Nats-Msg-Id": str(task.task_id)},
                )  # fmt: skip
            await client.close()

        asyncio.run(send())

    def stream(self, subjects: str) -> list[dict[str, Any]]:
        """Return what the stream of tasks holds."""
        return asyncio.run(self._stream(subjects))

    async def _stream(self, subjects: str) -> list[dict[str, Any]]:
        client = await self._client()
        reader = await client.jetstream().pull_subscribe(
            subjects, config=ConsumerConfig(deliver_policy=DeliverPolicy.ALL), stream="RAVE_TASKS"
        )
        count = (await reader.consumer_info()).num_pending or 0
        found: list[dict[str, Any]] = []
        while len(found) < count:
            messages = await reader.fetch(min(100, count - len(found)), timeout=60)
            found += [json.loads(message.data) for message in messages]
        await client.close()
        return found

    async def _client(self) -> Client:
        return await nats.connect(
            f"nats://127.0.0.1:{self.nats.port}", user="rave", password="hunter2"
        )


def memory(process: Killable, field: str) -> float:
    """Return a figure of a process' memory, in MiB."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    (line,) = [line for line in status.splitlines() if line.startswith(f"{field}:")]
    return int(line.split()[1]) / 1024
