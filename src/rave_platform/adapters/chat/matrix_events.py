"""Matrix' events as what was heard (https://spec.matrix.org/v1.11/client-server-api/)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rave_platform.domain.chat.characters import storable
from rave_platform.domain.chat.conversation import HeardKind, HeardMessage

# Characters of an id of Matrix.
LONGEST_ID = 255
# Seconds since 1970 that a clock may say: what is beyond is none.
LATEST = 32503680000.0  # the year 3000


@dataclass(frozen=True)
class MatrixAccount:
    """Who we are: `@localpart:server`."""

    localpart: str
    server: str

    @classmethod
    def of(cls, user: str) -> MatrixAccount:
        """Return whose id that is."""
        localpart, _, server = user.removeprefix("@").partition(":")
        return cls(localpart, server)

    @property
    def user(self) -> str:
        """Return the id of the user."""
        return f"@{self.localpart}:{self.server}"

    def account(self, user: str) -> str:
        """Return the name of an account of our server; nothing for one of another."""
        who = MatrixAccount.of(user)
        return who.localpart if who.server == self.server else ""


def heard(event: object, us: MatrixAccount, now: float) -> HeardMessage | None:
    """Return what an event says to us; nothing where it says nothing, or we said it."""
    if not isinstance(event, Mapping):
        return None
    content = event.get("content")
    ids = [event.get(name) for name in ("event_id", "room_id", "sender")]
    if not isinstance(content, Mapping) or not all(map(_is_id, ids)) or ids[2] == us.user:
        return None
    kind = _kind(event, content, us)
    if kind is None:
        return None
    event_id, room, sender = (storable(str(found)) for found in ids)
    return HeardMessage(
        event_id, kind, room, sender, us.account(sender), _thread(content),
        _text(content) if kind is HeardKind.MESSAGE else "", _at(event, now),
    )  # fmt: skip


def _is_id(found: object) -> bool:
    return isinstance(found, str) and 0 < len(found) <= LONGEST_ID


def _kind(
    event: Mapping[str, Any], content: Mapping[str, Any], us: MatrixAccount
) -> HeardKind | None:
    match event.get("type"):
        case "m.room.member" if content.get("membership") == "invite":
            return HeardKind.INVITATION if event.get("state_key") == us.user else None
        case "m.room.encrypted" if "state_key" not in event:
            return HeardKind.UNREADABLE
        # Notices are what programs say; an edit is no new message.
        case "m.room.message" if content.get("msgtype") == "m.text" and not _edits(content):
            return HeardKind.MESSAGE if isinstance(content.get("body"), str) else None
    return None


def _relation(content: Mapping[str, Any]) -> Mapping[str, Any]:
    found = content.get("m.relates_to")
    return found if isinstance(found, Mapping) else {}


def _edits(content: Mapping[str, Any]) -> bool:
    return "m.new_content" in content or _relation(content).get("rel_type") == "m.replace"


def _thread(content: Mapping[str, Any]) -> str:
    relation = _relation(content)
    root = relation.get("event_id") if relation.get("rel_type") == "m.thread" else None
    return storable(str(root)) if _is_id(root) else ""


def _text(content: Mapping[str, Any]) -> str:
    text = storable(str(content["body"]))
    if "m.in_reply_to" in _relation(content) and text.startswith("> "):
        # Older clients put before a reply what it replies to.
        quoted, _, said = text.partition("\n\n")
        if all(line.startswith(">") for line in quoted.split("\n")):
            return said
    return text


def _at(event: Mapping[str, Any], now: float) -> float:
    at = event.get("origin_server_ts")
    known = isinstance(at, int) and 0 <= at < LATEST * 1000
    return at / 1000 if known and isinstance(at, int) else now
