"""What can be measured: one function each, which carries out one round and returns its seconds.

`benchmarks/` measures with the same functions, beside limits that hold for one kind of host.
"""

from __future__ import annotations

import secrets
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rave_cli import process
from rave_cli.errors import ExitCode, RaveError
from rave_cli.flows import image as images
from rave_cli.flows import machine as machines
from rave_cli.flows import plan as plans
from rave_cli.flows import prove, secure, templates
from rave_cli.machines import lifecycle, store
from rave_cli.machines import suspend as suspending
from rave_cli.machines.guest import connection
from rave_cli.machines.names import stored_names
from rave_cli.machines.qemu import processes
from rave_cli.secrets.store import place

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from rave_cli.flows.events import Event
    from rave_cli.machines.guest.readiness import Reached
    from rave_cli.machines.spec import Machine
    from rave_cli.profiles.catalog import Plan
    from rave_cli.profiles.names import Mode
    from rave_cli.settings import Settings

    Round = dict[str, float]

# Seconds for what should take a fraction of one.
PATIENCE = 60.0

# The name of the part that all others are parts of.
TOTAL = "total"


@dataclass(frozen=True)
class BenchSubject:
    """What is measured: a machine that runs, or new ones of a plan."""

    machine: Machine | None
    plan: Callable[[], Plan]
    mode: Mode
    settings: Settings

    @property
    def running(self) -> Machine:
        """The machine that runs."""
        assert self.machine is not None  # noqa: S101 - `measure` has seen to it
        return self.machine


@dataclass(frozen=True)
class Measure:
    """Something that can be measured.

    Attributes:
        name: its word on the command line.
        title: what is measured.
        carry_out: one round of it: the seconds of each part.
        of_machine: whether it is measured on a machine that runs.
        warms_up: whether the first round shows caches rather than costs.
        total: the part that the others add up to, if they do.
    """

    name: str
    title: str
    carry_out: Callable[[BenchSubject], Round]
    of_machine: bool = True
    warms_up: bool = False
    total: str | None = TOTAL


def rounded(found: Round) -> Round:
    """Return seconds as they are kept: to a tenth of a millisecond."""
    return {part: round(seconds, 4) for part, seconds in found.items()}


def _ignore(_event: Event) -> None:
    """Hear nothing: whoever tells how far a step is would be measured with it."""


def boot(subject: BenchSubject) -> Round:
    """Make a machine, start it until every service is healthy, stop it and delete it.

    What each stage took is from the stage before it; `total` from QEMU's start to the last.
    """
    plan = subject.plan()
    image = images.built(plan)
    name = f"bench-{secrets.token_hex(3)}"
    began = time.monotonic()
    machine = store.create(store.new_spec(plan, image, name=name, mode=subject.mode))
    found = {"create": time.monotonic() - began}
    watched = Stages(machine)
    try:
        lifecycle.start(machine, on_stage=watched.reached)
        found |= watched.between
        found["stop"] = lifecycle.stop(machine).seconds
    finally:
        lifecycle.delete(name, force=True)
    return found


def warm(subject: BenchSubject) -> Round:
    """Make a machine of a template, start it from that, run a command in it, wait until it is
    ready, stop it and delete it.

    `create` is its disk and keys; each stage is from the one before it. Its services begin to come
    up two seconds after the command.
    """
    name = f"bench-{secrets.token_hex(3)}"
    wanted = machines.NewMachine(subject.plan(), subject.mode, name=name)
    began = time.monotonic()
    try:
        there = templates.launch(wanted, subject.settings, on_event=_ignore, wait=False)
        itself = time.monotonic() - began
        machine = store.load(name)
        with connection.connect(machine) as session:
            session.run(("true",), timeout=PATIENCE)
        answered = time.monotonic() - began
        lifecycle.start(machine, on_stage=lambda _stage: None)
        ready = time.monotonic() - began
        stages = between({stage.name: stage.seconds for stage in there.stages})
        create = max(0.0, itself - stages.pop(TOTAL))
        return {
            "create": create,
            **stages,
            "first command": answered - itself,
            "ready": ready - answered,
            TOTAL: ready - create,
            "stop": lifecycle.stop(store.load(name)).seconds,
        }
    finally:
        if name in stored_names():
            lifecycle.delete(name, force=True)


def between(at: Mapping[str, float]) -> Round:
    """Return what each stage took from the one before, and the total, of when they were reached."""
    found: Round = {}
    before = 0.0
    for name, seconds in at.items():
        found[name], before = seconds - before, seconds
    return {**found, TOTAL: before}


class Stages:
    """Takes the stages of a boot as they are reached."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.at: dict[str, float] = {}
        # Seconds of CPU that QEMU had used, and from a report to its being noticed.
        self.cpu = 0.0
        self.notice = 0.0

    def reached(self, stage: Reached) -> None:
        """Take a stage."""
        self.at[stage.name] = stage.seconds
        if stage.name == "services":
            self.notice = time.time() - self.machine.stage_file.stat().st_mtime
            running = processes.find(self.machine)
            self.cpu = running.cpu_seconds if running is not None else 0.0

    @property
    def between(self) -> Round:
        """What each stage took from the one before, and the total."""
        return between(self.at)


def run_true(subject: BenchSubject) -> Round:
    """Run `true` in the guest: what connecting took, what the command did, and the whole of
    `rave vm exec`, Python's start included.
    """
    began = time.monotonic()
    with connection.connect(subject.running) as session:
        connected = time.monotonic()
        session.run(("true",), timeout=PATIENCE)
        done = time.monotonic()
    whole = _process("vm", "exec", subject.running.name, "--", "true")
    bare = _process("--version")
    return {
        "connect": connected - began,
        "true": done - connected,
        "rave vm exec": whole,
        "rave --version": bare,
    }


def _process(*words: str) -> float:
    """Return the seconds that a command of rave takes as a process of its own."""
    began = time.monotonic()
    done = process.run((sys.executable, "-m", "rave_cli", *words), timeout=PATIENCE)
    seconds = time.monotonic() - began
    if not done.ok:
        raise RaveError(
            f"rave {' '.join(words)} ended with {done.returncode}: {' '.join(done.tail(1))}",
            hint=f"rave {' '.join(words)}",
            exit_code=ExitCode.NOT_READY,
        )
    return seconds


def install_secrets(subject: BenchSubject) -> Round:
    """Bring the operator's secrets to the machine as `rave secrets install` does."""
    machine = subject.running
    plan = plans.of(machine, subject.plan, on_event=_ignore)
    began = time.monotonic()
    secure.install(machine, plan, place(None), on_event=_ignore)
    return {TOTAL: time.monotonic() - began}


def smoke(subject: BenchSubject) -> Round:
    """Ask every question of the suite; transcript and reports go to a directory that is removed."""
    machine = subject.running
    plan = plans.of(machine, subject.plan, on_event=_ignore)
    with tempfile.TemporaryDirectory() as output:
        asked = prove.Asked(output=Path(output))
        began = time.monotonic()
        run = prove.prove(machine, plan, subject.settings, on_event=_ignore, asked=asked)
        seconds = time.monotonic() - began
    if not prove.passed(run):
        bad = [f"{r.id}: {r.detail}" for r in run.results if r.status in ("fail", "error")]
        raise RaveError(
            f"the run that was measured found something: {'; '.join(bad[:3])}",
            hint=f"rave smoke run --vm {machine.name}",
            exit_code=ExitCode.CHECK_FAILED,
        )
    return {**run.phase_seconds, TOTAL: seconds}


def suspend(subject: BenchSubject) -> Round:
    """Suspend the machine and let it go on; then its first answer."""
    machine = subject.running
    size = suspending.suspend(machine)
    gone = suspending.resume(store.load(machine.name))
    began = time.monotonic()
    with connection.connect(store.load(machine.name)) as session:
        session.run(("true",), timeout=PATIENCE)
    return {
        "suspend": size.seconds,
        "resume": gone.seconds,
        "first answer": time.monotonic() - began,
    }


MEASURES: Mapping[str, Measure] = {
    found.name: found
    for found in (
        Measure("boot", "from nothing to every service healthy, and back", boot, of_machine=False),
        # The first round makes the template, if there is none.
        Measure(
            "warm", "from a template to ready, and back", warm, of_machine=False, warms_up=True
        ),
        Measure("exec", "one command in a guest", run_true, warms_up=True, total=None),
        Measure("secrets", "the secrets of a machine, installed", install_secrets, warms_up=True),
        Measure("smoke", "every check of a machine", smoke),
        Measure("suspend", "a machine to disk and back", suspend, total=None),
    )
}
