"""What a machine left to read: console, QEMU's own words, the guest's reports, its journal."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rave_cli.errors import ExitCode, RaveError
from rave_cli.machines.guest.stages import read_events
from rave_cli.machines.logfiles import CHUNK, Tail, dropped, last_lines
from rave_cli.machines.qemu import processes
from rave_cli.text import clean

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from rave_cli.machines.spec import Machine

# How often a followed log is read, in seconds.
GLANCE = 0.1

# Bytes to which a line without end is cut.
LONGEST_LINE = 64 << 10

# Bytes of what journalctl says of a fault.
MOST_SAID = 4096

# Seconds that a journal is followed, and in which a machine stops that ends its connections.
LONGEST_FOLLOW = 7 * 24 * 3600.0
STOPS = 10.0


def lines(machine: Machine, path: Path, *, last: int | None, follow: bool) -> Iterator[str]:
    """Yield the lines of a log, without what a terminal would take for more than text.

    Args:
        machine: whose log it is; following ends when it no longer runs.
        path: the log.
        last: only so many of the last lines that are there now; None for all.
        follow: go on with what is added.

    Raises:
        RaveError: HOST if the log cannot be read.
    """
    tail = Tail(path)
    if last is not None:
        yield from last_lines(path, last)
        tail.skip()
    elif (lost := dropped(path)) > 0:
        yield f"({lost} bytes before this were dropped)"
    rest = b""
    while True:
        runs = follow and processes.find(machine) is not None
        while data := tail.read(CHUNK):
            whole, rest = _cut(rest + data)
            yield from (_text(line) for line in whole)
        if not runs:
            break
        time.sleep(GLANCE)
    if rest:
        yield _text(rest)


def _cut(data: bytes) -> tuple[list[bytes], bytes]:
    """Return the lines that are whole, and what is left of the last."""
    *whole, rest = data.split(b"\n")
    while len(rest) > LONGEST_LINE:
        whole.append(rest[:LONGEST_LINE])
        rest = rest[LONGEST_LINE:]
    return whole, rest


def _text(line: bytes) -> str:
    return clean(line.decode(errors="replace").rstrip("\r"))


@dataclass(frozen=True)
class JournalQuery:
    """What of a guest's journal is asked for.

    Attributes:
        units: only what these units said; all if there are none.
        since: only what was said since then, as journalctl(1) takes it; by the guest's clock.
        last: only so many of the last lines; None for all since `since`.
    """

    units: tuple[str, ...] = ()
    since: str | None = None
    last: int | None = None

    @property
    def argv(self) -> tuple[str, ...]:
        """The command that answers it in the guest."""
        # Words of a user's stand behind their option's name, so that none is an option.
        return (
            "journalctl",
            "--no-pager",
            *(f"--unit={unit}" for unit in self.units),
            *([f"--since={self.since}"] if self.since is not None else []),
            *([f"--lines={self.last}"] if self.last is not None else []),
        )


def journal(machine: Machine, query: JournalQuery) -> Iterator[str]:
    """Yield the lines of the guest's journal, read over SSH.

    Raises:
        RaveError: NOT_READY if the machine cannot be reached, USAGE if journalctl refuses.
    """
    from rave_cli.machines.guest.ssh import connect

    with connect(machine) as session:
        done = session.run(query.argv, timeout=60, sudo=True)
    if not done.ok:
        raise _refused(machine, done.tail())
    yield from (clean(line) for line in done.text.splitlines())


def follow_journal(machine: Machine, query: JournalQuery, on_line: Callable[[str], None]) -> None:
    """Pass the lines of the guest's journal on as they come, until the machine stops.

    Raises:
        RaveError: NOT_READY if it cannot be reached or the connection breaks while it runs; USAGE
            if journalctl refuses.
    """
    from rave_cli.machines.guest.ssh import connect

    rest, said = b"", bytearray()

    def take(number: int, data: bytes) -> None:
        nonlocal rest
        if number != 1:
            said.extend(data[: MOST_SAID - len(said)])
            return
        whole, rest = _cut(rest + data)
        for line in whole:
            on_line(_text(line))

    try:
        with connect(machine) as session:
            argv = (*query.argv, "--follow")
            status = session.stream(
                argv, stdin=None, on_output=take, timeout=LONGEST_FOLLOW, sudo=True
            )
    except RaveError:
        if not _stops(machine):
            raise
    else:
        if status > 0 and not _stops(machine):
            raise _refused(machine, tuple(said.decode(errors="replace").splitlines()))


def _stops(machine: Machine) -> bool:
    """Return whether a machine is stopped, or is so within a few seconds."""
    deadline = time.monotonic() + STOPS
    while (running := processes.find(machine)) is not None:
        if time.monotonic() > deadline:
            return any(report.stage == "stopping" for report in read_events(machine.stage_file))
        with processes.held(running) as pidfd:
            if pidfd is not None:
                processes.ended(pidfd, max(0.0, deadline - time.monotonic()))
    return True


def _refused(machine: Machine, said: tuple[str, ...]) -> RaveError:
    return RaveError(
        f"the journal of machine {machine.name} cannot be read:"
        f" {said[-1] if said else 'journalctl does not say why'}",
        hint="times are such as '-10min', 'today' or '2026-11-25 12:00', by the guest's clock",
        exit_code=ExitCode.USAGE,
    )
