"""Agents: each takes one job at a time, sees it through and says what came of it.

While it works, a keeper says so to the queue, and hears from it whether the job is the agent's
still and whether somebody wants it cancelled. Whatever the reason, an attempt is broken off in one
way: what runs it is ended under it.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Literal, Protocol

from rave_cli.errors import ExitCode, RaveError
from rave_cli.pool.jobs import NO_FACTS
from rave_cli.pool.queue import Fault

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rave_cli.pool.jobs import Artifact, AttemptFacts
    from rave_cli.pool.queue import Outcome, Queue, Task

    OnOutput = Callable[[int, bytes], None]
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
        self._began = time.monotonic()
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
            if self.broken_off:
                raise RaveError(
                    f"the attempt is broken off: {self.broken_off}", exit_code=ExitCode.NOT_READY
                )
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

    def begins(self, image: str = "", template: str = "") -> None:
        """The command begins now, in a machine that was started from a template of an image."""
        starting = round(time.monotonic() - self._began, 6)
        self.facts = replace(self.facts, image=image, template=template, starting=starting)

    def written_by(self, size: Callable[[], int]) -> None:
        """Look from now on at how many bytes were written to the disk, as `size` says."""
        self._written = size

    def keeps(self, artifacts: tuple[Artifact, ...]) -> None:
        """Note what was kept of what the command left."""
        self.facts = replace(self.facts, artifacts=artifacts)

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
            try:
                piece = data[at : at + PIECE]
                if not self._queue.say(self._agent, self._task, stream, piece):
                    self._break_off("lost")
            except Fault as error:
                log.debug("output of %s is lost: %s", self._task.name, error)

    def seen(self) -> AttemptFacts:
        """Return what is known of it now that it is at its end."""
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

    def _carry_out(self, task: Task, attempt: Attempt) -> tuple[Outcome | None, int | None, str]:
        """Run a task; return what came of it, the exit status, and what there is to say."""
        status, why, unfit = None, "", False
        try:
            with attempt.kept():
                status = self._sandbox.run(task, attempt)
        except UnfitJobError as error:
            why, unfit = "; ".join((error.message, *error.detail[-1:])), True
        except RaveError as error:
            why = "; ".join((error.message, *error.detail[-1:]))
        except Exception as error:
            log.exception("%s has a fault", self.name)
            why = f"rave has a fault: {error!r}"
        if status is not None and attempt.broken_off != "lost":
            # It came to its end, whatever was about to break it off.
            return ("failure" if status else "success"), status, ""
        if attempt.broken_off == "lost":
            return None, None, ""
        if attempt.broken_off == "timeout":
            return "timeout", None, f"it took longer than {task.work.timeout:g} s"
        if attempt.broken_off == "disk":
            most = task.work.most_disk >> 20
            return "failure", None, f"its machine wrote more than {most} MiB to its disk"
        if attempt.broken_off:
            return attempt.broken_off, None, ""
        return ("failure" if unfit else "error"), None, why

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
                    self.name, task, outcome,
                    exit_status=status, why=why, delay=wait, facts=facts,
                )  # fmt: skip
            except Fault as error:
                log.debug("what came of %s is not heard: %s", task.name, error)
                if time.monotonic() > until:
                    return
                time.sleep(NOTICES / 2)
            else:
                log.debug("%s: %s%s", task.name, outcome, "" if mine else ", and nobody asked")
                return


def delay(tries: int) -> float:
    """Return the seconds before the next attempt, after so many before the last one."""
    return random.uniform(0, min(MOST_DELAY, FIRST_DELAY * 2**tries))  # noqa: S311 - no secret
