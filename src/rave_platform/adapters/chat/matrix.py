"""Matrix as an application service: the homeserver brings events until we have taken them.

It is the homeserver that remembers up to where we have read, there is no sign-in whose token could
run out, and our account is nobody else's (https://spec.matrix.org/v1.11/application-service-api/).

What it does not do for an application service (Synapse 1.163) is to know a message again by its
transaction id once it was restarted: hence `acted`. And what is said while it comes to the end of
bringing what had waited it keeps until we are away once more (synapse/appservice/scheduler.py: the
message is to wait, for the state is still "down", and who brings what waits has just gone): hence
we also look through our rooms now and then.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import logging
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from starlette.responses import Response
from starlette.routing import Route

from rave_platform.adapters.chat import http, matrix_events
from rave_platform.adapters.chat.http import ChatHttp
from rave_platform.adapters.chat.matrix_events import MatrixAccount
from rave_platform.application.chat.ports import ChatRefusedError, ChatUnavailableError
from rave_platform.application.ports import StoreUnavailableError
from rave_platform.domain.chat.conversation import DeedKind

if TYPE_CHECKING:
    from collections.abc import Sequence
    from collections.abc import Set as AbstractSet

    import httpx
    from starlette.requests import Request

    from rave_platform.application.chat.ports import Hear
    from rave_platform.domain.chat.conversation import ChatDeed, HeardMessage

LOG = logging.getLogger(__name__)

CLIENT = ("_matrix", "client")
# Bytes of what is brought at once: a hundred events of 64 KiB, and what stands around them.
LARGEST = 16 * 1024 * 1024
# Events that are looked through at a time, and that are kept in mind.
PAGE = 100
MOST_REMEMBERED = 2000
# Seconds between two questions whether the homeserver reaches us, and until the next after one that
# failed: each also ends its waiting, which grows to 512 s while we are away.
PINGED = 30.0
AGAIN = 1.0
# Seconds for which a room is looked back: what is older is not obeyed (conversation.STALE).
LOOKED_BACK = 3600.0

# What our own rooms are about.
TOPIC = "Commands for agents: !rave help"

# Under which name a message carries the key of its deed.
KEY = "rave.deed"


@dataclass(frozen=True)
class MatrixSettings:
    """Where the homeserver is, and how each of us proves to be it."""

    url: str
    service: str  # the id in the registration
    as_token: str = field(repr=False)  # ours
    hs_token: str = field(repr=False)  # the homeserver's
    # The aliases, without their server, of rooms that we make.
    own_rooms: tuple[str, ...] = ()


class MatrixChannel:
    """A ChatChannel."""

    def __init__(
        self, settings: MatrixSettings, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        self._settings = settings
        self._http = ChatHttp(settings.url, settings.as_token, transport)
        self._hear: Hear | None = None
        # Who we are, which the homeserver says, and the rooms that are ours; None until it has.
        self._us: MatrixAccount | None = None
        self._introducing = asyncio.Lock()
        # What of it was answered already.
        self._known: MatrixAccount | None = None
        self._registered = False
        self._own: dict[str, str] = {}
        self._rooms = None if settings.own_rooms else frozenset[str]()
        self._brought: dict[str, None] = {}
        # Up to where each room was looked through: the time before the last, and the last.
        self._looked: dict[str, tuple[str, str]] = {}

    @property
    def connected(self) -> bool:
        """Return whether the homeserver answered last."""
        return self._http.connected

    @property
    def rooms(self) -> AbstractSet[str] | None:
        """Return the rooms that are ours; None until the homeserver has said which."""
        return self._rooms

    async def close(self) -> None:
        """Close its connections."""
        await self._http.close()

    async def listen(self, hear: Hear, position: str) -> None:
        """Take in what the homeserver brings, until cancelled; it knows the position itself."""
        self._hear = hear
        reached = True
        try:
            while True:
                try:
                    us = await self._introduce()
                    await self._ping()
                    await self._look_back(hear, us)
                except (ChatUnavailableError, ChatRefusedError) as fault:
                    if reached:
                        LOG.warning("the homeserver does not reach us", extra={"why": str(fault)})
                    reached = False
                else:
                    reached = True
                await asyncio.sleep(PINGED if reached else AGAIN)
        finally:
            self._hear = None

    async def act(self, deed: ChatDeed) -> None:
        """Do something.

        Raises:
            ChatUnavailableError: if it is not known to be done.
            ChatRefusedError: if it will never be.
        """
        match deed.kind:
            case DeedKind.SAY:
                name = hashlib.sha256(deed.key.encode()).hexdigest()[:32]
                where = _room(deed, "send", "m.room.message", name)
                await self._http.ask("PUT", where, _content(deed))
            case DeedKind.JOIN:
                await self._http.ask("POST", _room(deed, "join"), {})
            case DeedKind.LEAVE:
                # Refused where we are not, or no longer.
                with suppress(ChatRefusedError):
                    await self._http.ask("POST", _room(deed, "leave"), {})

    async def acted(self, deed: ChatDeed) -> bool:
        """Return whether something was said already: its thread is looked through.

        Raises:
            ChatUnavailableError: if the homeserver cannot be asked.
        """
        where = http.path(*CLIENT, "v1", "rooms", deed.room, "relations", deed.thread, "m.thread")
        params: dict[str, str | int] = {"dir": "b", "limit": PAGE}
        us = await self._introduce()
        while True:
            try:
                found = await self._http.ask("GET", where, params=params)
            except ChatRefusedError:
                return False
            if any(_is(event, deed, us.user) for event in found["chunk"]):
                return True
            if not found.get("next_batch"):
                return False
            params["from"] = str(found["next_batch"])

    async def _introduce(self) -> MatrixAccount:
        """See to it that our account and our rooms are there; return who we are."""
        # Several want it when we start. All would ask a slow homeserver for all of it, and it would
        # answer none of them in time.
        async with self._introducing:
            if self._us is None:
                self._us = await self._introduced()
            return self._us

    async def _introduced(self) -> MatrixAccount:
        # The registration says who we are: its homeserver knows it before there is an account.
        if self._known is None:
            known = await self._http.ask("GET", http.path(*CLIENT, "v3", "account", "whoami"))
            self._known = MatrixAccount.of(str(known.get("user_id", "")))
        us = self._known
        if not self._registered:
            body = {
                "type": "m.login.application_service",
                "username": us.localpart,
                "inhibit_login": True,
            }
            await self._unless("M_USER_IN_USE", "POST", http.path(*CLIENT, "v3", "register"), body)
            self._registered = True
        for name in self._settings.own_rooms:
            if name not in self._own:
                self._own[name] = await self._own_room(us, name)
        self._rooms = frozenset(self._own.values())
        return us

    async def _own_room(self, us: MatrixAccount, name: str) -> str:
        """Return the id of a room of ours, made if it is not there, which every account may enter.

        Only who made such a room (preset public_chat) may have it encrypted.
        """
        where = http.path(*CLIENT, "v3", "directory", "room", f"#{name}:{us.server}")
        body = {
            "room_alias_name": name, "name": name, "topic": TOPIC,
            "preset": "public_chat", "visibility": "public",
        }  # fmt: skip
        create = http.path(*CLIENT, "v3", "createRoom")
        found = await self._unless("M_NOT_FOUND", "GET", where)
        if found is None:
            found = await self._unless("M_ROOM_IN_USE", "POST", create, body)
        if found is None:
            found = await self._http.ask("GET", where)
        return str(found["room_id"])

    async def _unless(
        self, code: str, method: str, path: str, body: object = None
    ) -> dict[str, Any] | None:
        """Return an answer; None where the homeserver refuses with this word for it."""
        try:
            return await self._http.ask(method, path, body)
        except ChatRefusedError as fault:
            if fault.code != code:
                raise
            return None

    async def _ping(self) -> None:
        """Have the homeserver ask us something, and bring what waits."""
        where = http.path(*CLIENT, "v1", "appservice", self._settings.service, "ping")
        await self._http.ask("POST", where, {"transaction_id": str(time.monotonic_ns())})

    async def _look_back(self, hear: Hear, us: MatrixAccount) -> None:
        """Hear what was said in our rooms and not brought; what was brought is known by its id.

        Each time from the look before the last on: a message has its place in a room from when the
        homeserver began to take it, and may be written after one that has a later place.
        """
        for room in (await self._http.ask("GET", http.path(*CLIENT, "v3", "joined_rooms"))).get(
            "joined_rooms", ()
        ):
            where = http.path(*CLIENT, "v3", "rooms", room, "messages")
            before, last = self._looked.get(room, ("", ""))
            params: dict[str, str | int] = {"dir": "b", "limit": PAGE}
            if before:
                params["to"] = before
            try:
                found = await self._http.ask("GET", where, params=params)
            except ChatRefusedError:
                # We are no longer there.
                self._looked.pop(room, None)
                continue
            now = time.time()
            events = [
                {**event, "room_id": room}
                for event in reversed(found.get("chunk", ()))
                if isinstance(event, dict)
            ]
            said = [known for event in events if (known := matrix_events.heard(event, us, now))]
            missing = [
                known
                for known in said
                if known.at > now - LOOKED_BACK and known.event_id not in self._brought
            ]
            # Where it cannot be stored it is looked for again.
            with suppress(StoreUnavailableError):
                if missing:
                    await hear(missing, "")
                    self._remember(missing)
                self._looked[room] = (last, str(found.get("start", "")))

    def _remember(self, heard: Sequence[HeardMessage]) -> None:
        """Keep in mind what the store has, so that it is not given it every time."""
        self._brought.update(dict.fromkeys(message.event_id for message in heard))
        for event_id in list(self._brought)[:-MOST_REMEMBERED]:
            del self._brought[event_id]

    # --- what the homeserver asks of us

    def routes(self) -> list[Route]:
        """Return where it brings events."""
        app = "/_matrix/app/v1"
        return [
            Route(f"{app}/transactions/{{name}}", self._transaction, methods=["PUT"]),
            Route(f"{app}/ping", self._pinged, methods=["POST"]),
            Route(f"{app}/users/{{user}}", self._nobody, methods=["GET"]),
            Route(f"{app}/rooms/{{alias}}", self._nobody, methods=["GET"]),
        ]

    async def _transaction(self, request: Request) -> Response:
        if not self._is_homeserver(request):
            return _refusal(403, "M_FORBIDDEN")
        body = b""
        async for part in request.stream():
            body += part
            if len(body) > LARGEST:
                return _refusal(413, "M_TOO_LARGE")
        try:
            events = list(json.loads(body)["events"])
        except (ValueError, TypeError, KeyError, RecursionError):
            return _refusal(400, "M_NOT_JSON")
        del body
        us, now = self._us, time.time()
        # It brings it again, once we know who we are and which room is ours.
        if self._hear is None or us is None:
            return _refusal(503, "M_UNKNOWN")
        found = [heard for event in events if (heard := matrix_events.heard(event, us, now))]
        try:
            await self._hear(found, "")
            self._remember(found)
        except StoreUnavailableError:
            return _refusal(503, "M_UNKNOWN")
        return _json(200, {})

    async def _pinged(self, request: Request) -> Response:
        return _json(200, {}) if self._is_homeserver(request) else _refusal(403, "M_FORBIDDEN")

    async def _nobody(self, request: Request) -> Response:
        known = self._is_homeserver(request)
        return _refusal(404, "M_NOT_FOUND") if known else _refusal(403, "M_FORBIDDEN")

    def _is_homeserver(self, request: Request) -> bool:
        said = request.headers.get("authorization", "").encode()
        return hmac.compare_digest(said, f"Bearer {self._settings.hs_token}".encode())


def _room(deed: ChatDeed, *parts: str) -> str:
    return http.path(*CLIENT, "v3", "rooms", deed.room, *parts)


def _content(deed: ChatDeed) -> dict[str, Any]:
    """Return what is said: text without any markup, which mentions nobody."""
    thread: dict[str, Any] = {"rel_type": "m.thread", "event_id": deed.thread}
    if deed.to:
        thread |= {"is_falling_back": True, "m.in_reply_to": {"event_id": deed.to}}
    return {
        "msgtype": "m.notice", "body": deed.text, "m.mentions": {}, KEY: deed.key,
        "m.relates_to": thread,
    }  # fmt: skip


def _is(event: dict[str, Any], deed: ChatDeed, us: str) -> bool:
    return event.get("sender") == us and event.get("content", {}).get(KEY) == deed.key


def _refusal(status: int, code: str) -> Response:
    return _json(status, {"errcode": code, "error": code})


def _json(status: int, document: dict[str, str]) -> Response:
    return Response(json.dumps(document), status, media_type="application/json")
