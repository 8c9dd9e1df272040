"""Copies between this host and a running machine, by the quickest way into it.

Both ways the content goes into a stage beside its target first, and takes its place once it is
whole; whatever breaks a copy off removes the stage. Both ends are told by an end mark that the
other has sent all: the end of a stream alone does not tell that from a rave that was killed.
"""

from __future__ import annotations

import os
import re
import secrets
import threading
from typing import IO, TYPE_CHECKING

from rave_cli import signals
from rave_cli.errors import ExitCode, RaveError
from rave_cli.machines.guest.connection import connect
from rave_cli.machines.transfer.content import CHUNK, CONTENT, Copied, UnsafeContentError, write
from rave_cli.machines.transfer.packing import measure, pack
from rave_cli.machines.transfer.placing import place, staging
from rave_cli.machines.transfer.programs import BAD_PATH, RECEIVE, SEND
from rave_cli.machines.transfer.unpacking import unpack

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from rave_cli.machines.spec import Machine

    # Told the total of bytes once, and then the size of each piece.
    OnTotal = Callable[[int], None]
    OnBytes = Callable[[int], None]

# Seconds that a copy may take; whoever waits for it sees how far it is.
LONGEST = 7 * 24 * 3600.0

# Bytes of what a guest says of a fault.
MOST_SAID = 4096

# Bytes of one frame of a stream that goes into a guest.
FRAME = 1 << 20


def send(
    machine: Machine,
    source: Path,
    to: str,
    name: str,
    *,
    sudo: bool,
    on_total: OnTotal,
    on_bytes: OnBytes,
) -> Copied:
    """Copy a file or folder into a machine.

    Args:
        machine: the machine; it runs.
        source: what is copied; a link is followed here, and nowhere below.
        to: a path in the guest; into it if that is a folder, else what it is called there.
        name: what it is called in a folder; empty for what is in it.
        sudo: whether root writes it.
        on_total: told how many bytes there are.
        on_bytes: told each piece.

    Raises:
        RaveError: USAGE if `to` cannot be a target; HOST if `source` cannot be read; NOT_READY if
            the guest does not take it, or cannot be reached.
    """
    on_total(measure(source))
    end = _mark()

    def fill(stream: IO[bytes]) -> Copied:
        return pack(source, stream, end=end, on_bytes=on_bytes)

    return _sent(machine, (to, name, "tree", end), fill, sudo=sudo)


def send_stream(machine: Machine, source: int, to: str, *, sudo: bool, on_bytes: OnBytes) -> Copied:
    """Copy what a descriptor gives until its end into a file of a machine.

    Raises:
        RaveError: as `send`.
    """
    end = _mark()

    def fill(stream: IO[bytes]) -> Copied:
        copied = Copied(files=1)
        while data := os.read(source, FRAME):
            stream.write(b"%d\n" % len(data) + data)
            stream.flush()
            copied.size += len(data)
            on_bytes(len(data))
        stream.write(end.encode() + b"\n")
        return copied

    return _sent(machine, (to, "", "stream", end), fill, sudo=sudo)


def _mark() -> str:
    return f"end-{secrets.token_hex(8)}"


def _sent(
    machine: Machine,
    words: Sequence[str],
    fill: Callable[[IO[bytes]], Copied],
    *,
    sudo: bool,
) -> Copied:
    """Let the guest receive what `fill` writes."""
    said = _Said()
    with connect(machine) as session:
        source, sink = os.pipe()
        with _Helper(lambda: _filled(sink, fill)) as helper:
            try:
                status = session.stream(
                    ("sh", "-c", RECEIVE, "rave-cp", *words),
                    stdin=source, on_output=said.take, timeout=LONGEST, sudo=sudo,
                )  # fmt: skip
            finally:
                # Whoever writes into it then hears that nobody reads any more.
                os.close(source)
            copied = helper.result(brief=status != 0)
    if status != 0 or copied is None:
        raise said.fault(machine, status)
    return copied


def _filled(sink: int, fill: Callable[[IO[bytes]], Copied]) -> Copied | None:
    """Return what was written; None if the guest wanted no more of it."""
    try:
        with os.fdopen(sink, "wb") as stream:
            return fill(stream)
    except BrokenPipeError:
        return None


def fetch(
    machine: Machine,
    source: str,
    target: Path,
    *,
    sudo: bool,
    leave_out: bool,
    on_total: OnTotal,
    on_bytes: OnBytes,
    most_members: int | None = None,
) -> Copied:
    """Copy a file or folder out of a machine, which may be hostile.

    Args:
        machine: the machine; it runs.
        source: a path in the guest.
        target: what it is called here; see placing.landing.
        sudo: whether root reads it.
        leave_out: leave out what must not be on this host, instead of refusing all.
        on_total: told how many bytes there are, as the guest says.
        on_bytes: told each piece.
        most_members: how many files and folders are taken; None any number.

    Raises:
        UnsafeContentError: CHECK_FAILED for content that must not be on this host.
        RaveError: USAGE if there is no `source`, or `target` is in the way; HOST if it cannot be
            written; NOT_READY if the guest cannot be reached.
    """
    with staging(target) as stage:

        def take(stream: IO[bytes]) -> Copied:
            return unpack(
                stream, stage, leave_out=leave_out, on_bytes=on_bytes, most_members=most_members
            )

        copied = _fetched(machine, (source, "tree"), take, sudo=sudo, on_total=on_total)
        with signals.held():
            content = stage / CONTENT
            place(stage, target, folder=content.is_dir() and not content.is_symlink())
    return copied


def fetch_stream(
    machine: Machine, source: str, target: int, *, sudo: bool, on_total: OnTotal, on_bytes: OnBytes
) -> Copied:
    """Copy a file of a machine to a descriptor.

    Raises:
        RaveError: as `fetch`.
    """

    def take(stream: IO[bytes]) -> Copied:
        copied = Copied(files=1)
        while data := stream.read1(CHUNK):  # type: ignore[attr-defined]
            write(target, data)
            copied.size += len(data)
            on_bytes(len(data))
        return copied

    return _fetched(machine, (source, "stream"), take, sudo=sudo, on_total=on_total)


class _StoppedError(Exception):
    """Whoever takes what the guest sends wants no more."""


def _fetched(
    machine: Machine,
    words: Sequence[str],
    take: Callable[[IO[bytes]], Copied],
    *,
    sudo: bool,
    on_total: OnTotal,
) -> Copied:
    """Let `take` read what the guest sends."""
    said, head = _Said(), _Head(on_total)
    with connect(machine) as session:
        source, sink = os.pipe()

        def pass_on(number: int, data: bytes) -> None:
            if number != 1:
                said.take(number, data)
                return
            try:
                write(sink, head.rest(data))
            except BrokenPipeError as error:
                raise _StoppedError from error

        with _Helper(lambda: _taken(source, take)) as helper:
            try:
                status = session.stream(
                    ("sh", "-c", SEND, "rave-cp", *words),
                    stdin=None, on_output=pass_on, timeout=LONGEST, sudo=sudo,
                )  # fmt: skip
            except _StoppedError:
                status = 0
            finally:
                os.close(sink)
            changed = status == 1 and words[1] == "tree"
            if status != 0 and not changed:
                raise said.fault(machine, status)
            copied = helper.result(brief=False)
    if copied is None:
        raise said.fault(machine, status)
    copied.remarks += said.lines
    return copied


def _taken(source: int, take: Callable[[IO[bytes]], Copied]) -> Copied:
    with os.fdopen(source, "rb", buffering=CHUNK) as stream:
        return take(stream)


class _Head:
    """The line before what a guest sends: what it is, and how many bytes it says there are."""

    LONGEST = 64

    def __init__(self, on_total: OnTotal) -> None:
        self.on_total = on_total
        self.data: bytes | None = b""

    def rest(self, data: bytes) -> bytes:
        """Return what stands behind the line."""
        if self.data is None:
            return data
        line, found, rest = (self.data + data).partition(b"\n")
        if not found:
            self.data = line
            if len(line) > self.LONGEST:
                raise UnsafeContentError("it does not begin as it should")
            return b""
        match = re.fullmatch(rb"(?:file|folder) ([0-9]{1,18})", line)
        if match is None:
            raise UnsafeContentError("it does not begin as it should")
        self.data = None
        self.on_total(int(match[1]))
        return rest


class _Said:
    """The beginning of what a guest's program says on standard error."""

    def __init__(self) -> None:
        self.data = bytearray()

    def take(self, number: int, data: bytes) -> None:
        """Keep a piece of it."""
        if number != 1:
            self.data += data[: MOST_SAID - len(self.data)]

    @property
    def lines(self) -> list[str]:
        """What it said, line by line."""
        return self.data.decode(errors="replace").splitlines()

    def fault(self, machine: Machine, status: int) -> RaveError:
        """Return what the end of the guest's program means."""
        lines = self.lines
        what = lines[-1] if lines else f"it ended with status {status}"
        if status == BAD_PATH:
            return RaveError(
                f"machine {machine.name}: {what}",
                hint=f"rave vm exec {machine.name} -- ls -la; --sudo copies as root",
                exit_code=ExitCode.USAGE,
            )
        if any(re.search("No space left|Disk quota|Wrote only", line) for line in lines):
            return RaveError(
                f"machine {machine.name} has no space left for it",
                hint=f"rave vm exec {machine.name} -- df -h",
                exit_code=ExitCode.NOT_READY,
                detail=tuple(lines[-8:]),
            )
        return RaveError(
            f"machine {machine.name} could not copy it: {what}",
            hint="--sudo copies as root, if it is a matter of rights",
            exit_code=ExitCode.NOT_READY,
            detail=tuple(lines[:-1][-8:]),
        )


class _Helper:
    """Work in a thread of its own while this one, which hears signals, talks to the guest."""

    def __init__(self, work: Callable[[], Copied | None]) -> None:
        self._work = work
        self._result: Copied | None = None
        self._fault: BaseException | None = None
        # A thread that waits for standard input does not keep a rave that ends.
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        try:
            self._result = self._work()
        except BaseException as error:  # noqa: BLE001 - raised again where it can be handled
            self._fault = error

    def __enter__(self) -> _Helper:
        self._thread.start()
        return self

    def __exit__(self, fault: type[BaseException] | None, *_rest: object) -> None:
        # Before what it works on goes, it has to be through with it.
        self._thread.join(1.0 if fault is not None else 0.0)

    def result(self, *, brief: bool) -> Copied | None:
        """Wait for its end, one second at most if `brief`, and return what came of it.

        Raises:
            BaseException: whatever went wrong in it.
        """
        self._thread.join(1.0 if brief else None)
        if self._fault is not None:
            raise self._fault
        return self._result
