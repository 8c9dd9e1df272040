"""An open SSH connection to a guest: commands with their input and output.

paramiko is only called where a signal can't break it off, see `signals`: what may wait for the
guest in a thread of its own, the rest while signals are held.
"""

from __future__ import annotations

import os
import select
import shlex
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import paramiko

from rave_cli import signals
from rave_cli.errors import ExitCode, RaveError
from rave_cli.process import Completed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from rave_cli.terminal import Terminal

    # Takes a piece of output and the stream it belongs to: 1 or 2.
    OnOutput = Callable[[int, bytes], None]

# Output beyond this is a mistake of the command; reading it all would only fill our memory.
MOST_OUTPUT = 64 << 20

_CHUNK = 1 << 15

# Seconds for a guest to end what a connection has started: a TCG guest needs one for sudo alone,
# and programs get two to end by themselves.
END_SECONDS = 20.0

# Ends all that was started over the connection it comes by. Each such process carries that
# connection in its environment; what sudo started has another one, but is found as its child.
_END_ALL = r"""
exec sudo -n -- sh -c '
kin() { for pid; do echo "$pid"; kin $(cat "/proc/$pid/task/$pid/children" 2>/dev/null); done; }
mine=" $3 $(echo $(kin "$2")) "
marked=
for file in $(grep -lsxzF "SSH_CONNECTION=$1" /proc/[0-9]*/environ); do
  pid=${file#/proc/} pid=${pid%/environ}
  case $mine in *" $pid "*) ;; *) marked="$marked $pid" ;; esac
done
all=$(echo $(kin $marked))
[ -n "$all" ] || exit 0
kill -TERM $all 2>/dev/null
kill -CONT $all 2>/dev/null
for try in 1 2 3 4 5 6 7 8 9 10; do
  left=
  for pid in $all; do kill -0 "$pid" 2>/dev/null && left=1; done
  [ -n "$left" ] || exit 0
  sleep 0.2
done
kill -KILL $all 2>/dev/null
exit 0
' end "$SSH_CONNECTION" $$ $PPID
"""


class Session:
    """An open connection. `run` may be called any number of times."""

    def __init__(self, client: paramiko.SSHClient, name: str) -> None:
        self._client = client
        self._name = name

    def stream(
        self,
        argv: Sequence[str],
        *,
        stdin: int | None,
        on_output: OnOutput,
        timeout: float,
        sudo: bool = False,
        terminal: Terminal | None = None,
    ) -> int:
        """Run a command in the guest, passing its output on as it comes; return its exit status.

        However this ends before the command does, the command is ended in the guest, with
        everything that it started over this connection.

        Args:
            argv: program and arguments, quoted here for the guest's shell. Never a secret.
            stdin: descriptor whose bytes become standard input; None gives it none.
            on_output: told each piece of output with the stream it belongs to, 1 or 2. While it
                has not returned no more is taken, so that what waits stays bounded.
            timeout: seconds for all of it.
            sudo: whether root runs it.
            terminal: the one that it gets a likeness of, and its input from.

        Raises:
            RaveError: NOT_READY if the connection breaks or the command does not end in time.
            LeftError: whoever is at the terminal has pressed the way out.
        """
        words = ("sudo", "-n", "--", *argv) if sudo else tuple(argv)
        deadline = time.monotonic() + timeout
        with self._told(words[0], timeout), self._channel(timeout) as channel:
            try:
                if terminal is not None:
                    rows, columns = terminal.size()
                    kind = terminal.kind
                    signals.apart(lambda: channel.get_pty(kind, columns, rows))
                signals.apart(lambda: channel.exec_command(os.fsencode(shlex.join(words))))
                _carry(channel, _Input(channel, stdin, terminal), on_output, deadline)
                return self._status(channel, deadline)
            except (paramiko.SSHException, EOFError, ConnectionError):
                raise
            except BaseException:
                with signals.held():
                    self._end_all()
                raise

    def _end_all(self) -> None:
        """End whatever this connection has started in the guest.

        Raises:
            RaveError: NOT_READY if that is not known to have worked.
        """
        try:
            done = self.run(("sh", "-c", _END_ALL), timeout=END_SECONDS)
        except RaveError as error:
            raise self._may_run(error.message) from error
        if not done.ok:
            raise self._may_run(" ".join(done.tail(1)) or f"exit status {done.returncode}")

    def _may_run(self, why: str) -> RaveError:
        return RaveError(
            f"the command may still run in machine {self._name}, it could not be ended: {why}",
            hint=f"rave vm ssh {self._name}",
            exit_code=ExitCode.NOT_READY,
        )

    def run(
        self,
        argv: Sequence[str],
        *,
        stdin: bytes = b"",
        timeout: float,
        sudo: bool = False,
        on_error: Callable[[bytes], None] = lambda _: None,
    ) -> Completed:
        """Run a command in the guest and return what it said, whatever its exit status.

        Args:
            argv: program and arguments, quoted here for the guest's shell. Never a secret.
            stdin: bytes for standard input: the way for secrets.
            timeout: seconds for all of it.
            sudo: whether root runs it.
            on_error: told each piece of standard error as it comes.

        Raises:
            RaveError: NOT_READY if the connection breaks or the command does not end in time.
        """
        words = ("sudo", "-n", "--", *argv) if sudo else tuple(argv)
        deadline = time.monotonic() + timeout
        outputs = {1: bytearray(), 2: bytearray()}

        def take(stream: int, data: bytes) -> None:
            outputs[stream] += data
            if sum(map(len, outputs.values())) > MOST_OUTPUT:
                raise self._broken("the command printed more than 64 MiB")
            if stream == 2:
                on_error(data)

        with self._told(words[0], timeout), self._channel(timeout) as channel:
            signals.apart(lambda: channel.exec_command(os.fsencode(shlex.join(words))))
            _carry(channel, _Input(channel, stdin), take, deadline)
            status = self._status(channel, deadline)
        return Completed(words, status, bytes(outputs[1]), bytes(outputs[2]))

    @contextmanager
    def _told(self, program: str, timeout: float) -> Iterator[None]:
        """Turn what goes wrong with a command into what it means."""
        try:
            yield
        except TimeoutError as error:
            raise self._broken(f"{program} did not finish within {timeout:g} s") from error
        except (paramiko.SSHException, EOFError, OSError) as error:
            raise self._broken(f"the connection broke: {error or type(error).__name__}") from error

    @contextmanager
    def _channel(self, timeout: float) -> Iterator[paramiko.Channel]:
        channel = signals.apart(lambda: self._opened(timeout))
        try:
            yield channel
        finally:
            with signals.held():
                channel.close()

    def _opened(self, timeout: float) -> paramiko.Channel:
        transport = self._client.get_transport()
        if transport is None or not transport.is_active():
            raise EOFError("closed by the guest")
        channel = transport.open_session(timeout=timeout)
        channel.settimeout(0.0)
        return channel

    @staticmethod
    def _status(channel: paramiko.Channel, deadline: float) -> int:
        # It comes with the end of the output, or right behind it.
        while not channel.status_event.is_set():
            if time.monotonic() > deadline:
                raise TimeoutError
            time.sleep(0.005)
        return channel.exit_status

    def _broken(self, why: str) -> RaveError:
        return RaveError(
            f"machine {self._name}: {why}",
            hint=f"rave vm status {self._name}; rave vm logs {self._name}",
            exit_code=ExitCode.NOT_READY,
        )


def _carry(channel: paramiko.Channel, given: _Input, on_output: OnOutput, deadline: float) -> None:
    """Carry standard input to the guest and both outputs from it, until the guest closes them.

    Raises:
        TimeoutError: the deadline passed.
        EOFError: the guest closed the connection.
    """
    while True:
        if time.monotonic() > deadline:
            raise TimeoutError
        if _receive(channel, on_output):
            continue
        if channel.eof_received and not _pending(channel):
            return
        if channel.closed:
            raise EOFError("closed by the guest")
        given.send()
        given.wait(deadline)


class _Input:
    """Standard input of a command: bytes, or whatever a descriptor or a terminal gives until its
    end; of a terminal also each change of its size.
    """

    def __init__(
        self, channel: paramiko.Channel, stdin: bytes | int | None, terminal: Terminal | None = None
    ) -> None:
        self._channel = channel
        self._terminal = terminal
        self._source = None if isinstance(stdin, bytes) else stdin
        if terminal is not None:
            self._source = terminal.input
        self._rest = memoryview(stdin if isinstance(stdin, bytes) else b"")
        with signals.held():
            self._happens = channel.fileno()

    def send(self) -> None:
        """Send what there is and the window takes; tell the guest when it is over."""
        if self._rest or (self._source is None and not self._channel.eof_sent):
            signals.apart(self._send)

    def _send(self) -> None:
        try:
            while self._rest and self._channel.send_ready():
                self._rest = self._rest[self._channel.send(bytes(self._rest[:_CHUNK])) :]
        except OSError:
            # The command has ended meanwhile and wants no more; what it said is still to come.
            self._source, self._rest = None, memoryview(b"")
        if self._source is None and not self._rest and not self._channel.eof_sent:
            self._channel.shutdown_write()

    def wait(self, deadline: float) -> None:
        """Sleep until something may have happened; take what the descriptor gives then."""
        source = None if self._rest else self._source
        waited = [self._happens] if source is None else [self._happens, source]
        if self._terminal is not None:
            waited.append(self._terminal.changes)
        # Nothing becomes readable when the window for what is still to be sent opens.
        most = 0.005 if self._rest else 0.25
        left = max(0.0, deadline - time.monotonic())
        ready = select.select(waited, [], [], min(left, most))[0]
        if self._terminal is not None and self._terminal.changes in ready:
            self._terminal.changed()
            rows, columns = self._terminal.size()
            signals.apart(lambda: self._channel.resize_pty(columns, rows))
        if source is not None and source in ready:
            typed = self._terminal.read(_CHUNK) if self._terminal is not None else None
            self._rest = memoryview(os.read(source, _CHUNK) if typed is None else typed)
            self._source = source if self._rest else None


def _receive(channel: paramiko.Channel, on_output: OnOutput) -> bool:
    """Take what has arrived, at most one piece of each output; returns whether anything had."""
    moved = False
    for stream, ready, receive in (
        (1, channel.recv_ready, channel.recv),
        (2, channel.recv_stderr_ready, channel.recv_stderr),
    ):
        with signals.held():
            data = receive(_CHUNK) if ready() else None
        if data is not None:
            on_output(stream, data)
            moved = True
    return moved


def _pending(channel: paramiko.Channel) -> bool:
    with signals.held():
        return channel.recv_ready() or channel.recv_stderr_ready()
