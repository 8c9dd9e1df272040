"""What a job is run in: a machine of its own, started from a template and deleted afterwards.

There is none where there is no job; and whether there is memory for one more is measured each time,
for machines of one template share what they have not written.
"""

from __future__ import annotations

import re
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from rave_cli.errors import ExitCode, RaveError
from rave_cli.flows import machine as machines
from rave_cli.machines import lifecycle, preflight, store
from rave_cli.machines.guest.connection import connect
from rave_cli.machines.names import stored_names
from rave_cli.machines.qemu import accelerator, processes
from rave_cli.machines.spec import machines_dir
from rave_cli.pool import artifacts, handover
from rave_cli.pool.agents import UnfitJobError
from rave_cli.pool.masking import Masking

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rave_cli.flows.events import OnEvent
    from rave_cli.flows.machine import NewMachine
    from rave_cli.machines.spec import Machine
    from rave_cli.pool.agents import Attempt
    from rave_cli.pool.jobs import Artifact
    from rave_cli.pool.queue import Task
    from rave_cli.settings import Settings

NAME = re.compile(r"job-[0-9a-f]{12}-[0-9]{1,6}")

# Seconds beyond a job's own after which its guest is given up: its keeper has ended it by then.
MARGIN = 60.0

# Of artifacts that are not there, or must not be here.
_UNFIT = (ExitCode.USAGE, ExitCode.CHECK_FAILED)

# Agents beside each other want one template, not one each.
_MAKING = threading.Lock()


@dataclass(frozen=True)
class MachineSandbox:
    """Runs each task in a new machine like `wanted`. `on_event` is told of those; `lends` says
    whether jobs may read secrets of whoever serves.
    """

    wanted: NewMachine
    settings: Settings
    on_event: OnEvent
    lends: bool

    def prepare(self) -> None:
        """Make sure that there is a template, which may take a boot.

        Raises:
            RaveError: as making one does.
        """
        with _MAKING:
            machines.template(self.wanted, self.settings, on_event=self.on_event)

    def run(self, task: Task, attempt: Attempt) -> int:
        """Run a task's command in a machine of its own and return its exit status. It begins as
        soon as the machine is itself, whatever its services are at.

        Raises:
            RaveError: as starting a machine does; NOT_READY if the machine is lost meanwhile.
        """
        name = f"job-{task.name}-{task.attempt}"
        with attempt.ended_by(lambda: _end(name)):
            try:
                return self._run(replace(self.wanted, name=name), task, attempt)
            finally:
                remove(name)

    def _run(self, wanted: NewMachine, task: Task, attempt: Attempt) -> int:
        work = task.work
        # Before there is a machine: what is wrong with it needs none.
        values = handover.secrets(work, lent=self.lends)
        machine = machines.begin(wanted, self.settings, on_event=self.on_event)
        attempt.written_by(lambda: _size(machine.disk))
        origin = machine.spec.template
        maskings = {stream: Masking(values.values()) for stream in (1, 2)}

        def say(stream: int, data: bytes) -> None:
            attempt.say(stream, maskings[stream].take(data))

        with connect(machine) as session:
            handover.lay_out(session, work, values, timeout=attempt.left + MARGIN)
            attempt.begins(machine.spec.image.sha256, origin.digest if origin else "")
            status = session.stream(
                handover.argv(task),
                stdin=None,
                on_output=say,
                timeout=attempt.left + MARGIN,
            )
        for stream, masking in maskings.items():
            attempt.say(stream, masking.flush())
        if work.artifacts:
            attempt.keeps(_collected(machine, task))
        return status


def _collected(machine: Machine, task: Task) -> tuple[Artifact, ...]:
    place = artifacts.place_of(task.name, task.attempt)
    try:
        return artifacts.collect(machine, task.work, place, handover.FOLDER)
    except BaseException as error:
        artifacts.remove(place)
        if isinstance(error, RaveError) and error.exit_code in _UNFIT:
            raise UnfitJobError(
                error.message, hint=error.hint, exit_code=error.exit_code
            ) from error
        raise


def _size(disk: Path) -> int:
    """Return the bytes that a disk takes here."""
    try:
        return disk.stat().st_blocks * 512
    except OSError:
        return 0


def remove(name: str) -> None:
    """Delete a job's machine, if there is one.

    Raises:
        RaveError: HOST if even SIGKILL does not end it.
    """
    if name in stored_names():
        lifecycle.delete(name, force=True)
    # No other machine will have that name: nobody waits for its lock.
    with suppress(OSError):
        (machines_dir() / f".{name}.lock").unlink()


def sweep() -> list[str]:
    """Delete the machines of agents that were killed; nobody else may serve. Return their names.

    Raises:
        RaveError: HOST if one cannot be deleted.
    """
    found = [name for name in stored_names() if NAME.fullmatch(name)]
    for name in found:
        remove(name)
    return found


class Room:
    """The memory of this host, of which each job's machine may need `need_mib`."""

    def __init__(self, need_mib: int) -> None:
        self._need = need_mib
        self._lock = threading.Lock()
        self._kept = 0

    @contextmanager
    def kept(self) -> Iterator[str]:
        """Keep room for a machine meanwhile; yields why there is none, or nothing."""
        with self._lock:
            lacks = self._lacks()
            self._kept += not lacks
        try:
            yield lacks
        finally:
            with self._lock:
                self._kept -= not lacks

    def _lacks(self) -> str:
        available = preflight.available_mib()
        if available is None:
            return ""
        # What those that have room kept for them may still take.
        promised = max(0, self._kept * self._need - private_mib()) if self._kept else 0
        if available - promised >= self._need:
            return ""
        said = f"a machine may take {self._need} MiB, and {available} MiB are available"
        return said + (f", of which others may still take {promised}" if promised else "")


def need_mib(wanted: NewMachine) -> int:
    """Return the MiB that a machine needs if it touches all its memory."""
    planned = wanted.plan.resources.of(wanted.mode).memory_mib
    return preflight.needed_mib(wanted.memory_mib or planned, accelerator.detect().kind)


def private_mib() -> int:
    """Return the MiB that the machines of jobs have for themselves, not shared with a template."""
    found = 0
    for process in processes.machines():
        place = process.directory
        if place is not None and place.parent == machines_dir() and NAME.fullmatch(place.name):
            found += _anonymous_mib(process.pid)
    return found


def _anonymous_mib(pid: int) -> int:
    with suppress(OSError):
        text = Path(f"/proc/{pid}/status").read_text()
        found = re.search(r"^RssAnon:\s+(\d+) kB", text, re.MULTILINE)
        return int(found[1]) >> 10 if found else 0
    return 0


def _end(name: str) -> None:
    """End a job's QEMU; its machine stays until whoever runs the job deletes it."""
    if name in stored_names():
        with suppress(RaveError):
            lifecycle.kill(store.load(name))
