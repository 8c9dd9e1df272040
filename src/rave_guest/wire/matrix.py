"""What a Matrix client asks of its server, as far as the checks need it (Matrix specification 1.11,
"Client-Server API").
"""

from __future__ import annotations

import json
import os
import time
from urllib.parse import quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from http.client import HTTPConnection
    from typing import Any

API = "/_matrix/client/v3"
MOST = 4 << 20  # bytes of an answer
IDLE = 10.0  # seconds after which a server may close a connection that nothing was asked on
# What is said, and nothing else (Matrix specification 1.11, "Filtering").
NOTHING = {"not_types": ["*"]}
SAID = quote(
    json.dumps(
        {
            "presence": NOTHING,
            "account_data": NOTHING,
            "room": {
                "state": NOTHING,
                "ephemeral": NOTHING,
                "account_data": NOTHING,
                "timeline": {"types": ["m.room.message"], "limit": 50},
            },
        },
        separators=(",", ":"),
    )
)


class MatrixError(Exception):
    """The server refused; `status` and `code` are its own, such as 403 and M_FORBIDDEN."""

    def __init__(self, status: int, code: str) -> None:
        """Keep what it said."""
        super().__init__(f"{status} {code}")
        self.status, self.code = status, code


class Matrix:
    """A client, signed in once it has a token."""

    def __init__(
        self, host: str, connect: Callable[[], HTTPConnection], headers: Mapping[str, str] = {}
    ) -> None:
        """Begin as nobody.

        Args:
            host: name and port of the server, as people write them.
            connect: opens a connection to whatever serves it.
            headers: sent with every request.
        """
        self._connect = connect
        self._open: HTTPConnection | None = None
        self._used = 0.0
        self._headers = {**headers, "Host": host}
        self.token = ""
        self.user = ""
        # Up to where `news` has heard what is said.
        self._heard = ""

    def ask(self, method: str, path: str, document: Any = None) -> dict[str, Any]:
        """Carry out a request below the client API, and return what is answered.

        Raises:
            MatrixError: it was refused.
            ValueError: the answer is no JSON.
            OSError: nobody answers.
        """
        body = None if document is None else json.dumps(document).encode()
        found: dict[str, Any] = json.loads(self.exchange(method, API + path, body))
        return found

    def exchange(
        self, method: str, path: str, body: bytes | None = None, kind: str = "application/json"
    ) -> bytes:
        """Carry out any request, with a body of some media type; see `ask`."""
        headers = dict(self._headers)
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        if body is not None:
            headers["Content-Type"] = kind
        connection = self._connection()
        try:
            connection.request(method, path, body, headers)
            reply = connection.getresponse()
            found = reply.read(MOST)
        except BaseException:
            self.close()
            raise
        self._used = time.monotonic()
        if reply.status != 200:
            raise MatrixError(reply.status, code_of(found))
        return found

    def _connection(self) -> HTTPConnection:
        """Return the connection, which stays open, as clients have it."""
        if time.monotonic() - self._used > IDLE:
            self.close()
        if self._open is None:
            self._open = self._connect()
        return self._open

    def close(self) -> None:
        """Close the connection, if there is one."""
        if self._open is not None:
            self._open.close()
            self._open = None

    def sign_in(self, login_token: str) -> None:
        """Exchange what single sign-on has given for a session."""
        found = self.ask("POST", "/login", {"type": "m.login.token", "token": login_token})
        self.token, self.user = found["access_token"], found["user_id"]

    def create_room(self, *invited: str) -> str:
        """Make a room that those who are invited may join; returns its id."""
        wanted = {"preset": "private_chat", "invite": list(invited)}
        return str(self.ask("POST", "/createRoom", wanted)["room_id"])

    def send(self, room: str, text: str) -> str:
        """Send a message; returns its id."""
        place = f"/rooms/{quote(room)}/send/m.room.message/{os.urandom(8).hex()}"
        return str(self.ask("PUT", place, {"msgtype": "m.text", "body": text})["event_id"])

    def sync(self, since: str = "", wait_ms: int = 0) -> dict[str, Any]:
        """Return what is new, or after `wait_ms` milliseconds that nothing is."""
        more = f"&since={quote(since)}" if since else ""
        return self.ask("GET", f"/sync?timeout={wait_ms}{more}")

    def news(self, wait_ms: int = 0) -> dict[str, Any]:
        """Return what was said since it was asked last, or after `wait_ms` milliseconds nothing."""
        more = f"&since={quote(self._heard)}" if self._heard else ""
        news = self.ask("GET", f"/sync?filter={SAID}&timeout={wait_ms}{more}")
        self._heard = str(news["next_batch"])
        return news


def code_of(body: bytes) -> str:
    """Return the error's code in an answer, or that there is none."""
    try:
        return str(json.loads(body)["errcode"])
    except (ValueError, KeyError, TypeError):
        return "without a code"


def messages(news: Mapping[str, Any], room: str) -> list[str]:
    """Return the texts that were said in a room, of what `sync` returns."""
    return [
        event["content"].get("body", "")
        for event in timeline(news, room)
        if event["type"] == "m.room.message"
    ]


def timeline(news: Mapping[str, Any], room: str) -> list[dict[str, Any]]:
    """Return the events of a room, of what `sync` returns."""
    there = news.get("rooms", {}).get("join", {}).get(room, {})
    found: list[dict[str, Any]] = there.get("timeline", {}).get("events", [])
    return found
