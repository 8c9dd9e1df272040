"""How the smoke suite hears the bridge's answers: by a request that the homeserver keeps until
there is something, so that asking takes nothing of what answers.
"""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import parse_qs, urlsplit

import pytest

from rave_guest import chat, commanding
from rave_guest.journey import Broken

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOM, US = "!room", "@rave:rave.localhost"


def says(key: str, text: str, sender: str = US) -> dict[str, Any]:
    content = {"rave.deed": key, "body": text, "m.relates_to": {"event_id": "$1"}}
    return {"type": "m.room.message", "sender": sender, "event_id": "$a", "content": content}


class Homeserver(BaseHTTPRequestHandler):
    """Tells what was said, one piece at each question, and notes what it was asked."""

    pieces: ClassVar[list[list[dict[str, Any]]]] = []
    asked: ClassVar[list[dict[str, list[str]]]] = []

    def do_GET(self) -> None:
        there = urlsplit(self.path)
        assert there.path == "/_matrix/client/v3/sync"
        self.asked.append(parse_qs(there.query))
        events = self.pieces.pop(0) if self.pieces else []
        news = {"rooms": {"join": {ROOM: {"timeline": {"events": events}}}}} if events else {}
        self.answer({"next_batch": f"s{len(self.asked)}", **news})

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.answer({"event_id": "$1"})

    def answer(self, document: dict[str, Any]) -> None:
        body = json.dumps(document).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def talking(*pieces: list[dict[str, Any]]) -> Iterator[chat.Chat]:
    """Have somebody in the room, who is told these pieces."""
    Homeserver.pieces, Homeserver.asked = list(pieces), []
    with HTTPServer(("127.0.0.1", 0), Homeserver) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()

        def connect(_site: str) -> HTTPConnection:
            return HTTPConnection("127.0.0.1", server.server_port, timeout=10)

        talk = chat.Chat(
            "https://m", "https://a", lambda *_: {}, provider="oidc-x", connect=connect
        )
        talk.command_room, talk.one.user = ROOM, "@alice:rave.localhost"
        try:
            yield talk
        finally:
            talk.one.close()
            server.shutdown()


def test_an_answer_is_heard_as_soon_as_the_homeserver_tells_it_and_nothing_is_asked_twice() -> None:
    other = [says("answer:$0", "of another"), says("answer:$1", "forged", "@eve:rave.localhost")]
    with talking([], other, [], [says("answer:$1", "You may command:")]) as talk:
        assert commanding.said(talk, talk.one, "!rave help") == ("$1", "You may command:")
    since = [one.get("since") for one in Homeserver.asked]
    assert since == [None, ["s1"], ["s2"], ["s3"]]
    assert {one["timeout"][0] for one in Homeserver.asked} == {str(commanding.KEPT)}


def test_what_others_do_not_say_is_not_asked_for() -> None:
    with talking() as talk:
        talk.one.news()
    wanted = json.loads(Homeserver.asked[0]["filter"][0])
    assert wanted["room"]["timeline"]["types"] == ["m.room.message"]
    assert wanted["presence"] == wanted["room"]["state"] == {"not_types": ["*"]}


def test_a_command_without_an_answer_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commanding, "LONGEST", 0.1)
    with talking() as talk, pytest.raises(Broken, match="has no answer after"):
        commanding.said(talk, talk.one, "!rave help")
