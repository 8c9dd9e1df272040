"""Mattermost by its API v4: channels are read every second from where we have come to.

https://api.mattermost.com/ ; the account is a bot's, which somebody adds to the channels.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rave_platform.adapters.chat import http
from rave_platform.adapters.chat.http import ChatHttp
from rave_platform.application.chat.ports import ChatRefusedError, ChatUnavailableError
from rave_platform.application.ports import StoreUnavailableError
from rave_platform.domain.chat.characters import storable
from rave_platform.domain.chat.conversation import DeedKind, HeardKind, HeardMessage

if TYPE_CHECKING:
    from collections.abc import Mapping
    from collections.abc import Set as AbstractSet

    import httpx

    from rave_platform.application.chat.ports import Hear
    from rave_platform.domain.chat.conversation import ChatDeed

API = ("api", "v4")
# Seconds between two readings, and by which each goes back behind the last: a post is given its
# time before it can be read. What comes twice is known by its id.
EVERY = 1.0
OVERLAP = 10.0

# Under which name a post carries the key of its deed.
KEY = "rave_deed"

FENCE = re.compile(r"`+")


@dataclass(frozen=True)
class MattermostSettings:
    """Where the server is, how we prove to be the bot, and the channels that are read."""

    url: str
    channels: tuple[str, ...]
    token: str = field(repr=False)


class MattermostChannel:
    """A ChatChannel."""

    def __init__(
        self, settings: MattermostSettings, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        self._settings = settings
        self._http = ChatHttp(settings.url, settings.token, transport)
        self._us = ""
        self._seen: dict[str, set[str]] = {}

    @property
    def connected(self) -> bool:
        """Return whether the server answered last."""
        return self._http.connected

    def routes(self) -> list[Any]:
        """Return nothing: it is we who ask."""
        return []

    @property
    def rooms(self) -> AbstractSet[str]:
        """Return none: its channels are made by people."""
        return frozenset()

    async def close(self) -> None:
        """Close its connections."""
        await self._http.close()

    async def listen(self, hear: Hear, position: str) -> None:
        """Read the channels on from a position, until cancelled."""
        read: dict[str, int] = json.loads(position) if position else {}
        while True:
            pause = EVERY
            for channel in self._settings.channels:
                try:
                    read = await self._read(channel, read, hear)
                except (ChatUnavailableError, StoreUnavailableError) as fault:
                    pause = max(EVERY, fault.retry_after)
                except ChatRefusedError:
                    # A channel from which we were removed; the others go on.
                    continue
            await asyncio.sleep(pause)

    async def _read(self, channel: str, read: dict[str, int], hear: Hear) -> dict[str, int]:
        """Read what is new in one channel; return up to where each was read then."""
        us, now = await self._me(), int(time.time() * 1000)
        since = read.get(channel, now)
        where = http.path(*API, "channels", channel, "posts")
        found = await self._http.ask("GET", where, params={"since": since})
        posts = [post for post in found.get("posts", {}).values() if isinstance(post, dict)]
        posts.sort(key=lambda post: (int(post.get("create_at", 0)), str(post.get("id"))))
        seen = self._seen.get(channel, set())
        # A reaction brings an old post again.
        new = [
            post for post in posts
            if post.get("id") not in seen and int(post["create_at"]) > since and _is_said(post, us)
        ]  # fmt: skip
        said = [await self._heard(post, channel) for post in new]
        latest = max((int(post.get("update_at", 0)) for post in posts), default=0)
        after = {**read, channel: max(since, latest - int(OVERLAP * 1000))}
        if said or after != read:
            await hear(said, json.dumps(after, sort_keys=True))
        self._seen[channel] = {str(post.get("id")) for post in posts}
        return after

    async def _heard(self, post: Mapping[str, Any], channel: str) -> HeardMessage:
        sender = str(post["user_id"])
        return HeardMessage(
            str(post["id"]), HeardKind.MESSAGE, channel, sender, await self._name(sender),
            str(post.get("root_id") or ""), storable(str(post["message"])),
            int(post["create_at"]) / 1000,
        )  # fmt: skip

    async def act(self, deed: ChatDeed) -> None:
        """Do something; who brings a bot into a channel, or takes it away, is a person.

        Raises:
            ChatUnavailableError: if it is not known to be done.
            ChatRefusedError: if it will never be.
        """
        if deed.kind is not DeedKind.SAY:
            return
        name = hashlib.sha256(deed.key.encode()).hexdigest()[:32]
        post = {
            "channel_id": deed.room, "root_id": deed.thread, "message": fenced(deed.text),
            "props": {KEY: deed.key},
            # For a while the server knows a post again by it.
            "pending_post_id": f"{await self._me()}:{name}",
        }  # fmt: skip
        await self._http.ask("POST", http.path(*API, "posts"), post)

    async def acted(self, deed: ChatDeed) -> bool:
        """Return whether something was said already: its thread is looked through.

        Raises:
            ChatUnavailableError: if the server cannot be asked.
        """
        us = await self._me()
        try:
            found = await self._http.ask("GET", http.path(*API, "posts", deed.thread, "thread"))
        except ChatRefusedError:
            return False
        return any(
            post.get("user_id") == us and (post.get("props") or {}).get(KEY) == deed.key
            for post in found.get("posts", {}).values()
        )

    async def _me(self) -> str:
        if not self._us:
            self._us = await self._id()
        return self._us

    async def _id(self) -> str:
        try:
            return str((await self._http.ask("GET", http.path(*API, "users", "me")))["id"])
        except ChatRefusedError as fault:
            raise ChatUnavailableError(f"the chat does not know us: {fault}") from fault

    async def _name(self, user: str) -> str:
        """Return the name of an account; nothing for a bot's, or one that is closed."""
        found = await self._http.ask("GET", http.path(*API, "users", user))
        return "" if found.get("is_bot") or found.get("delete_at") else str(found["username"])


def fenced(text: str) -> str:
    """Return text as a block in which the server reads no markup and no mention."""
    longest = max((len(found) for found in FENCE.findall(text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}\n{text}\n{fence}"


def _is_said(post: Mapping[str, Any], us: str) -> bool:
    """Return whether a post is a person's message, and as it was when it was written."""
    props = post.get("props") or {}
    return (
        isinstance(post.get("message"), str)
        and post.get("user_id") != us
        and not post.get("type")
        and not post.get("edit_at")
        and not post.get("delete_at")
        and not any(props.get(name) for name in ("from_bot", "from_webhook"))
    )
