"""Agents: each takes one job at a time, sees it through and says what came of it.

While it works, a keeper says so to the queue, and hears from it whether the job is the agent's
still and whether somebody wants it cancelled. Whatever the reason, an attempt is broken off in one
way: what runs it is ended under it.
"""

from __future__ import annotations

import logging
import math
import random
import threading
import time
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Literal, Protocol

from rave_cli.errors import ExitCode, RaveError
from rave_cli.pool.jobs.job import NO_FACTS, AttemptPhase
from rave_cli.pool.queue.streams import Fault

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rave_cli.pool.jobs.job import Artifact, AttemptFacts
    from rave_cli.pool.queue.streams import Outcome, Queue, Task

    OnOutput = Callable[[int, bytes], None]
    # What came of an attempt, nothing if that is another's to say; its exit status; and why.
    Came = tuple[Outcome | None, int | None, str]
    BrokenOff = Literal["", "cancelled", "timeout", "disk", "released", "lost"]

log = logging.getLogger("rave.pool")

# Seconds in which an agent notices that its job is cancelled, or that it is to stop.
NOTICES = 1.0

# Full jitter: random(0, min(most, first * 2^tries)) seconds. What fails together does not come back
# together (https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/).
FIRST_DELAY, MOST_DELAY = 2.0, 120.0

# Seconds for which a job that is given back rests: the agents beside its own stop, too, and none of
# them is to take it meanwhile.
GIVEN_BACK = 3 * NOTICES

# Output is passed on in pieces of so many bytes at most.
PIECE = 32 << 10
LEFT_OUT = b"\n(the rest of the output is left out)\n"


class UnfitJobError(RaveError):
    """What a job asks for cannot be had, however often it is tried: that is its failure."""


class NoRoomError(RaveError):
    """There is no memory now for what a job asks for: it waits again, and nothing is counted."""


class Sandbox(Protocol):
    """What a job is run in, once."""

    def prepare(self) -> None:
        """Make sure, before a job is taken, that one can begin at once.

        Raises:
            RaveError: none can now.
        """

    def run(self, task: Task, attempt: Attempt) -> int:
        """Run a task's command and return its exit status.

        Raises:
            UnfitJobError: it asks for what cannot be had.
            NoRoomError: it asks for what cannot be had now.
            RaveError: it could not be run, or what ran it was lost.
        """


class Attempt:
    """An attempt that is under way. It is broken off for one reason, the first."""

    def __init__(self, queue: Queue, agent: str, task: Task, stopping: threading.Event) -> None:
        self._queue, self._agent, self._task, self._stopping = queue, agent, task, stopping
        self._lock = threading.Lock()
        self._ends: Callable[[], None] | None = None
        self._over = threading.Event()
        self._room = task.work.most_output
        self._said = 0
        self._began = time.monotonic()
        self._phase: tuple[str, float] | None = ("restore", 0.0)
        self._written: Callable[[], int] = lambda: 0
        self.facts = NO_FACTS
        # A machine that hangs while it starts must come to an end, too.
        self._deadline = time.monotonic() + task.work.timeout
        self.broken_off: BrokenOff = ""

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Keep the job meanwhile."""
        keeper = threading.Thread(target=self._keep, name=f"keeper of {self._task.name}")
        keeper.start()
        try:
            yield
        finally:
            self._over.set()
            keeper.join()

    @contextmanager
    def ended_by(self, end: Callable[[], None]) -> Iterator[None]:
        """Let `end` be called in another thread when the attempt is broken off, until it ends.

        Raises:
            RaveError: it is broken off already.
        """
        with self._lock:
            self.go_on()
            self._ends = end
        try:
            yield
        finally:
            with self._lock:
                self._ends = None

    @property
    def left(self) -> float:
        """The seconds that are left for it."""
        return max(0.0, self._deadline - time.monotonic())

    def enters(self, phase: str | None) -> None:
        """It is at something else from now on; None at nothing any more."""
        now = round(time.monotonic() - self._began, 6)
        if self._phase is not None:
            ended = AttemptPhase(*self._phase, now)
            self.facts = replace(self.facts, phases=(*self.facts.phases, ended))
        self._phase = None if phase is None else (phase, now)

    def begins(self, image: str = "", template: str = "") -> None:
        """The command begins now, in a machine that was started from a template of an image."""
        self.enters("command")
        starting = round(time.monotonic() - self._began, 6)
        self.facts = replace(self.facts, image=image, template=template, starting=starting)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Do meanwhile what is done once for many jobs: it is not in the time of this one."""
        began, deadline = time.monotonic(), self._deadline
        self._deadline = math.inf
        self.enters("template")
        try:
            yield
        finally:
            self._deadline = deadline + time.monotonic() - began
            self.enters("restore")

    def written_by(self, size: Callable[[], int]) -> None:
        """Look from now on at how many bytes were written to the disk, as `size` says."""
        self._written = size

    def keeps(self, artifacts: tuple[Artifact, ...], executable: tuple[str, ...] = ()) -> None:
        """Note what was kept of what the command left, and the paths of what is executable."""
        self.facts = replace(self.facts, artifacts=artifacts, executable=executable)

    def finds_cache(self, left_by: str) -> None:
        """Note which attempt left what is in its cache."""
        self.facts = replace(self.facts, cache=left_by)

    def keeps_cache(self) -> None:
        """Note that what it left in its cache is kept."""
        self.facts = replace(self.facts, cached=True)

    def say(self, stream: int, data: bytes) -> None:
        """Pass on output, as much as is to be kept of it."""
        if self._room < 0:
            return
        left = self._room - len(data)
        if left < 0:
            data = data[: self._room] + LEFT_OUT
        self._room = left
        self._count(stream, len(data))
        for at in range(0, len(data), PIECE):
            self._said += 1
            while not self.broken_off and not self._tell(stream, data[at : at + PIECE]):
                self._over.wait(NOTICES / 4)

    def _tell(self, stream: int, piece: bytes) -> bool:
        """Pass a piece of output on; return whether there is nothing more to do about it."""
        try:
            if not self._queue.say(self._agent, self._task, stream, piece, self._said):
                self._break_off("lost")
        except Fault as error:
            # Until the queue is there again, or the keeper says that the job is another's.
            log.debug("output of %s waits: %s", self._task.name, error)
            return False
        return True

    def go_on(self) -> None:
        """Return while there is something to go on for.

        Raises:
            RaveError: it is broken off.
        """
        if self.broken_off:
            raise RaveError(
                f"the attempt is broken off: {self.broken_off}", exit_code=ExitCode.NOT_READY
            )

    def rest(self) -> None:
        """Let a moment pass."""
        self._over.wait(NOTICES)

    def hand_over(self, key: str, data: bytes, keep: int) -> None:
        """Put a piece of a file under a key of the queue's server, for so many seconds.

        Raises:
            RaveError: the job is the agent's no more.
            Fault: the server does not answer.
        """
        if not self._queue.hand_over(self._agent, self._task, key, data, keep):
            self._break_off("lost")
            self.go_on()

    def seen(self) -> AttemptFacts:
        """Return what is known of it now that it is at its end."""
        self.enters(None)
        if self.facts.starting is None:
            return self.facts
        ran = time.monotonic() - self._began - self.facts.starting
        return replace(self.facts, ran=round(ran, 6))

    def _count(self, stream: int, size: int) -> None:
        out, err = self.facts.printed
        printed = (out + size, err) if stream == 1 else (out, err + size)
        self.facts = replace(self.facts, printed=printed)

    def _keep(self) -> None:
        heard = time.monotonic()
        beat = self._queue.lease / 3
        while not self._over.wait(min(NOTICES, beat)):
            now = time.monotonic()
            if self._stopping.is_set():
                self._break_off("released")
            elif now > self._deadline:
                self._break_off("timeout")
            elif self._written() > self._task.work.most_disk:
                self._break_off("disk")
            try:
                found = self._queue.renew(self._agent, self._task)
                heard = now
            except Fault:
                # Another may have been given the job by now.
                found = "lost" if now - heard > self._queue.lease else "mine"
            if found == "lost":
                self._break_off("lost")
            elif found == "cancelling":
                self._break_off("cancelled")
            self._end()

    def _break_off(self, why: BrokenOff) -> None:
        with self._lock:
            self.broken_off = self.broken_off or why

    def _end(self) -> None:
        """End what runs an attempt that is broken off. If that fails it is done again soon."""
        with self._lock:
            if self.broken_off and self._ends is not None:
                try:
                    self._ends()
                except RaveError as error:
                    log.debug("%s does not end: %s", self._task.name, error.message)


class Agent:
    """One agent. When `stopping` is set it gives up the job that it has, which then waits again."""

    def __init__(
        self, name: str, queue: Queue, sandbox: Sandbox, stopping: threading.Event
    ) -> None:
        self.name = name
        self._queue, self._sandbox, self._stopping = queue, sandbox, stopping

    def turn(self, wait: float = NOTICES) -> bool:
        """Take a job and see it through; return whether there was one.

        Raises:
            Fault: the queue does not answer.
        """
        task = self._queue.take(self.name, wait=wait)
        if task is None:
            return False
        attempt = Attempt(self._queue, self.name, task, self._stopping)
        came = self._carry_out(task, attempt)
        self._settle(task, *came, attempt.seen())
        return True

    def leave(self) -> None:
        """Give the agent's name up."""
        try:
            self._queue.leave(self.name)
        except Fault as error:
            log.debug("%s stays known: %s", self.name, error)

    def _carry_out(self, task: Task, attempt: Attempt) -> Came:
        """Run a task; return what came of it, the exit status, and what there is to say."""
        status, fault = None, RaveError("nothing came of it", exit_code=ExitCode.NOT_READY)
        try:
            with attempt.kept():
                status = self._sandbox.run(task, attempt)
        except RaveError as error:
            fault = error
        except Exception as error:
            log.exception("%s has a fault", self.name)
            fault = RaveError(f"rave has a fault: {error!r}", exit_code=ExitCode.NOT_READY)
        if status is not None and attempt.broken_off != "lost":
            # It came to its end, whatever was about to break it off.
            return ("failure" if status else "success"), status, ""
        if attempt.broken_off:
            return _broken_off(task, attempt.broken_off)
        return _failed(fault)

    def _settle(
        self, task: Task, outcome: Outcome | None, status: int | None, why: str, facts: AttemptFacts
    ) -> None:
        """Say what came of a task, until the queue has heard it or has given the job to another."""
        wait = (
            GIVEN_BACK
            if outcome == "released"
            else delay(task.lost if outcome == "error" else task.failed)
        )
        until = time.monotonic() + self._queue.lease
        while outcome is not None:
            try:
                mine = self._queue.settle(
                    self.name, task, outcome, exit_status=status, why=why, delay=wait,
                    facts=replace(facts, came=outcome),
                )  # fmt: skip
            except Fault as error:
                log.debug("what came of %s is not heard: %s", task.name, error)
                if time.monotonic() > until:
                    return
                time.sleep(NOTICES / 2)
            else:
                log.debug("%s: %s%s", task.name, outcome, "" if mine else ", and nobody asked")
                return


def _broken_off(task: Task, why: BrokenOff) -> Came:
    if why == "timeout":
        return "timeout", None, f"it took longer than {task.work.timeout:g} s"
    if why == "disk":
        most = task.work.most_disk >> 20
        return "failure", None, f"its machine wrote more than {most} MiB to its disk"
    return (why if why in ("cancelled", "released") else None), None, ""


def _failed(fault: RaveError) -> Came:
    why = "; ".join((fault.message, *fault.detail[-1:]))
    if isinstance(fault, NoRoomError):
        return "released", None, why
    return ("failure" if isinstance(fault, UnfitJobError) else "error"), None, why


def delay(tries: int) -> float:
    """Return the seconds before the next attempt, after so many before the last one."""
    return random.uniform(0, min(MOST_DELAY, FIRST_DELAY * 2**tries))  # noqa: S311 - no secret
