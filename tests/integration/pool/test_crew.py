"""Agents side by side: as many as are wanted, and none takes what could not begin."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from rave_cli.errors import ExitCode, RaveError
from rave_cli.pool.crew import Crew
from rave_cli.pool.jobs import Work
from tests.waiting import until

from .pools import ProcessSandbox

if TYPE_CHECKING:
    from collections.abc import Iterator

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
    monkeypatch.setattr("rave_cli.pool.crew.MAKES_AGAIN", 0.02)
    box, memory = Box(), Memory()
    room: Any = memory
    found = Crew(pool.queue, box, room, "host")
    yield found, box, memory
    found.end()


@pytest.mark.parametrize("what", ["template", "memory"])
def test_nothing_is_taken_that_could_not_begin(
    pool: Pool, crew: tuple[Crew, Box, Memory], what: str
) -> None:
    agents, box, memory = crew
    if what == "template":
        box.wrong = "the disk is full"
    else:
        memory.lacks = "900 MiB are available"
    (name,) = pool.submit(Work(("true",)))
    agents.scale(2)
    until(lambda: agents.hold.code == what)
    assert (box.began, pool.job(name).state) == ([], "waiting")
    box.wrong = memory.lacks = ""
    pool.until(lambda: pool.over([name]))
    job = pool.job(name)
    # What kept it was nobody's fault.
    assert (job.state, job.attempt, job.lost) == ("success", 1, 0)
    assert agents.hold.code == ""


def test_as_many_work_as_are_wanted_and_what_runs_comes_to_its_end(
    pool: Pool, crew: tuple[Crew, Box, Memory]
) -> None:
    agents, _, _ = crew
    names = pool.submit(*[Work(("sleep", "0.3"))] * 5)
    agents.scale(3)
    pool.until(lambda: len(pool.store.running()) == 3)
    agents.scale(0)
    pool.until(lambda: not agents.working)
    pool.turn()
    states = sorted(pool.job(name).state for name in names)
    assert states == ["success"] * 3 + ["waiting"] * 2
    agents.scale(1)
    pool.until(lambda: pool.over(names))
    assert {pool.job(name).state for name in names} == {"success"}
