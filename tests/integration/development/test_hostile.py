"""What is hostile comes to a real development machine: sentences in its chat, and webhooks.

RAVE_DEVELOPMENT_MACHINE names a running machine of this home for it; else one is made.
"""

from __future__ import annotations

import json
import os
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest

from rave_guest import commanding
from rave_guest.wire.matrix import MatrixError
from tests.integration.development import ASKED_FOR
from tests.integration.development.guest import GROUP, USER, Guest, eventually, somebody
from tests.integration.development.people import origin

if TYPE_CHECKING:
    from rave_cli.machines.spec import Machine

pytestmark = [
    *ASKED_FOR,
    pytest.mark.timeout(7200),
]

HOSTILE = {
    "60 kB": ("!rave run backend-architect x " + "a" * 60_000, "Not understood"),
    "control characters": ("!rave run backend-architect x \x1b[31m\x00\x07boo", "Not understood"),
    "another direction": ("!rave status \u202edecorpa", "Not understood"),
    "markup": ("!rave <b>help</b> <script>alert(1)</script>", "Not understood"),
    "everybody": ("!rave help @room", "Not understood"),
    "a path": ("!rave run backend-architect ../../etc/passwd now", "Not understood"),
    "words of a shell": ("!rave status $(reboot)", "Not understood"),
    "nobody's task": ("!rave approve 00000000", "There is no task"),
    "a long verb": ("!rave " + "x" * 9_000, "Not understood"),
}


def test_hostile_sentences_get_one_answer_that_calls_nobody_and_shows_nothing(
    machine: Machine,
) -> None:
    with somebody(machine) as guest:
        for what, (text, begins) in HOSTILE.items():
            event = guest.say(text)
            eventually(partial(commanding.answers, guest.talk, event))
            (answer,) = commanding.answers(guest.talk, event)
            assert answer.startswith(begins), (what, answer)
            assert len(answer) <= 4000
            assert not set("\x1b\x00\x07\u202e") & set(answer), (what, answer)
            assert "@room" not in answer
        # What is marked up says what its text says, and nothing else.
        formatted = {
            "msgtype": "m.text", "body": "harmless", "format": "org.matrix.custom.html",
            "formatted_body": "!rave help",
        }  # fmt: skip
        room, client = guest.talk.command_room, guest.talk.one
        for number, content in enumerate(
            (formatted, {"msgtype": "m.notice", "body": "!rave help"}, {"msgtype": 7, "body": []})
        ):
            place = f"/rooms/{quote(room)}/send/m.room.message/odd{number}{os.urandom(4).hex()}"
            try:
                silent = str(client.ask("PUT", place, content)["event_id"])
            except MatrixError as error:
                # It is no message, and nobody hears it.
                if (error.status, number) != (400, 2):
                    raise
                continue
            commanding.answer(guest.talk, client, "!rave status")
            assert commanding.answers(guest.talk, silent) == []


def test_who_may_not_and_rooms_that_are_nobodys_are_not_obeyed(machine: Machine) -> None:
    with somebody(machine) as guest:
        client, talk = guest.talk.one, guest.talk
        # A room that it does not know: it does not come.
        other = client.create_room(f"@rave:{client.user.partition(':')[2]}")
        client.send(other, "!rave help")
        us = quote(f"@rave:{client.user.partition(':')[2]}", safe="")
        where = f"/rooms/{quote(other)}/state/m.room.member/{us}"
        eventually(lambda: client.ask("GET", where)["membership"] == "leave")
        client.ask("POST", f"/rooms/{quote(other)}/leave", {})
        # Who has left the group may no more.
        talk.accounts("groups", {"user": USER, "add": [], "remove": [GROUP]})
        denied = commanding.answer(talk, client, "!rave create project x y")
        assert denied.startswith("You may not command"), denied
        # Whose account is banned cannot even say it.
        talk.accounts("disable", {"user": USER})
        with pytest.raises(MatrixError, match="M_UNKNOWN_TOKEN"):
            client.send(talk.command_room, "!rave help")
        talk.rooms.clear()
        talk.one.token = ""


def test_hostile_webhooks_are_never_a_fault_of_ours(machine: Machine) -> None:
    guest = Guest(machine)
    good = json.dumps({"ref": "refs/heads/main", "nonce": os.urandom(8).hex()}).encode()
    sign, event = guest.signed, {"X_GitHub_Event": "push"}
    wrong = "sha256=" + "0" * 64
    deep = b'{"a":' * 50_000 + b"1" + b"}" * 50_000
    sent: dict[str, tuple[bytes, dict[str, str], set[int]]] = {
        "good": (good, sign(good), {202}),
        "again": (good, sign(good), {200}),
        "under another id": (good, {**sign(good), "X_GitHub_Delivery": "other"}, {200}),
        "unsigned": (good, event, {401}),
        "wrongly signed": (good, {**event, "X_Hub_Signature_256": wrong}, {401}),
        "signed with nonsense": (good, {**event, "X_Hub_Signature_256": "sha256=\xff"}, {401}),
        "another body": (good + b" ", sign(good), {401}),
        "no JSON": (b"\xff\x00", sign(b"\xff\x00"), {400}),
        "a list": (b"[]", sign(b"[]"), {400}),
        "deep": (deep, sign(deep), {400}),
        "nothing": (b"", sign(b""), {400}),
        "too large for us": (b"a" * (800 << 10), event, {401, 413}),
        "too large for nginx": (b"a" * (2 << 20), event, {413}),
    }
    for what, (body, headers, expected) in sent.items():
        try:
            status, answer = guest.hook(body, **headers)
        except (BrokenPipeError, ConnectionResetError):
            # It is refused before all of it has come.
            status, answer = 413, b""
        assert status in expected, (what, status, answer[:200])
    for path, method, expected in (
        ("/webhooks/nobody", "POST", {404}), ("/webhooks/", "POST", {404}),
        ("/webhooks/github", "GET", {403, 405}),
        ("/webhooks/../metrics", "POST", {400, 404, 405}),
        ("/webhooks/github%00", "POST", {400, 404}),
    ):  # fmt: skip
        status, _ = guest.request(origin(machine), method, path, b"{}")
        assert status in expected, (path, status)
