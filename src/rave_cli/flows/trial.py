"""Try another system with a machine's data: it stays if it proves itself, and else what was before
comes back, system and data.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rave_cli import signals
from rave_cli.errors import ExitCode, RaveError
from rave_cli.flows import machine as machines
from rave_cli.flows import prove, secure, unsettled
from rave_cli.flows.events import Event, step
from rave_cli.flows.restore_new import wait_until_healthy
from rave_cli.machines import generations, store, suspend, underway
from rave_cli.machines.qemu import processes

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from rave_cli.flows.events import OnEvent
    from rave_cli.images.manifest import Image
    from rave_cli.machines.lifecycle import Ready
    from rave_cli.machines.spec import Machine
    from rave_cli.machines.underway import Change, Kind
    from rave_cli.profiles.catalog import Plan
    from rave_cli.settings import Settings
    from rave_cli.smoke.model import SmokeRun

# How many checks that failed are named.
SHOWN = 4


@dataclass(frozen=True)
class Tried:
    """A system that has proved itself. `downtime` in seconds: from the order to stop until all
    services of the new one were healthy and had what they keep; `run` is None if no check was asked
    for.
    """

    machine: Machine
    ready: Ready
    run: SmokeRun | None
    downtime: float


@dataclass(frozen=True)
class SystemTrial:
    """A system to be tried.

    Attributes:
        machine: the machine.
        image: what its system is to be.
        plan: the image's.
        kind: for what it is tried.
        settings: the operator's.
        runs: whether the machine is to run afterwards.
        check: whether to run the smoke suite.
        on_event: told what happens.
        fetch: takes the data out of the old system, at the last moment before it stops, and returns
            what puts them into the new one, which begins with an empty data disk; None if that goes
            on with the machine's own.
        last: what the old system does last, when nothing is to be written to its data any more;
            None if that is nothing.
    """

    machine: Machine
    image: Image
    plan: Plan
    kind: Kind
    settings: Settings
    runs: bool
    check: bool
    on_event: OnEvent
    fetch: Callable[[Machine], Callable[[Machine], None]] | None = None
    last: Callable[[Machine], None] | None = None

    def run(self) -> Tried:
        """Try it. The caller is alone with the machine.

        Raises:
            RaveError: of what went wrong; by then the machine is as it was, unless that is said.
        """
        machine = self.machine
        disks = machine.disks[-1:] if self.fetch is None else ()
        suspend.refuse_full_disk(machine, sum(disk.stat().st_size for disk in disks) >> 20)
        try:
            change = generations.begin(machine, self.kind, self.image, runs=self.runs)
            done = self._try(change)
        except BaseException as fault:
            told = self._taken_back(fault)
            if told is fault:
                raise
            raise told from fault
        return done

    def _try(self, change: Change) -> Tried:
        machine, on_event = self.machine, self.on_event
        generations.prepare(machine, self.image, self.plan, data=self.fetch is not None)
        fill = None if self.fetch is None else self.fetch(machine)
        began = time.monotonic()
        change = self._stop(change)
        if fill is None:
            with step(on_event, "keep", f"Keeping the data of {machine.name} as they are"):
                generations.keep_data(machine)
        machine, change = generations.put_in_place(machine, change)
        ready = machines.boot(machine, on_event=on_event)
        served = time.monotonic()
        self._complete(ready.machine, fill)
        if fill is not None:
            # Until then its services had nothing of what they keep.
            served = time.monotonic()
        run = self._proved(ready.machine)
        if not change.runs:
            machines.stop(ready.machine, on_event=on_event)
        generations.keep(ready.machine, change)
        return Tried(store.load(machine.name), ready, run, served - began)

    def _stop(self, change: Change) -> Change:
        if processes.find(self.machine) is None:
            return change
        change = generations.stopping(self.machine, change)
        if self.last is not None:
            self.last(self.machine)
        report = machines.stop(self.machine, on_event=self.on_event)
        if report.hard:
            raise RaveError(
                f"machine {self.machine.name} does not shut down in order, so its data may not be"
                " whole",
                hint=f"rave vm logs {self.machine.name}",
                exit_code=ExitCode.HOST,
            )
        return change

    def _complete(self, machine: Machine, fill: Callable[[Machine], None] | None) -> None:
        """Give the new system what it lacks, and wait until all its services are well with it."""
        on_event = self.on_event
        secure.install_if_any(machine, self.plan, None, on_event=on_event)
        if fill is not None:
            fill(machine)
        with step(on_event, "health", f"Waiting until {machine.name} is healthy"):
            wait_until_healthy(machine)

    def _proved(self, machine: Machine) -> SmokeRun | None:
        """Let the new system prove itself."""
        if not self.check:
            return None
        run = prove.prove(machine, self.plan, self.settings, on_event=self.on_event)
        if not prove.passed(run):
            raise _failed(run)
        return run

    def _taken_back(self, fault: BaseException) -> BaseException:
        """Put back what was before; returns what is to be raised."""
        name = self.machine.name
        machine = store.load(name)
        change = underway.read(machine)
        if change is None:
            return fault
        why = _why(fault)
        self.on_event(Event("warning", "update", f"{change.told} fails: {why}; it is taken back"))
        try:
            aside, told = self._back(machine, change, why)
        except RaveError as other:
            other.message = f"{change.told} of machine {name} failed ({why}), and {other.message}"
            other.detail += (f"rave vm start {name} goes on with putting it back",)
            return other
        if not isinstance(fault, RaveError):
            self.on_event(Event("note", "update", told))
            return fault
        error = RaveError(
            f"{told}; it was taken back because {why}",
            hint=_way_in(name) if aside and fault.exit_code == ExitCode.NOT_READY else fault.hint,
            exit_code=fault.exit_code,
            detail=fault.detail,
        )
        error.data = {"rolledBack": True, **change.document}
        return error

    def _back(self, machine: Machine, change: Change, why: str) -> tuple[Path | None, str]:
        if (
            change.step in ("stopping", "trying", "exchanging")
            and processes.find(machine) is not None
        ):
            machines.stop(machine, on_event=self.on_event)
        if change.step == "keeping":
            generations.settle(machine, change)
            return None, f"machine {machine.name} has its new system"
        machine, aside = generations.go_back(machine, change, why)
        told = f"machine {machine.name} is as it was before the {change.kind}, system and data"
        if change.runs and processes.find(machine) is None:
            machines.boot(machine, on_event=self.on_event)
        if aside is not None:
            text = unsettled.told_aside(machine, aside)
            self.on_event(Event("note", "update", text))
        return aside, told


def _why(fault: BaseException) -> str:
    if isinstance(fault, RaveError):
        return fault.message
    ended = signals.interruption(fault)
    return f"{ended.number.name} arrived" if ended is not None else repr(fault)


def _way_in(name: str) -> str:
    """Return how to look into a system that failed: what the machine has now is the one before."""
    undo = f"rave vm rollback {name} --undo"
    return (
        f"{undo}; then rave vm start {name} --keep-running has the system that failed run, to look"
        f" into it; {undo} again brings back this one"
    )


def _failed(run: SmokeRun) -> RaveError:
    wrong = [result.id for result in run.results if result.status in ("fail", "error")]
    shown = ", ".join(wrong[:SHOWN]) + (f" and {len(wrong) - SHOWN} more" if wrong[SHOWN:] else "")
    return RaveError(
        f"the new system does not pass the smoke suite: {shown or run.status}",
        hint=f"its transcript is {run.files.get('transcript', 'not written')}; --skip-smoke leaves"
        " the suite out",
        exit_code=ExitCode.CHECK_FAILED,
    )
