"""Follows what machines do, at next to no cost: files are only looked at, and QEMU's end wakes us.

What can change without leaving a trace in a file, such as a guest that is paused, is asked for now
and then.
"""

from __future__ import annotations

import os
import select
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal, Self

from rave_cli.errors import RaveError
from rave_cli.machines import status, store
from rave_cli.machines.guest.stages import read_events
from rave_cli.machines.names import stored_names
from rave_cli.machines.qemu import processes
from rave_cli.machines.spec import machines_dir
from rave_cli.machines.states import DELETED

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from rave_cli.machines.guest.stages import StageEvent
    from rave_cli.machines.spec import Machine

# Seconds between two looks at the files (benchmarks/bench_watch.py says what they cost).
GLANCE = 0.2

# Seconds between two questions to a QEMU that leaves no trace meanwhile.
ASKS = 5.0

# Seconds between two questions to one that did not answer.
ASKS_AGAIN = 0.5

# Seconds after which a QEMU that was started has its monitor, unless something is wrong.
QEMU_STARTS = 2.0


@dataclass(frozen=True)
class MachineChange:
    """Something that changed about a machine, and what else is known of it now.

    Attributes:
        time: when it was seen, RFC 3339 in UTC.
        machine: its name.
        what: whether its state changed or its guest reached a stage.
        state: the state now: one of STATES, `deleted`, or how its record cannot be read.
        detail: why, where that is worth a line.
        stage: what the guest reported last in this boot.
        boot: the id of the guest's boot.
        pid: of its QEMU.
    """

    time: str
    machine: str
    what: Literal["state", "stage"]
    state: str
    detail: str = ""
    stage: str | None = None
    boot: str | None = None
    pid: int | None = None


def watch(
    names: Sequence[str] = (), *, until: int | None = None, seconds: float | None = None
) -> Iterator[MachineChange]:
    """Yield what every machine, or those of these names, does now, and each change of it.

    Machines that are made later are seen, too; one that is deleted is told as such.

    Args:
        names: the machines; none for all.
        until: a descriptor; once nobody reads what is written to it, this ends.
        seconds: how long; None for ever.

    Raises:
        RaveError: USAGE if there is no machine of a name.
    """
    for name in names:
        store.load(name)
    began = time.monotonic()
    with Watcher(names) as watcher:
        while True:
            yield from watcher.look()
            left = GLANCE if seconds is None else seconds - (time.monotonic() - began)
            if left <= 0 or watcher.sleep(min(GLANCE, left), until):
                return


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


# What tells that a file was changed or replaced; None if it is not there.
Trace = tuple[int, int, int] | None


def _trace(path: Path) -> Trace:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


@dataclass
class _Known:
    """What is known of one machine, and the traces by which it is noticed that this is old."""

    last: MachineChange
    machine: Machine | None
    traces: tuple[Trace, ...]
    asked: float
    reports: tuple[StageEvent, ...] = ()
    process: processes.Process | None = None
    pidfd: int | None = None

    @property
    def unsettled(self) -> bool:
        """Whether its monitor did not answer, which leaves no trace when it does."""
        return self.last.state == "unresponsive" or (
            self.last.state == "starting" and not self.reports
        )

    def release(self) -> None:
        """Give the descriptor of its process back."""
        if self.pidfd is not None:
            os.close(self.pidfd)
            self.pidfd = None


class Watcher:
    """Looks at machines; use as a context manager."""

    def __init__(self, names: Sequence[str]) -> None:
        self._wanted = tuple(names)
        self._known: dict[str, _Known] = {}
        self._ended: set[str] = set()
        self._place: Trace = None
        self._names: tuple[str, ...] = ()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_fault: object) -> None:
        for known in self._known.values():
            known.release()

    def look(self) -> list[MachineChange]:
        """Return what has changed since the last look; the first time, how everything is."""
        found: list[MachineChange] = []
        present = self._present()
        for name in [name for name in self._known if name not in present]:
            self._known.pop(name).release()
            found.append(MachineChange(_now(), name, "state", DELETED))
        among: list[processes.Process] | None = None
        for name in present:
            known = self._known.get(name)
            if known is not None and not self._stale(name, known):
                continue
            if known is None or known.process is None or self._over(name, known):
                among = processes.machines() if among is None else among
                found += self._ask(name, known, among)
            else:
                found += self._ask(name, known, [known.process])
        self._ended.clear()
        return found

    def sleep(self, seconds: float, until: int | None = None) -> bool:
        """Wait, less if a QEMU ends; returns whether nobody reads `until` any more."""
        poll = select.poll()
        names = {}
        for name, known in self._known.items():
            if known.pidfd is not None:
                poll.register(known.pidfd, select.POLLIN)
                names[known.pidfd] = name
        if until is not None:
            poll.register(until, 0)
        ready = [fd for fd, _ in poll.poll(seconds * 1000)]
        self._ended = {names[fd] for fd in ready if fd in names}
        return until in ready

    def _present(self) -> tuple[str, ...]:
        """Return the names of the machines that there are."""
        place = _trace(machines_dir())
        if place != self._place or place is None:
            self._place, self._names = place, tuple(stored_names())
        return tuple(n for n in self._names if not self._wanted or n in self._wanted)

    def _over(self, name: str, known: _Known) -> bool:
        """Return whether the QEMU that is known of a machine has ended, be it during the look that
        found it.
        """
        return name in self._ended or (known.process is not None and known.pidfd is None)

    def _stale(self, name: str, known: _Known) -> bool:
        if self._over(name, known) or _traces(name, known.machine) != known.traces:
            return True
        wait = ASKS_AGAIN if known.unsettled else ASKS
        return known.process is not None and time.monotonic() - known.asked > wait

    def _ask(
        self, name: str, known: _Known | None, among: Sequence[processes.Process]
    ) -> list[MachineChange]:
        """Look closely at a machine; return what is new."""
        try:
            machine = store.load(name, among)
        except RaveError as error:
            entry = store.Unreadable(name, error)
            now = MachineChange(_now(), name, "state", entry.state, error.message)
            fresh = _Known(now, None, _traces(name, None), time.monotonic())
        else:
            # Before the look: what comes after it is then seen by the next one.
            traces = _traces(name, machine)
            seen, reports = status.of(machine, among), tuple(read_events(machine.stage_file))
            state = seen.state
            if state == "unresponsive" and (seen.uptime or 0) < QEMU_STARTS:
                state = "starting"
            now = MachineChange(
                _now(), name, "state", state, seen.detail, seen.stage, seen.boot, seen.pid
            )
            running = seen.process
            fresh = _Known(
                now, machine, traces, time.monotonic(), reports if running else (), running
            )
        if known is not None:
            known.release()
        if fresh.process is not None:
            fresh.pidfd = processes.hold(fresh.process)
        self._known[name] = fresh
        return _news(known, fresh)


def _traces(name: str, machine: Machine | None) -> tuple[Trace, ...]:
    """Return what shows that a machine was started, reported something or had its record changed.

    Each of them makes or replaces a file of its directory.
    """
    if machine is None:
        return (_trace(machines_dir() / name),)
    return _trace(machine.directory), _trace(machine.stage_file), _trace(machine.qmp_socket)


def _news(known: _Known | None, fresh: _Known) -> list[MachineChange]:
    """Return what of a close look was not known before: each new stage, and the state."""
    now = fresh.last
    if known is None:
        return [now]
    found = list(_stages(known, fresh))
    if (now.state, now.pid) != (known.last.state, known.last.pid):
        found.append(now)
    return found


def _stages(known: _Known, fresh: _Known) -> Iterator[MachineChange]:
    """Yield the stages that the guest has reported since, each with the state it meant."""
    reports, before = fresh.reports, known.reports
    same = before and reports and reports[0] == before[0] and len(reports) >= len(before)
    for number in range(len(before) if same else 0, len(reports)):
        report = reports[number]
        if number and reports[number - 1].stage == report.stage:
            continue
        state, detail = status.judge(reports[: number + 1])
        yield replace(
            fresh.last, what="stage", stage=report.stage, boot=report.boot, state=state,
            detail=detail,
        )  # fmt: skip
