"""Asks the host's pool over the virtio-serial port org.rave.pool: lines of JSON, a question at a
time (rave_cli/pool/guests/asked.py has them all).

The port knows no connections. Whoever asks begins with a newline, for the one before may have left
half a line, and reads past what does not carry its own id. One program has the port at a time, for
the length of one question: the others wait. A question whose answer was lost is asked again; a job
comes of it once, for it has a key.
"""

from __future__ import annotations

import errno
import os
import select
import time

from rave_guest import report

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

PORT = "org.rave.pool"
VERSION = 1
LONGEST = 512 << 10  # bytes of an answer
PIECE = 48 << 10  # bytes of an archive in one question
PATIENCE = 30.0  # seconds for an answer, the time that others have the port included
AGAIN = 10.0  # seconds after which a question is asked again
PAUSE = 0.05  # seconds between two tries to have the port


class NoPool(Exception):  # noqa: N818 - it reads as what happened
    """There is no pool to ask."""


class NotNow(Exception):  # noqa: N818
    """The pool does not do that now; it may later."""


class PoolRefused(Exception):  # noqa: N818
    """The pool does not do that."""


class PoolPort:
    """Whom to ask. Holds nothing between two questions."""

    def __init__(self, device: str | None = None, *, patience: float = PATIENCE) -> None:
        """Look for the port, unless its device is given."""
        self.device = device or report.port(report.PORTS, PORT)
        self.patience = patience

    def ask(self, ask: str, **members: Any) -> dict[str, Any]:
        """Ask, and return the answer.

        Raises:
            NoPool: there is no port, or nobody at its other end, or no answer.
            NotNow, PoolRefused: the pool says so.
        """
        import json

        if self.device is None:
            raise NoPool("this machine has no way to a pool: it was started by an older rave")
        name = os.urandom(12).hex()
        document = {"v": VERSION, "id": name, "ask": ask, **members}
        question = b"\n" + json.dumps(document, separators=(",", ":")).encode() + b"\n"
        until = time.monotonic() + self.patience
        fd = _opened(self.device, until)
        try:
            answer = _asked(fd, question, name, until)
        finally:
            os.close(fd)
        if answer.get("ok"):
            found: dict[str, Any] = answer["answer"]
            return found
        kind = NotNow if answer.get("error") == "later" else PoolRefused
        raise kind(str(answer.get("why", "")))

    def give(self, stream: Any) -> dict[str, Any]:
        """Give an archive, from a file that is read to its end; return what names it.

        Raises:
            as `ask`.
        """
        import hashlib
        from binascii import b2a_base64

        digest, at = hashlib.sha256(), 0
        while data := stream.read(PIECE):
            self.ask("give", at=at, data=b2a_base64(data, newline=False).decode())
            digest.update(data)
            at += len(data)
        return {"sha256": digest.hexdigest(), "size": at}


def _opened(device: str, until: float) -> int:
    """Open the port once nobody else has it."""
    while True:
        try:
            return os.open(device, os.O_RDWR | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        except OSError as error:
            if error.errno == errno.EACCES:
                raise NoPool(
                    f"{device} is root's: sudo, or rave-guest sandbox --grant GROUP"
                ) from None
            if error.errno != errno.EBUSY:
                raise NoPool(f"the way to the pool cannot be opened: {error.strerror}") from None
            if time.monotonic() > until:
                raise NoPool("another program holds the way to the pool") from None
        time.sleep(PAUSE)


def _asked(fd: int, question: bytes, name: str, until: float) -> dict[str, Any]:
    poll = select.poll()
    left, heard, again = question, b"", time.monotonic() + AGAIN
    while (now := time.monotonic()) < until:
        if not left and now > again:
            left, again = question, now + AGAIN
        poll.register(fd, select.POLLIN | (select.POLLOUT if left else 0))
        events = dict(poll.poll(1000 * min(until - now, max(0.0, again - now)) + 1)).get(fd, 0)
        if events & select.POLLHUP:
            raise NoPool(
                "nobody answers: the pool is not lent to this machine, or not served"
                " (on its host: rave pool guest list; rave pool status)"
            )
        if events & select.POLLOUT and left:
            left = left[_written(fd, left) :]
        if events & select.POLLIN:
            heard += _read(fd)
            *lines, heard = heard.split(b"\n")
            heard = heard if len(heard) <= LONGEST else b""
            for line in lines:
                if (answer := _answer(line, name)) is not None:
                    return answer
    raise NoPool("the pool does not answer")


def _written(fd: int, data: bytes) -> int:
    try:
        return os.write(fd, data[: 32 << 10])
    except BlockingIOError:
        return 0


def _read(fd: int) -> bytes:
    try:
        return os.read(fd, 64 << 10)
    except BlockingIOError:
        return b""


def _answer(line: bytes, name: str) -> dict[str, Any] | None:
    """Return what a line answers to the question of that name, if it does."""
    import json

    try:
        document = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if isinstance(document, dict) and document.get("id") == name:
        return document
    return None
