"""A job ends once, in one of six ways, whatever is told of it, in whatever order and how often."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from rave_cli import options
from rave_cli.errors import ExitCode, RaveError
from rave_cli.pool.jobs.job import (
    ENDINGS,
    Began,
    Ended,
    Job,
    JobState,
    Postponed,
    Printed,
    advance,
    new_name,
)
from rave_cli.pool.jobs.store import JobStore
from rave_cli.pool.jobs.work import JobInput, Work, work_document, work_of

if TYPE_CHECKING:
    from pathlib import Path

    from rave_cli.pool.jobs.job import Happening

attempts = st.integers(0, 4)
times = st.floats(0, 1e6)
counts = st.integers(0, 5)
happenings: st.SearchStrategy[Happening] = st.one_of(
    st.builds(Began, times, attempts, st.sampled_from(["agent-1", "agent-2"])),
    st.builds(Postponed, times, attempts, times, st.just("it failed"), counts, counts),
    st.builds(
        Ended, times, attempts, st.sampled_from(ENDINGS), st.none() | counts, st.text(), counts,
        counts,
    ),
    st.builds(Printed, attempts, st.sampled_from([1, 2]), st.binary()),
)  # fmt: skip


def job() -> Job:
    return Job(new_name(), Work(("true",)), submitted=0.0)


def told(*what: Happening) -> Job:
    found = job()
    for happening in what:
        found = advance(found, happening)
    return found


@given(st.lists(happenings))
def test_nothing_is_taken_back(what: list[Happening]) -> None:
    before = job()
    for happening in what:
        after = advance(before, happening)
        assert after.attempt >= before.attempt
        assert after.failed >= before.failed
        assert after.lost >= before.lost
        assert after.over == (after.ended is not None)
        if before.over:
            assert after == before
        before = after


@given(st.lists(happenings))
def test_what_is_told_twice_changes_nothing(what: list[Happening]) -> None:
    before = job()
    for happening in what:
        before = advance(before, happening)
        assert advance(before, happening) == before


class Stored(RuleBasedStateMachine):
    """The store, told anything, holds what the rule says of it; also after it is opened anew."""

    place: Path

    @initialize(count=st.integers(1, 3))
    def begins(self, count: int) -> None:
        self.store = JobStore(self.place / new_name() / "jobs.sqlite")
        self.expected = {one.name: one for one in self.store.accept([Work(("true",))] * count)}
        self.ends: dict[str, int] = dict.fromkeys(self.expected, 0)

    @rule(which=st.integers(0, 2), what=st.lists(happenings, max_size=4))
    def happens(self, which: int, what: list[Happening]) -> None:
        name = sorted(self.expected)[which % len(self.expected)]
        was_over = self.expected[name].over
        for happening in what:
            self.expected[name] = advance(self.expected[name], happening)
        changed = self.store.record([(name, happening) for happening in what])
        self.ends[name] += any(one.over for one in changed)
        assert not (was_over and changed)

    @rule()
    def is_opened_anew(self) -> None:
        place = self.store.place
        self.store.__exit__()
        self.store = JobStore(place)

    @invariant()
    def holds(self) -> None:
        for name, expected in self.expected.items():
            assert self.store.load(name) == expected
            assert self.ends[name] == expected.over

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.store.__exit__()


def test_the_store_follows_the_rule(tmp_path: Path) -> None:
    from hypothesis import settings
    from hypothesis.stateful import run_state_machine_as_test

    class Here(Stored):
        place = tmp_path

    few = settings(max_examples=15, stateful_step_count=12, deadline=None)
    run_state_machine_as_test(Here, settings=few)


def test_a_late_word_of_an_earlier_attempt_is_not_heard() -> None:
    found = told(Began(1, 1, "a"), Began(2, 2, "b"), Ended(3, 1, "success", 0, "", 0, 0))
    assert (found.state, found.agent) == ("running", "b")


def test_a_job_that_waits_again_says_until_when_and_why() -> None:
    found = told(Began(1, 1, "a"), Postponed(2, 1, 9.5, "it failed", 1, 0))
    assert (found.state, found.until, found.why, found.failed) == ("waiting", 9.5, "it failed", 1)
    assert advance(found, Began(10, 2, "b")).until is None


def test_the_options_know_every_state() -> None:
    states = [word for arg in get_args(JobState) for word in (get_args(arg) or (arg,))]
    assert list(options.JOB_STATES) == states


@pytest.mark.parametrize(
    "asked",
    [
        {"command": ()},
        {"environment": (("a b", "x"),)},
        {"environment": (("RAVE_JOB", "x"),)},
        {"environment": (("", "x"),)},
        {"environment": (("A", "x\0"),)},
        {"secrets": ("",)},
        {"secrets": ("a\nb",)},
        {"artifacts": ("/etc/passwd",)},
        {"artifacts": ("a/../../b",)},
        {"artifacts": ("a", "a")},
        {"artifacts": ("a/b/c", "a/b")},
        {"artifacts": (".",)},
        {"artifacts": ("a//b",)},
        {"artifacts": ("\x1b[31m",)},
        {"script": "x" * (65 << 10)},
    ],
)
def test_what_a_job_cannot_have_is_refused(asked: dict[str, Any]) -> None:
    with pytest.raises(RaveError) as refused:
        Work(**({"command": ("true",)} | asked))
    assert refused.value.exit_code == ExitCode.USAGE
    assert "\x1b" not in refused.value.message


def test_what_was_asked_for_comes_back_whoever_wrote_it() -> None:
    given = JobInput("1" * 64, 3, "folder x")
    work = Work(("a",), environment=(("A", "b"),), secrets=("c/d",), given=given, artifacts=("e",))
    assert work_of(json.loads(json.dumps(work_document(work)))) == work
    of_before = {
        "command": ["true"], "timeout": 5.0, "retries": 1, "most_output": 3, "expires": None,
    }  # fmt: skip
    assert work_of(of_before) == Work(("true",), 5.0, 1, 3)


@pytest.mark.parametrize(
    "command", [("x" * (65 << 10),), ("a\0b",), ("\udcff",)], ids=["long", "nul", "no text"]
)
def test_a_command_that_cannot_be_passed_on_is_refused(command: tuple[str, ...]) -> None:
    with pytest.raises(RaveError) as refused:
        Work(command)
    assert refused.value.exit_code == ExitCode.USAGE
