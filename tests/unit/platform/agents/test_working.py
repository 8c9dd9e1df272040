"""What an agent does, before a stand-in for GitLab; killed at every point it goes on."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any

import pytest

from rave_platform.application.agents.beating import beat_forever
from rave_platform.application.agents.ports import TaskFailedError
from rave_platform.application.forge import ForgeUnavailableError
from rave_platform.application.ports import StoreUnavailableError, StreamUnavailableError
from rave_platform.domain.agents import wording
from rave_platform.domain.agents.limits import TaskLimits
from rave_platform.domain.tasks import AgentKind, DecisionKind, TaskKind
from tests import kills
from tests.unit.platform.agents.world import (
    MOMENT,
    KilledError,
    QuickRunner,
    World,
    decision,
    task,
)
from tests.waiting import CEILING, NEVER

if TYPE_CHECKING:
    from collections.abc import Mapping
    from uuid import UUID

    from rave_platform.application.agents.ports import Written
    from rave_platform.domain.tasks import AgentTask

PROJECT = "rave/shop"


def lives(world: World) -> None:
    asyncio.run(world.live())
    assert world.gitlab.complaints == []


# --- one task


def test_a_task_becomes_a_merge_request_with_tests_that_passed() -> None:
    world = World()
    world.gitlab.make(PROJECT)
    world.stream.ask(task())
    lives(world)
    assert world.statuses() == ["running", "completed"]
    project = world.gitlab.projects[PROJECT]
    (request,) = project.requests
    assert world.last()["result"] == request["web_url"]
    assert request["title"] == "Say hello"
    branch = wording.branch(task())
    assert set(project.branches) == {"main", branch}
    head = project.branches[branch]
    assert head.parent == project.branches["main"].id
    assert str(task().task_id) in head.message
    assert {path.split("/")[0] for path in head.tree} == {"README.md", "say_hello_00000000"}
    assert [one["status"] for one in project.statuses] == ["success"]


def test_a_project_is_made_and_one_that_was_there_is_told_apart() -> None:
    world = World()
    world.gitlab.make("rave/old", created_at="2020-01-01T00:00:00Z")
    for number, name in enumerate(("new", "old"), 1):
        world.stream.ask(task(number, kind=TaskKind.CREATE_PROJECT, project=name))
    lives(world)
    results = [one["result"] for one in world.stream.told if one["status"] == "completed"]
    assert results == [
        "https://gitlab.test/rave/new",
        "https://gitlab.test/rave/old was there already",
    ]
    assert world.gitlab.projects["rave/new"].description == "Say hello"


def test_a_project_that_is_not_there_is_said_to_be_missing() -> None:
    world = World()
    world.stream.ask(task())
    lives(world)
    assert world.statuses() == ["running", "failed"]
    assert world.last()["error"] == "there is no project shop; !rave create project makes one"


def test_what_is_no_task_is_put_aside_and_one_that_ended_is_not_done_again() -> None:
    world = World()
    world.gitlab.make(PROJECT)
    world.stream.waiting["asked"].append(b'{"task_id": 1}')
    world.stream.ask(task())
    world.stream.ask(task())
    lives(world)
    assert world.statuses() == ["running", "completed"]


def test_a_task_that_another_agent_has_ended_is_not_begun() -> None:
    world, other = World(), World()
    for one in (world, other):
        one.gitlab.make(PROJECT)
        one.stream.ask(task())
    lives(other)
    world.stream.told = list(other.stream.told)
    lives(world)
    assert world.gitlab.projects[PROJECT].requests == []
    assert world.statuses() == ["running", "completed"]


def test_what_another_agent_began_is_gone_on_with_and_counted() -> None:
    world = World()
    world.gitlab.make(PROJECT)
    begun = task(status="running", attempt=2, started_at=MOMENT)
    world.stream.told.append(begun.model_dump(mode="json"))
    world.stream.ask(task())
    lives(world)
    assert [one["attempt"] for one in world.stream.told] == [2, 3, 3]


class FailingRunner(QuickRunner):
    def __init__(self, fault: Exception) -> None:
        self.fault = fault

    async def test(self, found: AgentTask, files: Mapping[str, bytes]) -> str:
        raise self.fault


def test_whose_tests_fail_has_no_merge_request() -> None:
    world = World(FailingRunner(TaskFailedError("its tests fail: 1 != 2")))
    world.gitlab.make(PROJECT)
    world.stream.ask(task())
    lives(world)
    assert world.last()["error"] == "its tests fail: 1 != 2"
    project = world.gitlab.projects[PROJECT]
    assert (list(project.branches), project.requests) == (["main"], [])


def test_a_forge_that_is_away_is_waited_for_as_long_as_the_task_may_take() -> None:
    world = World(allowed=TaskLimits(seconds=NEVER))
    world.gitlab.make(PROJECT)
    world.stream.ask(task())
    world.gitlab.trouble = [(503, False), (502, True), (0, True), (503, False)]
    lives(world)
    assert world.statuses() == ["running", "completed"]
    hopeless = World(FailingRunner(ForgeUnavailableError("away", 0.01)), TaskLimits(seconds=0.2))
    hopeless.gitlab.make(PROJECT)
    hopeless.stream.ask(task())
    lives(hopeless)
    # On a busy host it may not have come to what is away.
    assert hopeless.last()["error"].removesuffix("; away") == "it took longer than 0.2 s"


class EndlessRunner(QuickRunner):
    def __init__(self) -> None:
        self.began, self.left = asyncio.Event(), False

    async def test(self, found: AgentTask, files: Mapping[str, bytes]) -> str:
        self.began.set()
        try:
            await asyncio.sleep(NEVER)
        finally:
            self.left = True
        return ""


def test_a_task_that_never_ends_is_ended() -> None:
    world = World(EndlessRunner(), TaskLimits(seconds=0.1))
    world.gitlab.make(PROJECT)
    world.stream.ask(task())
    lives(world)
    assert world.last()["error"] == "it took longer than 0.1 s"
    # On a busy host it may not have come to that.
    assert world.runner.left == world.runner.began.is_set()


def test_a_task_that_nobody_wants_any_more_is_left_off_and_the_stream_hears_of_one_meanwhile() -> (
    None
):
    world = World(EndlessRunner(), TaskLimits(seconds=NEVER))
    world.look = 0.001
    world.gitlab.make(PROJECT)
    world.stream.ask(task())

    async def both() -> None:
        living = asyncio.create_task(world.live())
        await world.runner.began.wait()
        world.stream.decide(decision(DecisionKind.CANCEL, reason="too late"))
        await living

    asyncio.run(both())
    assert world.statuses() == ["running", "failed"]
    assert world.last()["error"] == "cancelled by alice: too late"
    assert world.runner.left
    assert world.stream.kept > 0
    assert world.gitlab.projects[PROJECT].requests == []


def test_a_task_that_was_cancelled_before_it_began_is_not_done() -> None:
    world = World(EndlessRunner(), TaskLimits(seconds=NEVER))
    world.look = 0.001
    world.gitlab.make(PROJECT)
    world.stream.decide(decision(DecisionKind.CANCEL))
    world.stream.ask(task())
    lives(world)
    assert world.last()["error"] == "cancelled by alice"


def test_a_cancellation_that_the_client_of_the_stream_swallows_holds_nothing_up() -> None:
    """As nats-py does while it flushes: the agent hung for good, once its task was done."""
    world = World()
    world.gitlab.make(PROJECT)
    world.stream.ask(task())
    swallowed: list[int] = []

    async def cancelled(_task_id: object) -> None:
        if swallowed:
            return
        try:
            await asyncio.sleep(NEVER)
        except asyncio.CancelledError:
            swallowed.append(1)

    world.stream.cancelled = cancelled  # type: ignore[method-assign, assignment]

    async def do() -> None:
        async with asyncio.timeout(CEILING):
            await world.live()

    asyncio.run(do())
    assert swallowed
    assert world.statuses() == ["running", "completed"]


def test_what_a_model_may_cost_is_given_to_it_and_too_dear_a_run_fails() -> None:
    told: list[float] = []

    class DearRunner(QuickRunner):
        async def write(
            self, found: AgentTask, base: Mapping[str, bytes], budget: float
        ) -> Written:
            told.append(budget)
            written = await super().write(found, base, budget)
            return type(written)(written.files, "x", 0.5)

    world = World(DearRunner(), TaskLimits(cost_usd=2.0, attempts=5))
    world.gitlab.make(PROJECT)
    world.stream.ask(task())
    lives(world)
    assert told == [0.4]
    assert world.last()["error"] == "it cost 0.50 USD, of 0.40 that it may"


def test_who_writes_what_cannot_be_committed_is_told() -> None:
    class OddRunner(QuickRunner):
        async def write(
            self, found: AgentTask, base: Mapping[str, bytes], budget: float
        ) -> Written:
            written = await super().write(found, base, budget)
            return type(written)({"../x": b""}, "x")

    world = World(OddRunner())
    world.gitlab.make(PROJECT)
    world.stream.ask(task())
    lives(world)
    assert "cannot be committed" in world.last()["error"]


def test_a_runner_that_reads_is_given_the_project() -> None:
    seen: list[dict[str, bytes]] = []

    class ReadingRunner(QuickRunner):
        reads = True

        async def write(
            self, found: AgentTask, base: Mapping[str, bytes], budget: float
        ) -> Written:
            seen.append(dict(base))
            return await super().write(found, base, budget)

        async def test(self, found: AgentTask, files: Mapping[str, bytes]) -> str:
            seen.append(dict(files))
            return await super().test(found, files)

    world = World(ReadingRunner())
    world.gitlab.make(PROJECT)
    world.stream.ask(task())
    lives(world)
    assert [min(files) for files in seen] == ["README.md", "README.md"]
    assert [len(files) for files in seen] == [1, 4]


def test_what_nobody_foresaw_is_tried_again_and_then_told_with_its_place() -> None:
    class BrokenRunner(QuickRunner):
        def __init__(self, times: int) -> None:
            self.left = times

        async def test(self, found: AgentTask, files: Mapping[str, bytes]) -> str:
            self.left -= 1
            if self.left >= 0:
                raise KeyError("hunter2")
            return await super().test(found, files)

    for times, last in ((1, "completed"), (2, "failed")):
        world = World(BrokenRunner(times), TaskLimits(attempts=2))
        world.gitlab.make(PROJECT)
        world.stream.ask(task())
        lives(world)
        assert world.statuses() == ["running", last]
    assert "KeyError at test_working.py:" in world.last()["error"]
    assert "at the step test, 2 times" in world.last()["error"]
    assert "hunter2" not in world.last()["error"]


@pytest.mark.parametrize("away", [StoreUnavailableError("full"), StreamUnavailableError("away")])
def test_whoever_loses_its_store_or_its_stream_goes_on_with_its_task(away: Exception) -> None:
    world = World()
    world.gitlab.make(PROJECT)
    world.stream.ask(task())
    keep, asked = world.ledger.keep, []

    def once(progress: Any) -> None:
        asked.append(progress)
        if len(asked) == 5:
            raise away
        keep(progress)

    world.ledger.keep = once  # type: ignore[method-assign]

    async def twice() -> None:
        with pytest.raises(type(away)):
            await world.live()
        await world.live()

    asyncio.run(twice())
    assert world.statuses() == ["running", "running", "completed"]


# --- decisions


def decided(what: DecisionKind, *, conflict: bool = False, **changes: Any) -> World:
    world = World()
    project = world.gitlab.make(PROJECT)
    world.stream.ask(task(**changes))
    lives(world)
    if conflict:
        (path, *_) = project.branches[wording.branch(task())].tree.keys() - {"README.md"}
        world.gitlab.write(project, "main", "theirs", {path: b"theirs"})
    world.stream.decide(decision(what, reason="looks good"))
    lives(world)
    return world


def test_what_is_approved_is_merged_and_that_is_said() -> None:
    world = decided(DecisionKind.APPROVE)
    project = world.gitlab.projects[PROJECT]
    (request,) = project.requests
    assert request["state"] == "merged"
    assert len(project.branches["main"].tree) == 4
    assert world.last()["text"] == f"merged: {request['web_url']}"
    assert world.last()["done"]
    (note,) = project.notes[1]
    assert note["body"].startswith("Approved by `alice`")


def test_what_is_rejected_is_closed_and_that_is_said() -> None:
    world = decided(DecisionKind.REJECT)
    (request,) = world.gitlab.projects[PROJECT].requests
    assert request["state"] == "closed"
    assert world.last()["text"] == f"closed without being merged: {request['web_url']}"


def test_what_cannot_be_merged_may_be_approved_again() -> None:
    world = decided(DecisionKind.APPROVE, conflict=True)
    assert not world.last()["done"]
    assert "405" in world.last()["text"]
    assert "conflict" in world.last()["text"]


def test_a_decision_is_carried_out_once_and_only_on_what_was_completed() -> None:
    world = decided(DecisionKind.APPROVE)
    before = len(world.stream.told)
    world.stream.decide(decision(DecisionKind.APPROVE, reason="looks good"))
    world.stream.waiting["decided"].append(b"{}")
    lives(world)
    assert len(world.stream.told) == before
    world.stream.decide(decision(DecisionKind.APPROVE, 2))
    lives(world)
    assert world.last()["text"] == "no agent has completed the task"
    project = world.gitlab.projects[PROJECT]
    project.requests.clear()
    world.stream.decide(decision(DecisionKind.REJECT, decision_uuid=task(9).task_id))
    lives(world)
    assert world.last()["text"] == "its merge request is gone"


def test_there_is_nothing_to_merge_of_a_new_project() -> None:
    world = decided(DecisionKind.APPROVE, kind=TaskKind.CREATE_PROJECT)
    assert world.last()["done"]
    assert "nothing to merge" in world.last()["text"]


def test_a_decision_waits_for_a_forge_that_is_away() -> None:
    world = World()
    world.gitlab.make(PROJECT)
    world.stream.ask(task())
    lives(world)
    world.stream.decide(decision(DecisionKind.APPROVE))
    world.gitlab.trouble = [(503, False)]
    with pytest.raises(ForgeUnavailableError):
        lives(world)
    lives(world)
    assert world.last()["done"]


def test_nobody_else_is_given_a_decision_while_the_forge_takes_its_time() -> None:
    world = World()
    world.gitlab.make(PROJECT)
    world.stream.ask(task())
    lives(world)
    world.look = 0.001
    world.stream.decide(decision(DecisionKind.APPROVE))
    before, standing = world.stream.kept, world.stream.standing

    async def slow(task_id: UUID) -> AgentTask | None:
        while world.stream.kept == before:
            await asyncio.sleep(0.001)
        return await standing(task_id)

    world.stream.standing = slow  # type: ignore[method-assign]

    async def do() -> None:
        async with asyncio.timeout(CEILING):
            await world.live()

    asyncio.run(do())
    assert world.last()["done"]


# --- signs of life


def test_signs_of_life_are_given_and_a_stream_that_is_away_is_tried_again() -> None:
    world = World()
    alive: list[int] = []
    taken: list[int] = []

    async def do() -> None:
        beat, away = world.stream.beat, [True]

        async def first_away(sign: Any) -> None:
            if away.pop() if away else False:
                raise StreamUnavailableError("away")
            await beat(sign)

        world.stream.beat = first_away  # type: ignore[method-assign, assignment]
        beating = asyncio.create_task(
            beat_forever(
                world.stream,
                AgentKind.AI_ENGINEER,
                "one",
                lambda: None,
                alive=lambda: alive.append(1),
                beaten=lambda: taken.append(1),
            )
        )
        while not world.stream.beats:
            await asyncio.sleep(0.01)
        beating.cancel()

    asyncio.run(do())
    assert (len(alive), len(taken)) == (2, 1)
    assert world.stream.beats[0].instance == "one"


# --- kills


def killed_world() -> World:
    world = World()
    world.gitlab.make("rave/other")
    world.stream.ask(task(1, kind=TaskKind.CREATE_PROJECT))
    world.stream.ask(task(2))
    world.stream.decide(decision(DecisionKind.APPROVE, 2))
    return world


def require_once(world: World) -> None:
    """See to it that everything was done, and once."""
    assert world.gitlab.complaints == []
    assert set(world.gitlab.projects) == {"rave/other", PROJECT}
    project = world.gitlab.projects[PROJECT]
    (request,) = project.requests
    assert request["state"] == "merged"
    head = project.branches[wording.branch(task(2))]
    assert head.parent == world.gitlab.commits[project.branches["main"].parent].id
    assert len(project.branches) == 2
    assert len(project.notes[1]) == len(project.statuses) == 1
    for number, last in ((1, ["completed"]), (2, ["completed", "approve"])):
        said = [one for one in world.statuses(number) if one != "running"]
        assert said == last
    assert world.ledger.unfinished() == []


def points() -> int:
    world = killed_world()
    lives(world)
    require_once(world)
    return world.points.passed


def test_killed_at_any_point_it_goes_on_and_does_everything_once() -> None:
    # Each point is one, however many are taken of those at which machines are killed.
    most = points()
    assert most > 100
    for deadly in range(1, most + 1):
        world = killed_world()
        world.points.deadly = deadly
        with pytest.raises(KilledError):
            lives(world)
        lives(world)
        require_once(world)


def test_killed_again_and_again_it_goes_on_and_does_everything_once() -> None:
    chance = random.Random(20261126)  # noqa: S311 - the same points each time
    for _ in range(140 // kills.STRIDE):
        world = killed_world()
        while True:
            # Some of them come to nothing: it was done before.
            world.points.deadly = world.points.passed + chance.randint(1, 60)
            try:
                lives(world)
            except KilledError:
                continue
            break
        require_once(world)
