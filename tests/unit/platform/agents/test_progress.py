"""How far a task comes, whatever happens to its agent; and what its limits and names are."""

from __future__ import annotations

import string
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from rave_platform.domain.agents import limits, progress, wording
from rave_platform.domain.agents.limits import TaskLimits
from rave_platform.domain.agents.progress import PLANS, StepName, TaskProgress
from rave_platform.domain.forge import MOST_FILES, NewCommit
from rave_platform.domain.tasks import DecisionKind, TaskKind, TaskStatus
from tests.unit.platform.agents.world import MOMENT, decision, task

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

MOST = 3


class AnAgentThatIsLostNowAndThen(RuleBasedStateMachine):
    """What is kept of a task, by an agent that takes it, works on it, and may be gone any time."""

    def __init__(self) -> None:
        super().__init__()
        self.kept = TaskProgress(task())
        self.came_to: list[StepName] = []
        self.losses = 0

    @precondition(lambda self: not self.kept.ended)
    @rule()
    def take(self) -> None:
        before = self.kept
        self.kept = progress.taken(before, MOMENT, MOST)
        assert self.kept.task.attempt == before.task.attempt + 1
        assert self.kept.outcomes == before.outcomes

    @precondition(lambda self: self.kept.step is not None)
    @rule(lost=st.booleans())
    def step(self, *, lost: bool) -> None:
        step = self.kept.step
        assert step is not None
        self.kept = progress.step_begun(self.kept)
        if lost:
            self.losses += 1
            return
        self.kept = progress.step_done(self.kept, {"url": f"of {step}"}, MOMENT)
        self.came_to.append(step)

    @precondition(lambda self: not self.kept.ended)
    @rule(why=st.text(min_size=1).filter(str.strip))
    def give_up(self, why: str) -> None:
        self.kept = progress.given_up(self.kept, MOMENT, why)

    @precondition(lambda self: self.kept.ended)
    @rule()
    def nothing_changes_what_has_ended(self) -> None:
        changes: list[Callable[[], TaskProgress]] = [
            lambda: progress.taken(self.kept, MOMENT, MOST),
            lambda: progress.step_begun(self.kept),
            lambda: progress.step_done(self.kept, {}, MOMENT),
            lambda: progress.given_up(self.kept, MOMENT, "x"),
        ]
        for change in changes:
            with pytest.raises(ValueError, match=r"cannot be|no step"):
                change()

    @invariant()
    def steps_come_one_after_another_and_each_once(self) -> None:
        assert tuple(self.came_to) == self.kept.plan[: len(self.came_to)]
        assert set(self.kept.outcomes) == set(self.came_to)
        assert set(self.kept.outcomes) <= set(self.kept.begun)

    @invariant()
    def it_is_completed_when_every_step_has_an_outcome_and_only_then(self) -> None:
        completed = self.kept.task.status is TaskStatus.COMPLETED
        assert completed == (len(self.kept.outcomes) == len(self.kept.plan))
        if completed:
            assert self.kept.task.result == "of request"

    @invariant()
    def every_loss_is_counted(self) -> None:
        assert sum(self.kept.begun.values()) == len(self.came_to) + self.losses


TestAnAgentThatIsLostNowAndThen = AnAgentThatIsLostNowAndThen.TestCase
TestAnAgentThatIsLostNowAndThen.settings = settings(
    max_examples=40, stateful_step_count=25, deadline=None
)


def test_a_step_that_loses_its_agent_each_time_is_given_up() -> None:
    found = TaskProgress(task())
    for _ in range(MOST):
        found = progress.step_begun(progress.taken(found, MOMENT, MOST))
    found = progress.taken(found, MOMENT, MOST)
    assert found.task.status is TaskStatus.FAILED
    assert found.task.error == "its agent was lost 3 times at the step project"


def test_a_step_that_was_not_begun_cannot_be_done() -> None:
    found = progress.taken(TaskProgress(task()), MOMENT, MOST)
    with pytest.raises(ValueError, match="not begun"):
        progress.step_done(found, {}, MOMENT)


def test_a_project_is_one_step() -> None:
    found = progress.taken(TaskProgress(task(kind=TaskKind.CREATE_PROJECT)), MOMENT, MOST)
    done = progress.step_done(progress.step_begun(found), {"url": "there"}, MOMENT)
    assert (done.task.status, done.task.result) == (TaskStatus.COMPLETED, "there")
    assert set(PLANS) == set(TaskKind)


@given(st.integers(1, 10), st.floats(0, 100))
def test_all_runs_of_a_model_together_cost_no_more_than_the_task_may(
    most: int, cost: float
) -> None:
    allowed = TaskLimits(cost_usd=cost, attempts=most)
    spent = sum(limits.budget(allowed, begun) for begun in range(1, 50))
    assert spent == pytest.approx(cost)
    assert limits.too_dear(cost + 1, cost)
    assert not limits.too_dear(cost, cost)


texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=200).filter(
    lambda text: text.strip()
)


@given(texts)
def test_names_are_what_they_have_to_be_whatever_is_asked_for(instruction: str) -> None:
    found = task(instruction=instruction)
    assert wording.package(found).isidentifier()
    assert set(wording.package(found)) <= set(string.ascii_lowercase + string.digits + "_")
    assert "\n" not in wording.title(found)
    assert 0 < len(wording.title(found)) <= wording.LONGEST_TITLE
    assert str(found.task_id) in wording.message(found)
    assert wording.branch(found).startswith("rave/backend-architect-")


@given(texts, texts)
def test_what_people_wrote_is_code_in_what_the_forge_shows(instruction: str, why: str) -> None:
    found = task(instruction=instruction)
    shown = wording.description(found, why, "3 passed") + "\n" + wording.verdict(
        decision(DecisionKind.REJECT, reason=why)
    )  # fmt: skip
    assert outside(shown) == [
        "", "", "Tests: 3 passed", "",
        f"Made by backend-architect for task `{found.task_id}`, trace `{found.trace_id}`.",
        f"Rejected by `alice` (`{decision(DecisionKind.REJECT).decision_uuid}`).", "",
    ]  # fmt: skip


def outside(text: str) -> list[str]:
    """Return the lines that stand in no fence, as CommonMark reads them."""
    found, fence = [], ""
    for line in text.split("\n"):
        ticks = len(line) - len(line.lstrip("`"))
        if fence:
            fence = "" if line == fence or (ticks >= len(fence) and not line.strip("` ")) else fence
        elif ticks >= 3:
            fence = "`" * ticks
        else:
            found.append(line)
    assert not fence
    return found


def test_a_decision_without_a_reason_is_one_line() -> None:
    assert "\n" not in wording.verdict(decision(DecisionKind.APPROVE))


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/etc/passwd",
        "a/../b",
        "..",
        ".git/config",
        "a/.GIT/hooks",
        "a//b",
        'a"b',
        "a\nb",
        "a\\b",
    ],
)
def test_what_is_no_path_of_a_file_is_not_committed(path: str) -> None:
    with pytest.raises(ValueError, match="no path"):
        commit({path: b""})


def test_a_commit_has_files_and_not_too_many() -> None:
    for files in ({}, {f"f{number}": b"" for number in range(MOST_FILES + 1)}):
        with pytest.raises(ValueError, match="files"):
            commit(files)
    with pytest.raises(ValueError, match="bytes"):
        commit({"f": b"x" * 3_000_000})
    commit({"a/.gitignore": b"x"})


def commit(files: Mapping[str, bytes]) -> NewCommit:
    return NewCommit("branch", "message", files, MOMENT)
