"""Agents side by side: as many as are wanted, and none takes what could not begin."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from rave_cli import paths
from rave_cli.errors import ExitCode, RaveError
from rave_cli.pool.agents import disk
from rave_cli.pool.agents.agent import Agent, NoRoomError
from rave_cli.pool.agents.crew import Crew
from rave_cli.pool.jobs.work import Work
from tests.waiting import until

from .pools import ProcessSandbox

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from rave_cli.pool.agents.agent import Attempt
    from rave_cli.pool.queue.streams import Task

    from .pools import Pool

pytestmark = pytest.mark.integration


class Box(ProcessSandbox):
    """A sandbox that can begin only if `wrong` is nothing."""

    wrong = ""

    def prepare(self) -> None:
        """Refuse where something is wrong."""
        if self.wrong:
            raise RaveError(self.wrong, hint="df -h", exit_code=ExitCode.HOST)


class Memory:
    """The memory of a host that lacks what `lacks` says."""

    lacks = ""

    @contextmanager
    def kept(self) -> Iterator[str]:
        """Yield what is lacked."""
        yield self.lacks


@pytest.fixture
def crew(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Crew, Box, Memory]]:
    monkeypatch.setattr("rave_cli.pool.agents.crew.MAKES_AGAIN", 0.02)
    box, memory = Box(), Memory()
    room: Any = memory
    found = Crew(pool.queue, box, room, "host")
    yield found, box, memory
    found.end()


@pytest.mark.parametrize("what", ["template", "memory", "disk"])
def test_nothing_is_taken_that_could_not_begin(
    pool: Pool, crew: tuple[Crew, Box, Memory], monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    agents, box, memory = crew
    if what == "template":
        box.wrong = "the template cannot be made"
    elif what == "memory":
        memory.lacks = "900 MiB are available"
    else:
        # More than any host has.
        paths.private_dir(paths.data_dir())
        monkeypatch.setattr(disk, "LEAST_MIB", 1 << 40)
    (name,) = pool.submit(Work(("true",)))
    agents.scale(2)
    until(lambda: agents.hold.code == what)
    assert (box.began, pool.job(name).state) == ([], "waiting")
    box.wrong = memory.lacks = ""
    monkeypatch.setattr(disk, "LEAST_MIB", 0)
    pool.until(lambda: pool.over([name]))
    job = pool.job(name)
    # What kept it was nobody's fault.
    assert (job.state, job.attempt, job.lost) == ("success", 1, 0)
    assert agents.hold.code == ""


def test_a_job_that_needs_more_memory_than_there_is_waits_and_says_so(pool: Pool) -> None:
    class Small(ProcessSandbox):
        def run(self, task: Task, attempt: Attempt) -> int:
            raise NoRoomError("a machine may take 4480 MiB", exit_code=ExitCode.NOT_READY)

    (name,) = pool.submit(Work(("true",), memory_mib=4096))
    agent = Agent("a", pool.queue, Small(), pool.stopping)
    assert agent.turn(1)
    pool.until(lambda: pool.job(name).until is not None)
    job = pool.job(name)
    assert (job.state, job.why) == ("waiting", "a machine may take 4480 MiB")
    # That is nobody's fault.
    assert (job.failed, job.lost) == (0, 0)
    pool.store.cancel(name)
    pool.until(lambda: pool.job(name).state == "cancelled")


def test_what_is_made_for_many_jobs_is_not_in_the_time_of_one(pool: Pool) -> None:
    class Slow(ProcessSandbox):
        def run(self, task: Task, attempt: Attempt) -> int:
            before = attempt._deadline
            with attempt.paused():
                time.sleep(0.05)
            assert attempt._deadline >= before + 0.05
            status = super().run(task, attempt)
            assert attempt.seen().starting is not None
            return status

    (name,) = pool.submit(Work(("true",), timeout=60))
    assert Agent("a", pool.queue, Slow(), pool.stopping).turn(1)
    pool.until(lambda: pool.over([name]))
    job = pool.job(name)
    assert (job.state, job.facts.starting is not None) == ("success", True)


def test_as_many_work_as_are_wanted_and_what_runs_comes_to_its_end(
    pool: Pool, crew: tuple[Crew, Box, Memory], tmp_path: Path
) -> None:
    agents, _, _ = crew
    ends = tmp_path / "ends"
    waits = f"until [ -e '{ends}' ]; do sleep 0.01; done"
    names = pool.submit(*[Work(("sh", "-c", waits))] * 5)
    agents.scale(3)
    pool.until(lambda: len(pool.store.running()) == 3)
    agents.scale(0)
    ends.touch()
    pool.until(lambda: not agents.working)
    pool.turn()
    states = sorted(pool.job(name).state for name in names)
    assert states == ["success"] * 3 + ["waiting"] * 2
    agents.scale(1)
    pool.until(lambda: pool.over(names))
    assert {pool.job(name).state for name in names} == {"success"}
