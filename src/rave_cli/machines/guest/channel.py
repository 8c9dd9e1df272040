"""A session on the command channel: programs in the guest, their input, output and ends.

The protocol is told in rave_guest/command.py; command.py opens the channel.

A guest is not trusted: its lines are bounded, its words are known or a fault, and what it says
before it has repeated this session's nonce belongs to the session before.
"""

from __future__ import annotations

import json
import os
import secrets
import select
import time
from binascii import a2b_base64, b2a_base64
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from rave_cli import signals
from rave_cli.errors import ExitCode, RaveError
from rave_cli.process import Completed
from rave_cli.text import clean

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator, Sequence

    from rave_cli.terminal import Terminal

    OnOutput = Callable[[int, bytes], None]

VERSION = 1
# Bytes of a line of the guest; its own pieces of output have 22 KiB.
LONGEST = 256 << 10
# Bytes that may come before the guest's greeting: what the session before left behind.
MOST_BEFORE = 1 << 20
# Output beyond this is a mistake of the command; reading it all would only fill our memory.
MOST_OUTPUT = 64 << 20
# Bytes of input under way at most, whatever window the guest offers, and in one line.
WINDOW = 256 << 10
PIECE = 48 << 10
# Seconds after which a greeting is said again: an older guest drops one that comes before it knows
# that we have opened the port; and for the guest to end a program.
AGAIN = 0.5
ENDS = 10.0

STREAMS = {b"out": 1, b"err": 2}


class AnotherGuestError(RaveError):
    """What answers on the channel is not the machine it belongs to."""


class CommandChannel:
    """An open session on the channel; use `connect`. One program runs at a time."""

    def __init__(self, connection: socket.socket, name: str, window: int = WINDOW) -> None:
        self._socket = connection
        self._name = name
        self._window = window
        self._rest = b""
        self._running = False
        self._nonce = ""
        self._own: tuple[object, ...] = ()
        # Whether the guest, as its greeting says, gives programs a terminal.
        self.has_terminals = False
        # Whether it takes input as it is; an older one takes base64 alone.
        self._raw = False

    def run(
        self,
        argv: Sequence[str],
        *,
        stdin: bytes = b"",
        timeout: float,
        sudo: bool = False,
        on_error: Callable[[bytes], None] = lambda _: None,
    ) -> Completed:
        """Run a program in the guest and return what it said, whatever its exit status.

        Args:
            argv: program and arguments. Never a secret.
            stdin: bytes for standard input: the way for secrets.
            timeout: seconds for all of it.
            sudo: whether root runs it.
            on_error: told each piece of standard error as it comes.

        Raises:
            RaveError: NOT_READY if the channel breaks or the program does not end in time.
        """
        outputs = {1: bytearray(), 2: bytearray()}

        def take(stream: int, data: bytes) -> None:
            outputs[stream] += data
            if sum(map(len, outputs.values())) > MOST_OUTPUT:
                raise self._broken("the command printed more than 64 MiB")
            if stream == 2:
                on_error(data)

        status = self.stream(argv, stdin=stdin, on_output=take, timeout=timeout, sudo=sudo)
        return Completed(tuple(argv), status, bytes(outputs[1]), bytes(outputs[2]))

    def stream(
        self,
        argv: Sequence[str],
        *,
        stdin: int | bytes | None,
        on_output: OnOutput,
        timeout: float,
        sudo: bool = False,
        terminal: Terminal | None = None,
    ) -> int:
        """Run a program in the guest, passing its output on as it comes; return its exit status,
        negative if that signal ended it.

        However this ends before the program does, the guest is told to end that with everything
        that it started.

        Args:
            argv: program and arguments. Never a secret.
            stdin: bytes, or a descriptor whose bytes become standard input; None gives it none.
            on_output: told each piece of output with the stream it belongs to, 1 or 2. While it
                has not returned no more is taken, so that what waits stays bounded.
            timeout: seconds for all of it.
            sudo: whether root runs it.
            terminal: the one that it gets a likeness of, and its input from; see has_terminals.

        Raises:
            RaveError: NOT_READY if the channel breaks or the program does not end in time.
            LeftError: whoever is at the terminal has pressed the way out.
        """
        deadline = time.monotonic() + timeout
        request: dict[str, Any] = {"argv": list(argv), "root": sudo}
        if terminal is not None:
            request["terminal"] = [*terminal.size(), terminal.kind]
        try:
            self._running = True
            self._say(b"run " + json.dumps(request).encode(), deadline)
            return self._carry(
                _Input(stdin, self._window, terminal, raw=self._raw), on_output, deadline
            )
        except TimeoutError as error:
            self._end()
            raise self._broken(f"{argv[0]} did not finish within {timeout:g} s") from error
        except BaseException:
            with signals.held():
                self._end()
            raise

    def ask(self, verb: str, arguments: dict[str, Any], *, timeout: float) -> dict[str, Any]:
        """Let the guest's end of the channel do something itself, and return its answer.

        Args:
            verb: `hold`, `become` or `wake`; see rave_guest/held.py.
            arguments: JSON data.
            timeout: seconds for it.

        Raises:
            RaveError: NOT_READY if the guest does not, or says nothing in time; HOST if it was made
                by an older rave, which cannot.
        """
        if verb not in self._own:
            raise RaveError(
                f"the guest of machine {self._name} was made by an older rave and cannot {verb}",
                hint="rave vm build-image",
                exit_code=ExitCode.HOST,
            )
        deadline = time.monotonic() + timeout
        try:
            self._say(f"{verb} {json.dumps(arguments)}".encode(), deadline)
            while (left := deadline - time.monotonic()) > 0:
                ready = select.select([self._socket], [], [], left)[0]
                for line in self._lines() if ready else ():
                    word, _, rest = line.partition(b" ")
                    if _greeting(line).get("nonce") == self._nonce:
                        # It answers the greeting that was said again.
                        continue
                    if word == b"gone":
                        raise self._gone()
                    if word != b"did":
                        said = clean(line.decode(errors="replace"))[:300]
                        raise self._broken(f"its guest does not {verb}: {said}")
                    return _table(rest)
        except TimeoutError:
            pass
        raise self._broken(f"its guest did not {verb} within {timeout:g} s")

    def _carry(self, given: _Input, on_output: OnOutput, deadline: float) -> int:
        while True:
            for line in given.lines():
                self._say(line, deadline)
            status = self._hear(given, on_output, deadline)
            if status is not None:
                return status

    def _hear(self, given: _Input, on_output: OnOutput, deadline: float) -> int | None:
        """Wait for something to happen and deal with it; returns the exit status once it is told.

        Raises:
            TimeoutError: the deadline passed.
        """
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        waited: list[Any] = [self._socket, *given.awaited()]
        ready = select.select(waited, [], [], left)[0]
        given.take(ready)
        for line in self._lines() if self._socket in ready else ():
            word, _, rest = line.partition(b" ")
            if word in STREAMS:
                on_output(STREAMS[word], self._decoded(rest))
            elif word == b"took":
                given.under_way -= self._number(rest)
            elif word == b"exit":
                self._running = False
                return self._number(rest)
            elif word == b"gone":
                raise self._gone()
            elif word == b"refused":
                self._running = False
                raise self._broken(f"the guest refuses: {clean(rest.decode(errors='replace'))}")
            elif _greeting(line).get("nonce") == self._nonce:
                # It answers the greeting that was said again.
                continue
            else:
                raise self._broken(f"its guest says what it should not: {line[:40]!r}")
        return None

    def _end(self) -> None:
        """Have what runs ended, and wait until the guest says so. What it still prints is dropped.

        Raises:
            RaveError: NOT_READY if that is not known to have worked.
        """
        until = time.monotonic() + ENDS
        try:
            with suppress(RaveError):
                if self._running:
                    self._say(b"kill", until)
                while self._running:
                    self._hear(_Input(None, 0), lambda _stream, _data: None, until)
        except TimeoutError as error:
            raise RaveError(
                f"the command may still run in machine {self._name}, which does not answer",
                hint=f"rave vm status {self._name}",
                exit_code=ExitCode.NOT_READY,
            ) from error

    def _say(self, line: bytes, deadline: float) -> None:
        self._socket.settimeout(max(0.001, deadline - time.monotonic()))
        try:
            self._socket.sendall(line + b"\n")
        except TimeoutError:
            raise
        except OSError as error:
            raise self._broken(f"the connection broke: {error.strerror or error}") from error

    def _lines(self) -> list[bytes]:
        """Return the lines that are whole now, after one read. An empty one says nothing: it ends
        what was left half said.
        """
        try:
            data = self._socket.recv(1 << 16)
        except OSError as error:
            raise self._broken(f"the connection broke: {error.strerror or error}") from error
        if not data:
            raise self._broken("the connection broke: closed by QEMU")
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > LONGEST:
            raise self._broken("its guest says a line without end")
        return [line for line in lines if line]

    def greet(self, instance: str, deadline: float) -> bool:
        """Begin a session; returns whether the guest answered before `deadline`.

        Raises:
            AnotherGuestError: NOT_READY if what answers is another instance.
        """
        self._nonce = secrets.token_hex(8)
        # The newline ends whatever line the one before us left half said.
        hello = b"\nhello " + json.dumps({"v": VERSION, "nonce": self._nonce}).encode()
        before = 0
        try:
            self._say(hello, deadline)
            while (left := deadline - time.monotonic()) > 0 and before < MOST_BEFORE:
                if not select.select([self._socket], [], [], min(left, AGAIN))[0]:
                    self._say(hello, deadline)
                    continue
                for line in self._lines():
                    before += len(line) + 1
                    answer = _greeting(line)
                    if answer.get("nonce") == self._nonce:
                        return self._known(answer, instance)
        except AnotherGuestError:
            raise
        except (RaveError, TimeoutError):
            pass
        return False

    def _known(self, answer: dict[str, Any], instance: str) -> bool:
        if answer.get("instance") != instance:
            raise AnotherGuestError(
                f"what answers on the command channel of machine {self._name} is another machine",
                hint=f"rave vm stop {self._name}; rave vm start {self._name}",
                exit_code=ExitCode.NOT_READY,
            )
        window = answer.get("window")
        own = answer.get("own")
        self._own = tuple(own) if isinstance(own, list) else ()
        self._window = min(window, WINDOW) if isinstance(window, int) and window > 0 else WINDOW
        self.has_terminals = answer.get("terminal") is True
        self._raw = answer.get("raw") is True
        return answer.get("v") == VERSION

    def _decoded(self, text: bytes) -> bytes:
        try:
            return a2b_base64(text, strict_mode=True)
        except ValueError:
            raise self._broken("its guest says what is no data") from None

    def _number(self, text: bytes) -> int:
        try:
            return int(text[:12])
        except ValueError:
            raise self._broken("its guest says what is no number") from None

    def _gone(self) -> RaveError:
        """Return the end of the guest's own program, with which whatever it ran was ended."""
        self._running = False
        return RaveError(
            f"machine {self._name}: what runs commands in its guest was stopped or restarted, and"
            " the command with it",
            hint=f"rave vm logs {self._name} --unit rave-command.service",
            exit_code=ExitCode.NOT_READY,
        )

    def _broken(self, why: str) -> RaveError:
        return RaveError(
            f"machine {self._name}: {why}",
            hint=f"rave vm status {self._name}; rave vm logs {self._name}",
            exit_code=ExitCode.NOT_READY,
        )


class _Input:
    """Standard input of a program: bytes, or whatever a descriptor or a terminal gives until its
    end; of a terminal also each change of its size.
    """

    def __init__(
        self,
        stdin: int | bytes | None,
        window: int,
        terminal: Terminal | None = None,
        *,
        raw: bool = False,
    ) -> None:
        self._source = stdin if isinstance(stdin, int) else None
        if terminal is not None:
            self._source = terminal.input
        self._rest = stdin if isinstance(stdin, bytes) else b""
        self._window = window
        self._terminal = terminal
        self._raw = raw
        self._resized = False
        self._told_end = False
        self.under_way = 0

    def awaited(self) -> list[int]:
        """Return the descriptors of which something is wanted now."""
        wanted = self._source is not None and not self._rest and self.under_way < self._window
        source = [self._source] if wanted and self._source is not None else []
        return source if self._terminal is None else [*source, self._terminal.changes]

    def take(self, ready: Sequence[object]) -> None:
        """Take what the descriptors give that are ready."""
        if self._terminal is not None and self._terminal.changes in ready:
            self._terminal.changed()
            self._resized = True
        if self._source is not None and self._source in ready:
            read = self._terminal.read if self._terminal is not None else self._read
            self._rest = read(PIECE)
            if not self._rest:
                self._source = None

    def _read(self, most: int) -> bytes:
        return os.read(self._source, most) if self._source is not None else b""

    def lines(self) -> Iterator[bytes]:
        """Yield what may be sent now."""
        if self._resized and self._terminal is not None:
            self._resized = False
            yield b"size %d %d" % self._terminal.size()
        while self._rest and (room := min(PIECE, self._window - self.under_way)) > 0:
            piece, self._rest = self._rest[:room], self._rest[room:]
            self.under_way += len(piece)
            yield (
                b"raw " + escaped(piece) if self._raw else b"in " + b2a_base64(piece, newline=False)
            )
        if self._source is None and not self._rest and not self._told_end:
            self._told_end = True
            yield b"eof"


def escaped(data: bytes) -> bytes:
    """Return data as one line: ESC E for the escape, ESC N for the newline."""
    return data.replace(b"\x1b", b"\x1bE").replace(b"\n", b"\x1bN")


def _greeting(line: bytes) -> dict[str, Any]:
    """Return what a line says if it is a greeting; else nothing."""
    word, _, rest = line.partition(b" ")
    return _table(rest) if word == b"hello" else {}


def _table(text: bytes) -> dict[str, Any]:
    """Return a JSON object; an empty one if it is none."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
