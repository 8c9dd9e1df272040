"""Questions that tell cheaply whether a service lives: one connection, some bytes, an answer.

Which ones there are for a service, ready.py says. All are asked at once, without threads. A service
that answers, and badly, is asked again with growing pauses: it costs a processor each time, and
most often waits for another one.
"""

from __future__ import annotations

import errno
import select
import socket
import time

# NamedTuple and friends come with typing, whose import is not free here.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

ASK_TIMEOUT = 10.0  # seconds for one answer
MOST = 4 << 20  # bytes of an answer
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 1.0  # seconds from a bad answer until the question is asked again


class Question:
    """Where to connect, what to send, and what tells a good answer."""

    __slots__ = ("address", "end", "good", "holds", "name", "send")

    def __init__(
        self,
        name: str,
        address: str | tuple[str, int],
        send: bytes,
        good: Callable[[bytes], bool],
        end: bytes | None = None,
        *,
        holds: float = 0.0,
    ) -> None:
        """Put a question together.

        Args:
            name: what is asked, for people.
            address: path of a socket, or host and port.
            send: the bytes that ask.
            good: whether the bytes received so far are the answer of a healthy service.
            end: what ends an answer where the service keeps the connection open.
            holds: seconds for which a good answer is good, as long as no unit changes.
        """
        self.name, self.address, self.send, self.good, self.end = name, address, send, good, end
        self.holds = holds


def http(url: str, status: int, contains: str, *, holds: float = 0.0) -> Question:
    """A GET. For https, whether the port accepts: a handshake costs more than it tells."""
    scheme, _, rest = url.partition("://")
    place, _, path = rest.partition("/")
    host, _, port = place.partition(":")
    address = (host, int(port or 80))
    if scheme == "https":
        return Question(url, address, b"", lambda _: True)
    wanted = contains.encode()

    def good(answer: bytes) -> bool:
        head, _, body = answer.partition(b"\r\n\r\n")
        return head[9:12] == b"%d" % status and wanted in body

    request = f"GET /{path} HTTP/1.0\r\nHost: {place}\r\nUser-Agent: rave-guest\r\n\r\n"
    return Question(url, address, request.encode(), good, holds=holds)


class Round:
    """Questions under way. `step` moves all of them on and tells which were answered, and how."""

    def __init__(self) -> None:
        """Start with nothing asked."""
        self._poll = select.poll()
        self._open: dict[int, tuple[socket.socket, Question, list[bytes], float]] = {}
        self._pauses: dict[Question, tuple[float, float]] = {}

    def ask(self, question: Question) -> bool:
        """Send a question; False if nobody listens there, or it was badly answered just now."""
        if time.monotonic() < self._pauses.get(question, (0.0, 0.0))[1]:
            return False
        local = isinstance(question.address, str)
        connection = socket.socket(socket.AF_UNIX if local else socket.AF_INET, socket.SOCK_STREAM)
        connection.setblocking(False)
        outcome = connection.connect_ex(question.address)
        if outcome not in {0, errno.EINPROGRESS}:
            connection.close()
            return False
        handle = connection.fileno()
        self._open[handle] = (connection, question, [], time.monotonic() + ASK_TIMEOUT)
        self._poll.register(handle, select.POLLOUT)
        return True

    def step(self, wait: float) -> list[tuple[Question, bool]]:
        """Wait at most `wait` seconds; return the questions that ended, with their verdicts."""
        ended = []
        for handle, events in self._poll.poll(int(wait * 1000)):
            verdict = self._advance(handle, events)
            if verdict is not None:
                ended.append((self._drop(handle), verdict))
        now = time.monotonic()
        late = [handle for handle, entry in self._open.items() if entry[3] < now]
        return ended + [(self._drop(handle), False) for handle in late]

    def hurry(self) -> None:
        """Let what was badly answered be asked again at once: what it waited for may be there."""
        self._pauses.clear()

    def close(self) -> None:
        """Give up what is still under way."""
        for handle in list(self._open):
            self._drop(handle)

    def _advance(self, handle: int, events: int) -> bool | None:
        connection, question, pieces, _ = self._open[handle]
        try:
            if events & select.POLLOUT:
                if connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                    return False
                connection.send(question.send)
                self._poll.modify(handle, select.POLLIN)
                return True if question.good(b"") else None
            piece = connection.recv(1 << 16)
        except BlockingIOError:
            return None
        except OSError:
            return False
        pieces.append(piece)
        answer = b"".join(pieces)
        ended = not piece or len(answer) > MOST
        ended |= question.end is not None and answer.endswith(question.end)
        if question.good(answer):
            return True
        if ended and answer:
            pause = min(2 * self._pauses.get(question, (FIRST_PAUSE / 2, 0.0))[0], LONGEST_PAUSE)
            self._pauses[question] = (pause, time.monotonic() + pause)
        return False if ended else None

    def _drop(self, handle: int) -> Question:
        connection, question, _, _ = self._open.pop(handle)
        self._poll.unregister(handle)
        connection.close()
        return question
