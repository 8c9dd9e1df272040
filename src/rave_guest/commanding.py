"""Somebody commands in chat: steps of the conversation (chat.py), for a machine with a chat bridge.

They talk to it in a room that it has for them, so that people find nothing of it in theirs.
"""

from __future__ import annotations

import time
from collections import namedtuple
from urllib.parse import quote

from rave_guest.journey import Broken, expect
from rave_guest.verdict import Verdict, passed
from rave_guest.wire.matrix import timeline

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from rave_guest.chat import Chat
    from rave_guest.wire.matrix import Matrix

# The account of the bridge, its room for this, and the group whose members may command in it
# (infra/debian/services/chat-bridge).
BRIDGE, ROOM, GROUP = "rave", "rave-smoke", "rave-smoke"
# Under which name an answer says what it answers (rave_platform/adapters/chat/matrix.py).
KEY = "rave.deed"
LONGEST = 60.0  # seconds until a command has its answer, a start of the bridge within it
POLL = 0.2  # seconds between two looks
KEPT = 10_000  # milliseconds for which the homeserver keeps a request that there is no news for
SETTLED = 2.0  # seconds after an answer in which a second one would come


def command(chat: Chat) -> Verdict:
    """Whoever is in the group is answered, each command once."""
    chat.accounts("groups", {"user": _name(chat.one), "add": [GROUP], "remove": []})
    enter(chat, chat.one, chat.two)
    seconds = []
    for text, begins in (
        ("!rave help", ""), ("!rave status", ""), ("!rave agents", ""), ("!RAVE Help run", ""),
    ):  # fmt: skip
        began = time.monotonic()
        heard = answer(chat, chat.one, text)
        seconds.append(time.monotonic() - began)
        expect(heard.startswith(begins) and "may not" not in heard, f"{text} is answered: {heard}")
    shown = ", ".join(f"{one:.2f}" for one in seconds)
    middle = sorted(seconds)[len(seconds) // 2]
    return passed(f"answered after {shown} s", seconds=round(middle, 3))


def enter(chat: Chat, *clients: Matrix) -> None:
    """Have people enter the room in which one commands."""
    server = chat.one.user.partition(":")[2]
    for client in clients:
        joined = client.ask("POST", f"/join/{quote(f'#{ROOM}:{server}', safe='')}", {})
        chat.command_room = str(joined["room_id"])
        # They hear from now on.
        client.news()
    chat.rooms.append(chat.command_room)


def unknown(chat: Chat) -> Verdict:
    """What is no command is answered with what was meant, and what it lacks."""
    for text, helps in (("!rave hlep", '"help"'), ("!rave run nobody x y", "backend-architect")):
        heard = answer(chat, chat.one, text)
        right = heard.startswith("Not understood") and helps in heard
        expect(right, f"{text} is answered: {heard}")
    return passed("the answer names what was meant")


def permission(chat: Chat) -> Verdict:
    """Who is in no group may command nothing, and neither may who is no longer in one."""
    denied = "You may not command"
    expect(answer(chat, chat.two, "!rave status").startswith(denied), "a stranger is obeyed")
    heard = answer(chat, chat.one, "!rave approve 00000000")
    expect(heard.startswith(denied), f"more than the group may is answered: {heard}")
    chat.accounts("groups", {"user": _name(chat.one), "add": [], "remove": [GROUP]})
    heard = answer(chat, chat.one, "!rave status")
    chat.accounts("groups", {"user": _name(chat.one), "add": [GROUP], "remove": []})
    expect(heard.startswith(denied), "who has left the group is obeyed")
    return passed("each is told which group may")


def killed(chat: Chat) -> Verdict:
    """A command at whose moment the bridge is killed is answered, once."""
    event = chat.one.send(_room(chat), "!rave help status")
    chat.kill_bridge()
    until = time.monotonic() + LONGEST
    while not answers(chat, event):
        expect(time.monotonic() < until, f"it has no answer after {LONGEST:g} s")
        time.sleep(POLL)
    time.sleep(SETTLED)
    found = answers(chat, event)
    expect(len(found) == 1, f"it is answered {len(found)} times")
    return passed("it is answered once, by the bridge that was started anew")


def answer(chat: Chat, client: Matrix, text: str) -> str:
    """Say something, and return what the bridge answers.

    Raises:
        Broken: nothing, for too long.
    """
    return said(chat, client, text)[1]


def said(chat: Chat, client: Matrix, text: str) -> tuple[str, str]:
    """Say something; return the id of that message, and what the bridge answers.

    Raises:
        Broken: nothing, for too long.
    """
    event = client.send(_room(chat), text)
    found = heard(chat, client, event)
    if found is None:
        raise Broken(f"{text} has no answer after {LONGEST:g} s")
    return event, found.text


def heard(chat: Chat, client: Matrix, event: str) -> Deed | None:
    """Return what the bridge answers to a message, as soon as it does; None if that is too late.

    Whoever looks again and again has the homeserver do other things than to answer.
    """
    us, wanted = _bridge(chat), f"answer:{event}"
    until = time.monotonic() + LONGEST
    while time.monotonic() < until:
        for said in timeline(client.news(KEPT), _room(chat)):
            if said["sender"] == us and (deed := _deed(said)).key == wanted:
                return deed
    return None


def answers(chat: Chat, event: str) -> list[str]:
    """Return what the bridge has said in answer to a message."""
    return [deed.text for deed in deeds(chat) if deed.key == f"answer:{event}"]


class Deed(namedtuple("Deed", ("key", "event", "thread", "text"))):
    """Something that the bridge has said: under which name, as which message, in which thread."""

    __slots__ = ()
    key: str
    event: str
    thread: str
    text: str


def deeds(chat: Chat, most: int = 50) -> list[Deed]:
    """Return what the bridge has said in the room where one commands, the newest first, among the
    last messages of whomever.
    """
    news = chat.one.ask("GET", f"/rooms/{quote(_room(chat))}/messages?dir=b&limit={most}")
    us = _bridge(chat)
    return [_deed(said) for said in news["chunk"] if said["sender"] == us]


def _bridge(chat: Chat) -> str:
    return f"@{BRIDGE}:{chat.one.user.partition(':')[2]}"


def _deed(said: Mapping[str, Any]) -> Deed:
    content = said["content"]
    thread = content.get("m.relates_to", {}).get("event_id", "")
    return Deed(content.get(KEY, ""), said["event_id"], thread, str(content.get("body", "")))


def _room(chat: Chat) -> str:
    expect(bool(chat.command_room), "nobody is in the room of the bridge")
    return chat.command_room


def _name(client: Matrix) -> str:
    return client.user.removeprefix("@").partition(":")[0]


STEPS: Mapping[str, Callable[[Chat], Verdict]] = {
    "command": command,
    "unknown": unknown,
    "permission": permission,
    "killed": killed,
}
