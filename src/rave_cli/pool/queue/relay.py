"""Files on their way between two hosts: in pieces, of which Redis holds a few for a moment.

Whoever receives says how many pieces there is room for, and whoever sends waits for that: so no
file lies in the server's memory, however large it is. Nothing is kept: if either side, or the
server, is gone, it is begun anew under another ticket.

What is sent for a job goes through a script that asks whose job it is: an agent that was given up
delivers nothing.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from rave_cli import shapes
from rave_cli.errors import ExitCode, RaveError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import redis

# Bytes of a piece, and how many of a parcel there are in the server at most.
PIECE = 256 << 10
WINDOW = 8

# Seconds to wait at a time, and after which the other side is gone.
LOOK = 1.0
SILENT = 60.0

# Seconds for which the server keeps what nobody fetches.
KEPT = int(2 * SILENT)


class RelayError(RaveError):
    """A parcel did not arrive: the other side is gone, or refuses it."""


@dataclass(frozen=True)
class Errand:
    """What an agent asks the owner of a job for: its input, or to take its artifacts."""

    what: Literal["input", "artifacts"]
    job: str
    attempt: int
    ticket: str


class Relay:
    """One host's end. Every call may raise `Fault`. Threads may share it."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client

    def _call(self, *words: str | bytes | int | float) -> Any:  # noqa: ANN401 - whatever Redis answers
        return self._client.execute_command(*words)  # type: ignore[no-untyped-call]

    def ask(self, origin: str, errand: Errand) -> None:
        """Ask the owner of a job for something."""
        self._put(f"rave:wanted:{origin}", json.dumps(shapes.plain(errand)).encode())

    def asked(self, origin: str, *, wait: float = LOOK) -> Errand | None:
        """Return what somebody asks an owner for, as soon as somebody does."""
        found = self._call("BLPOP", f"rave:wanted:{origin}", wait)
        if found is None:
            return None
        try:
            errand: Errand = shapes.read(Errand, json.loads(found[1]))
        except (ValueError, shapes.MisfitError):
            # Of another version: whoever asks hears nothing, and says so.
            return None
        return errand

    def send(
        self,
        ticket: str,
        data: Iterable[bytes],
        *,
        put: Callable[[str, bytes], None] | None = None,
        waits: Callable[[], None] = lambda: None,
    ) -> bytes:
        """Send a parcel; return what its receiver says once all has arrived.

        Args:
            ticket: the parcel's.
            data: its pieces.
            put: puts a piece under a key, instead of us.
            waits: called while nothing happens; ends it by raising.

        Raises:
            RelayError: it was refused, or its receiver is gone.
        """
        put = put or self._put
        place, room = _pieces(ticket), _room(ticket)
        for piece in data:
            self._await(room, b"+", waits)
            put(place, b"D" + piece)
        put(place, b"E")
        while (word := self._await(room, b"+=", waits))[:1] != b"=":
            pass
        return word[1:]

    def receive(
        self,
        ticket: str,
        write: Callable[[bytes], object],
        *,
        waits: Callable[[], None] = lambda: None,
    ) -> None:
        """Take a parcel in; its sender hears `receipt` or `refuse` afterwards.

        Raises:
            RelayError: its sender cannot send it, or is gone.
        """
        place, room = _pieces(ticket), _room(ticket)
        self._put(room, *[b"+"] * WINDOW)
        while (word := self._await(place, b"DE", waits))[:1] == b"D":
            write(word[1:])
            self._put(room, b"+")

    def receipt(self, ticket: str, said: bytes = b"") -> None:
        """Tell a sender that all has arrived."""
        self._put(_room(ticket), b"=" + said)

    def refuse(self, ticket: str, why: str) -> None:
        """Tell whoever is at the other end that it comes to nothing."""
        self._put(_pieces(ticket), b"F" + why.encode())
        self._put(_room(ticket), b"F" + why.encode())

    def _put(self, key: str, *data: bytes) -> None:
        pipeline = self._client.pipeline(transaction=True)
        pipeline.rpush(key, *data)
        pipeline.expire(key, KEPT)
        pipeline.execute()

    def _await(self, key: str, kinds: bytes, waits: Callable[[], None]) -> bytes:
        until = time.monotonic() + SILENT
        while time.monotonic() < until:
            waits()
            found = self._call("BLPOP", key, LOOK)
            if found is None:
                continue
            word = bytes(found[1]) or b"?"
            if word[:1] in kinds:
                return word
            said = word[1:].decode(errors="replace") if word[:1] == b"F" else "it makes no sense"
            raise _failed(f"the other host says: {said}")
        raise _failed(f"the other host has said nothing for {SILENT:g} s")


def _failed(why: str) -> RelayError:
    return RelayError(
        f"a file does not arrive: {why}",
        hint="rave pool status   (on the host that submitted the job)",
        exit_code=ExitCode.NOT_READY,
    )


def _pieces(ticket: str) -> str:
    return f"rave:pieces:{ticket}"


def _room(ticket: str) -> str:
    return f"rave:room:{ticket}"
