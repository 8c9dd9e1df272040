"""The chats before which a channel is tried: each world does what people do there."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, nullcontext
from typing import TYPE_CHECKING, Any, Protocol

import httpx
import uvicorn
from starlette.applications import Starlette

from rave_platform.adapters.chat import mattermost
from rave_platform.adapters.chat.matrix import MatrixChannel, MatrixSettings
from rave_platform.adapters.chat.mattermost import MattermostChannel, MattermostSettings
from tests.integration.platform.homeserver import US, at
from tests.integration.platform.mattermost import BOT, TOKEN, MattermostStub

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from rave_platform.application.chat.ports import ChatChannel
    from tests.integration.platform.homeserver import Chat, Person


class ChatWorld(Protocol):
    """A chat with a room, in which the bridge's account and alice are."""

    room: str

    def channel(self) -> ChatChannel: ...
    def say(self, text: str, thread: str = "") -> str: ...
    def noise(self) -> None:
        """Say what is no command: an edit, a program's notice, and something of our own."""

    def said(self) -> list[tuple[str, str]]:
        """Return what we said: the message that begins its thread, and the text that is seen."""


class MatrixWorld:
    """Synapse; the bridge does not run, its port is the channel's."""

    def __init__(self, chat: Chat, alice: Person, room: str) -> None:
        self.chat, self.alice, self.room = chat, alice, room

    def channel(self) -> MatrixChannel:
        token = (self.chat.place / "as-token").read_text()
        return MatrixChannel(
            MatrixSettings(
                self.chat.url, "rave", token,
                (self.chat.place / "hs-token").read_text(),
            )
        )  # fmt: skip

    def say(self, text: str, thread: str = "") -> str:
        relation: dict[str, Any] = (
            {"m.relates_to": {"rel_type": "m.thread", "event_id": thread}} if thread else {}
        )
        return self.alice.say(self.room, text, **relation)

    def noise(self) -> None:
        first = self.say("nothing")
        edit: dict[str, Any] = {
            "m.new_content": {"msgtype": "m.text", "body": "!rave help"},
            "m.relates_to": {"rel_type": "m.replace", "event_id": first},
        }
        self.alice.say(self.room, "* !rave help", **edit)
        self.alice.say(self.room, "!rave help", msgtype="m.notice")
        token = (self.chat.place / "as-token").read_text()
        httpx.put(
            f"{self.chat.url}/_matrix/client/v3{at(self.room)}/send/m.room.message/noise",
            json={"msgtype": "m.text", "body": "!rave help"},
            headers={"authorization": f"Bearer {token}"}, timeout=60,
        ).raise_for_status()  # fmt: skip

    def said(self) -> list[tuple[str, str]]:
        found = [
            event["content"] for event in self.alice.messages(self.room)
            if event["sender"] == US and "rave.deed" in event["content"]
        ]  # fmt: skip
        for content in found:
            assert "formatted_body" not in content
            assert (content["msgtype"], content["m.mentions"]) == ("m.notice", {})
        return [(content["m.relates_to"]["event_id"], content["body"]) for content in found]


class MattermostWorld:
    """The stub of a server."""

    def __init__(self) -> None:
        self.stub = MattermostStub()
        self.alice = self.stub.person("alice")
        self.room = self.stub.channel

    def channel(self) -> MattermostChannel:
        settings = MattermostSettings("http://mattermost", (self.room, "another"), TOKEN)
        return MattermostChannel(settings, httpx.ASGITransport(self.stub.app()))

    def say(self, text: str, thread: str = "") -> str:
        return self.stub.say(self.alice, text, thread)

    def noise(self) -> None:
        self.stub.edit(self.say("nothing"), "!rave help")
        self.stub.say(self.alice, "!rave help", props={"from_webhook": "true"})
        self.stub.say(self.alice, "!rave help", type="system_join_channel")
        self.stub.say(BOT, "!rave help")
        # Somebody has reacted to what was said long ago.
        self.stub.say(self.alice, "!rave help", create_at=1000)

    def said(self) -> list[tuple[str, str]]:
        found = [
            post for post in self.stub.posts.values()
            if post["user_id"] == BOT and mattermost.KEY in post["props"]
        ]  # fmt: skip
        return [(post["root_id"], _unfenced(post["message"])) for post in found]


def _unfenced(message: str) -> str:
    first, *lines, last = message.split("\n")
    assert first == last
    assert set(first) == {"`"}
    assert first not in "\n".join(lines)
    return "\n".join(lines)


@asynccontextmanager
async def listening(
    channel: ChatChannel, port: int, hear: Any, position: str = ""
) -> AsyncIterator[None]:
    """Have a channel listen meanwhile, and serve what it is told by."""
    server = uvicorn.Server(
        uvicorn.Config(
            Starlette(routes=channel.routes()), port=port, log_config=None, lifespan="off"
        )
    )
    # Signals are the test's.
    server.capture_signals = nullcontext  # type: ignore[method-assign, assignment]
    serving = asyncio.create_task(server.serve())
    reading = asyncio.create_task(channel.listen(hear, position))
    try:
        yield
    finally:
        reading.cancel()
        server.should_exit = True
        await asyncio.gather(serving, reading, return_exceptions=True)
        await channel.close()
