"""The NATS client protocol with JetStream's JSON API (docs.nats.io/reference)."""

from __future__ import annotations

import json
import os
import socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from types import TracebackType
    from typing import Any, BinaryIO

SNAPSHOT_PIECE = 128 << 10  # bytes


class NatsError(Exception):
    """The server's `-ERR`, or an error of the JetStream API."""


def read(stream: BinaryIO) -> tuple[str, str, bytes]:
    """Read one protocol line: the verb in capitals, its arguments, and a MSG's payload.

    Raises:
        ValueError: if the connection ends within it.
    """
    line = stream.readline()
    if not line.endswith(b"\n"):
        raise ValueError("the connection broke off")
    verb, _, rest = line.strip().decode(errors="replace").partition(" ")
    if verb.upper() not in {"MSG", "HMSG"}:
        return verb.upper(), rest, b""
    size = int(rest.split()[-1])
    payload = stream.read(size + 2)
    if len(payload) != size + 2:
        raise ValueError("the connection broke off")
    return verb.upper(), rest, payload[:-2]


class Nats:
    """A connection to the NATS server of this machine; a context manager.

    Raises:
        OSError: no connection, or no answer in time.
        NatsError: the server refuses the login.
        ValueError: what answers is not NATS.
    """

    def __init__(
        self, timeout: float, *, user: str | None, password: str | None, port: int = 4222
    ) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout)
        self._stream = self._socket.makefile("rb")
        self._inbox = f"_INBOX.{os.urandom(8).hex()}"
        self._early: list[tuple[list[str], bytes]] = []
        try:
            self._log_in(user, password)
        except BaseException:
            self.close()
            raise

    def _log_in(self, user: str | None, password: str | None) -> None:
        verb, rest, _ = read(self._stream)
        if verb != "INFO":
            raise ValueError("what answers is not NATS")
        self.info: dict[str, Any] = json.loads(rest)
        login = {"verbose": False, "pedantic": False, "lang": "rave", "version": "1"}
        if user is not None:
            login |= {"user": user, "pass": password}
        self._send(f"CONNECT {json.dumps(login)}\r\nPING\r\n")
        self._wait("PONG")

    def __enter__(self) -> Nats:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the connection."""
        self._stream.close()
        self._socket.close()

    def _send(self, text: str) -> None:
        self._socket.sendall(text.encode())

    def _message(self, subscription: str) -> tuple[list[str], bytes]:
        """Return the arguments and the payload of the next message of a subscription; those of
        another are kept for whoever asks for them: the server orders them among themselves alone.
        """
        for number, (words, payload) in enumerate(self._early):
            if words[1] == subscription:
                del self._early[number]
                return words, payload
        while True:
            words, payload = self._receive("MSG")
            if words[1] == subscription:
                return words, payload
            self._early.append((words, payload))

    def _wait(self, wanted: str) -> bytes:
        return self._receive(wanted)[1]

    def _receive(self, wanted: str) -> tuple[list[str], bytes]:
        """Return the arguments and the payload of the next line of a kind."""
        while True:
            verb, rest, payload = read(self._stream)
            if verb == wanted:
                return rest.split(), payload
            if verb == "-ERR":
                raise NatsError(rest.strip("'"))
            if verb == "PING":
                self._send("PONG\r\n")

    def request(self, subject: str, body: bytes = b"") -> bytes:
        """Publish with a reply subject and return the first reply's payload."""
        self._send(f"SUB {self._inbox} 1\r\nUNSUB 1 1\r\n")
        self._socket.sendall(
            f"PUB {subject} {self._inbox} {len(body)}\r\n".encode() + body + b"\r\n"
        )
        return self._message("1")[1]

    def jetstream(self, call: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """Call the JetStream API, for instance `STREAM.INFO.NAME`.

        Raises:
            NatsError: with JetStream's own description if it answers with an error.
        """
        reply = self.request(f"$JS.API.{call}", json.dumps(body or {}).encode())
        answer: dict[str, Any] = json.loads(reply)
        if "error" in answer:
            raise NatsError(str(answer["error"].get("description", answer["error"])))
        return answer

    def streams(self) -> list[str]:
        """Return the names of all streams."""
        names: list[str] = []
        while True:
            page = self.jetstream("STREAM.NAMES", {"offset": len(names)})
            names += page.get("streams") or []
            if not page.get("streams") or len(names) >= page["total"]:
                return names

    def snapshot(self, stream: str) -> Iterator[bytes]:
        """Yield a line of JSON with a stream's configuration and state, then what JetStream keeps
        of it, consumers included, as `restore` takes it.

        Raises:
            NatsError: JetStream refuses, or stops half way.
        """
        place = f"{self._inbox}.{os.urandom(4).hex()}"
        self._send(f"SUB {place} 2\r\n")
        wanted = {"deliver_subject": place, "chunk_size": SNAPSHOT_PIECE, "no_consumers": False}
        head = self.jetstream(f"STREAM.SNAPSHOT.{stream}", wanted)
        yield json.dumps({"config": head["config"], "state": head["state"]}).encode() + b"\n"
        while True:
            words, payload = self._message("2")
            if not payload:
                break
            yield payload
            if len(words) == 4:
                # It sends so much and no more until it hears that this came.
                self._send(f"PUB {words[2]} 0\r\n\r\n")
        self._send("UNSUB 2\r\n")

    def restore(self, stream: str, head: dict[str, Any], pieces: Iterable[bytes]) -> None:
        """Make a stream of what `snapshot` gave.

        Raises:
            NatsError: JetStream refuses.
        """
        wanted = {"config": head["config"], "state": head["state"]}
        place = self.jetstream(f"STREAM.RESTORE.{stream}", wanted)["deliver_subject"]
        for piece in pieces:
            _demand(self.request(place, piece))
        _demand(self.request(place))


def _demand(reply: bytes) -> None:
    answer = json.loads(reply) if reply.startswith(b"{") else {}
    if "error" in answer:
        raise NatsError(str(answer["error"].get("description", answer["error"])))
