"""What a job is run in: a machine of its own, started from a template and deleted afterwards.

There is none where there is no job; and whether there is memory for one more is measured each time,
for machines of one template share what they have not written.
"""

from __future__ import annotations

import logging
import secrets
import threading
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from rave_cli.errors import ExitCode, RaveError
from rave_cli.flows import templates
from rave_cli.machines import lifecycle, store
from rave_cli.machines.guest.connection import connect
from rave_cli.machines.names import stored_names
from rave_cli.machines.spec import machines_dir
from rave_cli.machines.templates import warm
from rave_cli.pool.agents import cachedisk, handover, outside, sizes
from rave_cli.pool.agents.agent import NoRoomError, UnfitJobError
from rave_cli.pool.agents.carrying import HostFiles
from rave_cli.pool.agents.masking import Masking
from rave_cli.pool.agents.room import NAME, Room, need_mib
from rave_cli.pool.agents.spares import IDLE, Spares
from rave_cli.pool.files import artifacts, caches

if TYPE_CHECKING:
    from pathlib import Path

    from rave_cli.flows.events import OnEvent
    from rave_cli.flows.machine import NewMachine
    from rave_cli.machines.spec import Machine
    from rave_cli.machines.templates.warm import PutBy
    from rave_cli.pool.agents.agent import Attempt
    from rave_cli.pool.agents.carrying import Carrier
    from rave_cli.pool.agents.lending import SecretLending
    from rave_cli.pool.jobs.job import Artifact
    from rave_cli.pool.jobs.work import Work
    from rave_cli.pool.queue.streams import Task
    from rave_cli.settings import Settings

log = logging.getLogger("rave.pool")

# Seconds beyond a job's own after which its guest is given up: its keeper has ended it by then.
MARGIN = 60.0

# Seconds for a guest to write what it holds back to its cache.
CLOSES = 60.0

# Of artifacts that are not there, or must not be here.
_UNFIT = (ExitCode.USAGE, ExitCode.CHECK_FAILED)

# Agents beside each other want one template, not one each.
_MAKING = threading.Lock()


@dataclass(frozen=True)
class MachineSandbox:
    """Runs each task in a new machine like `wanted`, one of `spares` if there is one. `on_event`
    is told of those; `lends` says which secrets jobs may read; `room` is the host's memory; caches
    take `most_cache` bytes; jobs may reach what `allows` has, if they ask; `files` has what jobs
    are given, and takes what they leave.
    """

    wanted: NewMachine
    settings: Settings
    on_event: OnEvent
    lends: SecretLending
    spares: Spares[PutBy]
    room: Room
    most_cache: int = caches.MOST
    allows: frozenset[str] = frozenset()
    files: Carrier = field(default_factory=HostFiles)

    def prepare(self) -> None:
        """Make sure that there is a template, which may take a boot.

        Raises:
            RaveError: as making one does.
        """
        with _MAKING:
            templates.get(self.wanted, self.settings, on_event=self.on_event)

    def run(self, task: Task, attempt: Attempt) -> int:
        """Run a task's command in a machine of its own and return its exit status. It begins as
        soon as the machine is itself, whatever its services are at.

        Raises:
            NoRoomError: it asks for more memory than there is now.
            RaveError: as starting a machine does; NOT_READY if the machine is lost meanwhile.
        """
        wanted = sizes.of_job(self.wanted, task.work)
        if wanted == self.wanted:
            return self._run_in(self._spare(), wanted, task, attempt)
        with self.room.resized(need_mib(wanted)) as lacks:
            if lacks:
                raise NoRoomError(lacks, exit_code=ExitCode.NOT_READY)
            with attempt.paused(), _MAKING:
                templates.get(wanted, self.settings, on_event=self.on_event)
            return self._run_in(None, wanted, task, attempt)

    def _run_in(self, spare: PutBy | None, wanted: NewMachine, task: Task, attempt: Attempt) -> int:
        name = spare.machine.name if spare else f"job-{task.name}-{task.attempt}"
        with attempt.ended_by(lambda: _end(name)):
            try:
                machine, status = self._run(name, spare, wanted, task, attempt)
                if status == 0 and task.work.cache and task.work.keeps_cache:
                    attempt.enters("cache")
                    self._keep_cache(machine, task, attempt)
                return status
            finally:
                attempt.enters("remove")
                remove(name)

    def _spare(self) -> PutBy | None:
        """Return a machine that stands by, of the template that there is now, and runs still."""
        while (spare := self.spares.take()) is not None:
            current = templates.get(self.wanted, self.settings, on_event=self.on_event)
            same = spare.template.record.digest == current.record.digest
            if same and spare.boot.returncode() is None:
                return spare
            discard(spare)
        return None

    def _begin(
        self, name: str, spare: PutBy | None, wanted: NewMachine, task: Task, attempt: Attempt
    ) -> Machine:
        if spare is not None:
            warm.go_on(spare)
            return spare.machine

        def lay(machine: Machine) -> None:
            if task.work.cache:
                attempt.finds_cache(caches.lay(self._owner(task), task.work.cache, machine))

        return templates.begin(
            replace(wanted, name=name), self.settings, on_event=self.on_event, on_made=lay
        )

    def _run(
        self, name: str, spare: PutBy | None, wanted: NewMachine, task: Task, attempt: Attempt
    ) -> tuple[Machine, int]:
        work = task.work
        # Before there is a machine: what is wrong with it needs none.
        values = self.lends.secrets(task)
        self._refuse_places(work)
        machine = self._begin(name, spare, wanted, task, attempt)
        attempt.written_by(lambda: sum(map(_size, (*machine.disks, machine.cache_disk))))
        origin = machine.spec.template
        maskings = {stream: Masking(values.values()) for stream in (1, 2)}

        def say(stream: int, data: bytes) -> None:
            attempt.say(stream, maskings[stream].take(data))

        with connect(machine) as session:
            attempt.enters("hand-over")
            if work.cache:
                cachedisk.lay_out(session, timeout=attempt.left + MARGIN)
            handover.lay_out(
                session,
                work,
                values,
                given=lambda: self.files.open_input(task, attempt),
                timeout=attempt.left + MARGIN,
            )
            attempt.begins(machine.spec.image.sha256, origin.digest if origin else "")
            patience = attempt.left + MARGIN
            words = handover.argv(task)
            if work.allow:
                status = outside.run(session, words, work.allow, on_output=say, timeout=patience)
            else:
                status = session.stream(words, stdin=None, on_output=say, timeout=patience)
        for stream, masking in maskings.items():
            attempt.say(stream, masking.flush())
        if work.artifacts:
            attempt.enters("artifacts")
            left = _collected(machine, task)
            executable = artifacts.executable(artifacts.place_of(task.name, task.attempt), left)
            self.files.deliver(task, attempt, left)
            attempt.keeps(left, executable)
        return machine, status

    def _refuse_places(self, work: Work) -> None:
        """Refuse a job that asks for what no job may reach."""
        refused = [place for place in work.allow if place not in self.allows]
        if refused:
            raise UnfitJobError(
                f"no job of this pool may reach {', '.join(refused)}",
                hint=f"rave pool serve --allow {refused[0]}",
                exit_code=ExitCode.USAGE,
            )

    def _owner(self, task: Task) -> str:
        """Return whose caches a job gets: pools that share a server may have users of one name."""
        return task.owner if self.lends.names is None else f"{task.owner}@{task.origin}"

    def _keep_cache(self, machine: Machine, task: Task, attempt: Attempt) -> None:
        """Keep what a job that has succeeded leaves in its cache. That it cannot be kept is no
        fault of the job.
        """
        key, left_by = task.work.cache, f"{task.name}-{task.attempt}"
        try:
            with connect(machine) as session:
                cachedisk.close(session, timeout=CLOSES)
            lifecycle.kill(machine)
            if attempt.broken_off != "lost":
                caches.keep(self._owner(task), key, machine, left_by, most=self.most_cache)
                attempt.keeps_cache()
        except RaveError as error:
            log.warning("the cache %s of job %s is not kept: %s", key, task.name, error.message)


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


def spares(wanted: NewMachine, settings: Settings, *, idle: float = IDLE) -> Spares[PutBy]:
    """Return what keeps machines like `wanted` that stand by, until none was asked for for `idle`
    seconds; none yet.
    """

    def make() -> PutBy:
        # Named as a job's: whoever serves next deletes what is left of it.
        new = replace(wanted, name=f"job-{secrets.token_hex(6)}-0")
        try:
            return templates.put_by(new, settings, on_event=lambda _event: None)
        except BaseException:
            remove(new.name)
            raise

    return Spares(make, discard, idle=idle)


def discard(spare: PutBy) -> None:
    """Delete a machine that stood by.

    Raises:
        RaveError: as `remove`.
    """
    remove(spare.machine.name)


def sweep() -> list[str]:
    """Delete the machines of agents that were killed; nobody else may serve. Return their names.

    Raises:
        RaveError: HOST if one cannot be deleted.
    """
    found = [name for name in stored_names() if NAME.fullmatch(name)]
    for name in found:
        remove(name)
    return found


def _end(name: str) -> None:
    """End a job's QEMU; its machine stays until whoever runs the job deletes it."""
    if name in stored_names():
        with suppress(RaveError):
            lifecycle.kill(store.load(name))
