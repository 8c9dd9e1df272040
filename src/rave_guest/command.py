"""The command channel: the host runs programs here over the virtio-serial port org.rave.command.

Lines of text, so that whoever comes next begins with a newline and is understood, whatever the one
before left half said. Binary data is in base64, or, of `raw`, as it is but for the newline and the
escape, which are ESC N and ESC E: a third less to bring, four kilobytes at a time, by QEMU.

    host     hello {"v": 1, "nonce": "…"}          begins a session and ends the one before
             run {"argv": […], "root": false}      starts a program, one at a time; "terminal":
                                                   [ROWS, COLUMNS, KIND] gives it one
             in DATA / raw DATA / eof              its standard input, within the window
             size ROWS COLUMNS                     its terminal has another size
             kill                                  ends it and everything that it started
             hold {} / become {…} / wake {…}       what held.py does, which needs no program; with
                                                   "runs": true the rest of the machine goes on
                                                   when no program was started or has ended for
                                                   "lull" seconds (else LULL), LULLS of them at
                                                   most; with "stays": true not before a `wake`
                                                   without that
    guest    hello {"v": 1, "nonce": "…", "instance": "…", "window": 262144, "terminal": true,
                    "raw": true, "own": ["hold", "become", "wake"]}
             out DATA / err DATA                   what it prints
             took COUNT                            so many bytes of its input are gone
             exit STATUS                           negative: by that signal
             did {…}                               the answer of `hold`, `become` or `wake`
             refused WHY                           what was asked for is not done
             gone                                  this program ends, or is a new one: what the one
                                                   before it ran is ended

The port is root's alone, and so is its other end on the host the operator's: who can open either is
root here. A host that leaves ends what it had started.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import time
from binascii import a2b_base64, b2a_base64
from contextlib import suppress

from rave_guest import report
from rave_guest.child import Child
from rave_guest.manager import ManagerError
from rave_guest.refusal import Refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

VERSION = 1
PORT = "org.rave.command"
LONGEST = 128 << 10  # bytes of a line
WINDOW = 256 << 10  # bytes of input that may be under way
CHUNK = 16 << 10  # bytes of output in a line
OWN = (b"hold", b"become", b"wake")  # what is done here, and not by a program
WAITING = 64 << 10  # bytes for the host above which no more output is taken
ESCAPE, NEWLINE_OF, ESCAPE_OF = b"\x1b", b"\x1bN", b"\x1bE"
LULL, LONGEST_LULL = 2.0, 15.0  # seconds
LULLS = 2.5
ARRIVES = 1.0  # seconds in which a host is seen whose words came before it


class Server:
    """One port and what goes on over it. Its memory is bounded, whatever the host does."""

    def __init__(self, fd: int, instance: str) -> None:
        """Listen on `fd`, which does not block, in the name of an instance."""
        self.fd = fd
        self.instance = instance
        self.poll = select.epoll()
        # By edges: a port without a host is readable all the time, and must wake nobody.
        self.poll.register(fd, select.EPOLLIN | select.EPOLLOUT | select.EPOLLET)
        self.heard = b""
        self.dropping = False
        self.greeted = False
        self.child: Child | None = None
        self.input = b""
        self.closing = False
        self.output = b""
        self.ending: list[Child] = []
        self.count = 0
        self.doubt = 0.0
        # When the rest of a machine goes on that became itself for a program, and when at the
        # latest; 0 if it does.
        self.rest_at = self.rest_by = 0.0
        self.lull = LULL

    def step(self) -> bool:
        """Wait until something happens and deal with it; return whether the host is still there."""
        ready = dict(self.poll.poll(self._patience()))
        doubtful = 0 < self.doubt <= time.monotonic()
        present = self._hear() if self.fd in ready or doubtful else True
        if not present:
            self._leave()
        child = self.child
        if child is not None:
            if child.stdin in ready:
                self._feed(child)
            for fd, word in ((child.stdout, b"out"), (child.stderr, b"err")):
                if fd in ready and fd >= 0:
                    self._listen(child, fd, word)
            self._conclude(child)
        self._end_the_ended()
        self._speak()
        self._let_the_rest_go_on()
        self._watch_output()
        return present

    def _patience(self) -> float:
        """Seconds until something has to be killed; -1 if nothing has."""
        due = [c.kill_at for c in (*self.ending, self.child) if c is not None and c.kill_at]
        due += [at for at in (self.doubt, self.rest_at) if at]
        return max(0.0, min(due) - time.monotonic()) + 0.01 if due else -1

    # What the host says.

    def _hear(self) -> bool:
        """Take what the host says; return whether it is there.

        What it says comes by another queue than the news that it has come, and may be first: the
        port then gives its words and after them the end. That is believed a moment later.
        """
        heard = False
        while True:
            try:
                data = self._read()
            except BlockingIOError:
                self.doubt = 0.0
                return True
            except OSError:
                return False
            if not data:
                self.doubt = time.monotonic() + ARRIVES if heard else 0.0
                return heard
            heard = True
            *lines, self.heard = (self.heard + data).split(b"\n")
            for line in lines:
                if not self.dropping and len(line) <= LONGEST:
                    self._obey(line)
                self.dropping = False
            if len(self.heard) > LONGEST:
                self.heard, self.dropping = b"", True

    def _read(self) -> bytes:
        return os.read(self.fd, LONGEST)

    def _obey(self, line: bytes) -> None:
        word, _, rest = line.partition(b" ")
        if word == b"hello":
            self._greet(rest)
        elif not self.greeted:
            return
        elif word == b"run":
            self._run(rest)
        elif word in OWN:
            self._do(word.decode(), rest)
        elif self.child is None:
            return
        elif word in (b"in", b"raw"):
            self._take(decoded(rest) if word == b"in" else unescaped(rest))
        elif word == b"eof":
            self.closing = True
            self._feed(self.child)
        elif word == b"size":
            self._resize(self.child, rest)
        elif word == b"kill":
            self.child.end()

    def _greet(self, rest: bytes) -> None:
        self._leave()
        request = document(rest)
        nonce = request.get("nonce")
        if request.get("v") != VERSION or not isinstance(nonce, str):
            return
        answer = {
            "v": VERSION, "nonce": nonce, "instance": self.instance, "window": WINDOW,
            "terminal": True, "raw": True, "own": [word.decode() for word in OWN],
        }  # fmt: skip
        self._say(b"hello", json.dumps(answer).encode())
        self.greeted = True

    def _run(self, rest: bytes) -> None:
        found = program(rest)
        if found is None:
            self._say(b"refused", b"not a program, its arguments and who runs it")
            return
        argv, root, terminal = found
        if self.child is not None:
            self._say(b"refused", b"another program of this session runs")
            return
        self.count += 1
        try:
            kind = terminal[2] if terminal else ""
            self.child = child = Child(argv, root=root, number=self.count, terminal=kind)
        except OSError as error:
            self._say(b"refused", os.strerror(error.errno or 0).encode())
            return
        self._put_the_rest_off()
        if terminal:
            child.resize(*terminal[:2])
        self.input, self.closing = b"", False
        for fd in (child.stdout, child.stderr, child.pidfd):
            if fd >= 0:
                self.poll.register(fd, select.EPOLLIN)
        print(
            "command as", "root:" if root else "operator:", json.dumps(argv)[:300], file=sys.stderr
        )

    def _do(self, verb: str, rest: bytes) -> None:
        # Only here: a machine that is no template never needs it.
        from rave_guest import held

        request = document(rest)
        try:
            answer = held.VERBS[verb](request)
        except Refused as error:
            self._say(b"refused", f"{verb} ({error.stage}): {error}".encode())
        except (OSError, ManagerError, ValueError, KeyError) as error:
            self._say(b"refused", f"{verb}: {error}".replace("\n", " ").encode())
        else:
            self.instance = report.instance()
            self._say(b"did", json.dumps(answer).encode())
            if held.waits() and request.get("stays") is not True:
                self.lull = lull(request)
                self.rest_at = time.monotonic() + self.lull
                self.rest_by = time.monotonic() + self.lull * LULLS

    def _put_the_rest_off(self) -> None:
        if self.rest_at:
            self.rest_at = min(time.monotonic() + self.lull, self.rest_by)

    def _let_the_rest_go_on(self) -> None:
        """Let it, once there was nothing new to do for a while."""
        if not 0 < self.rest_at <= time.monotonic():
            return
        from rave_guest import held

        self.rest_at = 0.0
        try:
            held.go_on()
        except (OSError, ManagerError) as error:
            report.send("failed", reason=f"what stood still does not go on: {error}")

    def _take(self, data: bytes) -> None:
        if not data or len(self.input) + len(data) > WINDOW or self.closing:
            # A host that does not keep to the window is not ours.
            self._leave()
        elif self.child is not None:
            self.input += data
            self._feed(self.child)

    @staticmethod
    def _resize(child: Child, rest: bytes) -> None:
        try:
            rows, columns = map(int, rest.split())
        except ValueError:
            return
        child.resize(rows, columns)

    # What the program gets and says.

    def _feed(self, child: Child) -> None:
        if child.stdin < 0:
            self._took(len(self.input))
            self.input = b""
            return
        over = self.closing
        while self.input:
            try:
                done = os.write(child.stdin, self.input)
            except BlockingIOError:
                break
            except OSError:
                # It wants no more; what it says is still to come.
                done, over = len(self.input), True
            self.input = self.input[done:]
            self._took(done)
        with suppress(FileNotFoundError):
            self.poll.unregister(child.stdin)
        if self.input:
            self.poll.register(child.stdin, select.EPOLLOUT)
        elif over:
            os.close(child.stdin)
            child.stdin = -1

    def _took(self, count: int) -> None:
        if count:
            self._say(b"took", str(count).encode())

    def _listen(self, child: Child, fd: int, word: bytes) -> None:
        try:
            data = os.read(fd, CHUNK)
        except BlockingIOError:
            return
        except OSError:
            # How a terminal tells that nobody has it open any more.
            data = b""
        if data:
            self._say(word, b2a_base64(data, newline=False))
            return
        self.poll.unregister(fd)
        os.close(fd)
        if fd == child.stdout:
            child.stdout = -1
        else:
            child.stderr = -1

    def _conclude(self, child: Child) -> None:
        """Tell the end of a program once it is over and has said all."""
        if child.reap() is not None and child.pidfd >= 0:
            self.poll.unregister(child.pidfd)
            os.close(child.pidfd)
            child.pidfd = -1
        if child.status is None or child.stdout >= 0 or child.stderr >= 0:
            return
        self._forget(child)
        self.child = None
        if child.kill_at:
            self.ending.append(child)
        self._say(b"exit", str(child.status).encode())
        self._put_the_rest_off()

    def _leave(self) -> None:
        """End the session, and what it has started."""
        self.greeted, self.output, self.input = False, b"", b""
        if self.child is not None:
            self.child.end()
            self.ending.append(self.child)
            self._forget(self.child)
            self.child = None

    def _end_the_ended(self) -> None:
        now = time.monotonic()
        for child in (*self.ending, self.child):
            if child is not None and child.kill_at and child.kill_at <= now:
                child.kill()
                child.kill_at = now + 1.0
        for child in list(self.ending):
            if not child.left():
                child.forget()
                self.ending.remove(child)

    def _forget(self, child: Child) -> None:
        for fd in (child.stdin, child.stdout, child.stderr, child.pidfd):
            if fd >= 0:
                with suppress(FileNotFoundError):
                    self.poll.unregister(fd)
        child.forget()

    # What the host is told.

    def _say(self, word: bytes, rest: bytes) -> None:
        self.output += word + b" " + rest + b"\n"

    def _speak(self) -> None:
        while self.output:
            try:
                self.output = self.output[os.write(self.fd, self.output) :]
            except BlockingIOError:
                return
            except OSError:
                self.output = b""

    def say_gone(self) -> None:
        """Tell a host that waits for something which this program knows nothing of, or no more; one
        that is not there misses nothing. The newline ends what was left half said.
        """
        with suppress(OSError):
            os.write(self.fd, b"\ngone\n")

    def _watch_output(self) -> None:
        """Take output only as fast as the host does: what waits in the pipes holds a program up."""
        mask = 0 if len(self.output) > WAITING else select.EPOLLIN
        if self.child is not None:
            for fd in (self.child.stdout, self.child.stderr):
                if fd >= 0:
                    self.poll.modify(fd, mask)


def program(text: bytes) -> tuple[list[str], bool, tuple[int, int, str] | None] | None:
    """The words of a program that is to be run, whether as root, and rows, columns and kind of the
    terminal that it gets, if any; None if that is not said.
    """
    request = document(text)
    argv, root = request.get("argv"), request.get("root")
    if not isinstance(argv, list) or not argv or not isinstance(root, bool):
        return None
    if not all(isinstance(word, str) and "\0" not in word for word in argv):
        return None
    if "terminal" not in request:
        return argv, root, None
    terminal = terminal_of(request["terminal"])
    return (argv, root, terminal) if terminal else None


def lull(request: dict[str, Any]) -> float:
    """Seconds for which the rest waits for another program: as the host says, within bounds."""
    said = request.get("lull")
    return min(max(LULL, said), LONGEST_LULL) if isinstance(said, int | float) else LULL


def terminal_of(found: object) -> tuple[int, int, str] | None:
    """Rows, columns and kind of a terminal; None if that is none."""
    if not isinstance(found, list) or len(found) != 3:
        return None
    rows, columns, kind = found
    if not isinstance(rows, int) or not isinstance(columns, int) or not isinstance(kind, str):
        return None
    return (rows, columns, kind) if kind and "\0" not in kind else None


def decoded(text: bytes) -> bytes:
    """The data of base64; none if it is none."""
    try:
        return a2b_base64(text, strict_mode=True)
    except ValueError:
        return b""


def unescaped(text: bytes) -> bytes:
    """The data of `raw`; none if an escape in it is none."""
    if text.count(ESCAPE) != text.count(NEWLINE_OF) + text.count(ESCAPE_OF):
        return b""
    return text.replace(NEWLINE_OF, b"\n").replace(ESCAPE_OF, ESCAPE)


def document(text: bytes) -> dict[str, Any]:
    """The JSON object of a line; empty if it is none."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def main(argv: list[str]) -> int:  # noqa: ARG001 - every verb has this signature
    """Serve the host for ever; end at once where it has given this machine no such port."""
    device = report.port(report.PORTS, PORT)
    if device is None:
        return 0
    server = Server(
        os.open(device, os.O_RDWR | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC), report.instance()
    )

    def leave(_number: int, _frame: object) -> None:
        server.say_gone()
        sys.exit(0)

    signal.signal(signal.SIGTERM, leave)
    # The one before us may have been killed while a host waited for it.
    server.say_gone()
    while True:
        server.step()
