"""What no hook told of is found by asking, as each forge documents it; and forges are told."""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

from rave_cli.pool.jobs.job import Began, Ended
from rave_cli.pool.jobs.work import Work
from rave_cli.pool.sources import client as clients
from rave_cli.pool.sources.client import (
    ForgeBusyError,
    ForgeError,
    ForgeRefusesError,
    allowed_after,
    asking,
)
from rave_cli.pool.sources.ledger import RevisionLedger, open_ledger
from rave_cli.pool.sources.polling import poll, poll_if_due
from rave_cli.pool.sources.reporting import MOST_REFUSALS, MOST_TRIES, report
from rave_cli.pool.sources.revision import Revision
from rave_cli.pool.sources.source import FORGES, Forge

from .forges import TOKEN, commit, source
from .stub import StubForge, serving

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rave_cli.pool.sources.client import ForgeClient


class Asked:
    """A forge, its client, the ledger, and a clock."""

    def __init__(self, stack: ExitStack, forge: Forge, **other: Any) -> None:
        self.stub: StubForge = stack.enter_context(serving(forge))
        self.source = source(forge, url=self.stub.url, token="token", **other)
        self.client: ForgeClient = stack.enter_context(asking(self.source, TOKEN))
        self.ledger: RevisionLedger = stack.enter_context(open_ledger())
        self.now = 1e9
        self.client.clock = self.clock

    def clock(self) -> float:
        return self.now

    def poll(self) -> int:
        return poll(self.ledger, self.client, self.clock)

    def report(self) -> int:
        return report(self.ledger, self.client, self.clock)

    def known(self, state: str) -> set[tuple[str, str]]:
        found = self.ledger.revisions("app", 1000)
        return {(one.revision.kind, one.revision.name) for one in found if one.state == state}

    def made(self, number: int = 1) -> str:
        """Return the name of a job that was made of a commit."""
        self.ledger.take("app", f"d-{number}", Revision("push", "main", commit(number)), "hook", 1)
        (known,) = self.ledger.waiting("app", self.now)
        job = self.ledger.make(known.number, Work(("true",)), "source:app")
        assert job is not None
        return job.name


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as found:
        yield found


@pytest.fixture(params=FORGES)
def asked(request: pytest.FixtureRequest, stack: ExitStack) -> Asked:
    return Asked(stack, request.param, forks=True)


@pytest.fixture
def github(stack: ExitStack) -> Asked:
    return Asked(stack, "github")


def test_what_was_there_before_is_not_built_and_what_comes_is_once(asked: Asked) -> None:
    stub = asked.stub
    stub.branches = {name: commit(number) for number, name in enumerate(["a", "b", "c", "main"])}
    assert asked.poll() == 0
    assert len(asked.known("seen")) == 4
    stub.branches["main"] = commit(10)
    stub.tags = {"v1": commit(11), "v2": commit(12), "v3": commit(13)}
    stub.requests = {7: (commit(14), False), 8: (commit(15), True), 9: (commit(16), False)}
    # One that a hook has told of meanwhile.
    assert asked.ledger.take("app", "d", Revision("tag", "v1", commit(11)), "hook", 1) == "new"
    assert asked.poll() == 6
    assert asked.known("waiting") == {
        ("push", "main"), ("tag", "v1"), ("tag", "v2"), ("tag", "v3"),
        ("merge-request", "7"), ("merge-request", "8"), ("merge-request", "9"),
    }  # fmt: skip
    forks = {one.revision.name for one in asked.ledger.revisions("app", 99) if one.revision.fork}
    assert forks == {"8"}
    assert asked.poll() == 0
    # And the other way round: a hook that comes late tells nothing new.
    late = Revision("tag", "v3", commit(13))
    assert asked.ledger.take("app", "d-2", late, "hook", 1) == "known"


def test_a_page_that_is_as_it_was_is_not_sent_again(asked: Asked) -> None:
    asked.stub.branches = {f"b{number}": commit(number) for number in range(5)}
    asked.poll()
    pages = len(asked.stub.asked)
    assert asked.poll() == 0
    assert asked.stub.unchanged == pages
    assert len(asked.stub.asked) == 2 * pages
    # What follows an unchanged page is looked at, too.
    asked.stub.branches["b4"] = commit(44)
    assert asked.poll() == 1


def test_a_forge_that_wants_to_be_left_alone_is(github: Asked) -> None:
    github.poll()
    count = len(github.stub.asked)
    github.stub.instead = [(429, {"Retry-After": "120"}, b"")]
    with pytest.raises(ForgeBusyError):
        github.poll()
    assert len(github.stub.asked) == count + 1
    # Neither is it asked before, nor told, and that it is busy is no failure.
    with pytest.raises(ForgeBusyError):
        github.poll()
    github.made()
    assert github.report() == 0
    assert len(github.stub.asked) == count + 1
    state = github.ledger.poll("app")
    assert (state.due, state.tries) == (github.now + 120, 0)
    github.now += 121
    assert github.poll() == 0


def test_the_last_answer_of_a_limit_is_the_last(github: Asked) -> None:
    github.stub.says = {
        "X-RateLimit-Remaining": "0", "X-RateLimit-Reset": f"{github.now + 300:.0f}",
    }  # fmt: skip
    with pytest.raises(ForgeBusyError):
        # The first list was answered; the second is not asked for.
        github.poll()
    assert len(github.stub.asked) == 1
    assert github.ledger.poll("app").due == github.now + 300


def test_a_secondary_limit_of_githubs_is_one(github: Asked) -> None:
    github.stub.instead = [(403, {"Retry-After": "60"}, b'{"message":"secondary rate limit"}')]
    with pytest.raises(ForgeBusyError):
        github.poll()


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, 0), ({"retry-after": "7"}, 7), ({"retry-after": "x"}, 0), ({"retry-after": "-1"}, 0),
        ({"retry-after": "Thu, 01 Jan 1970 00:20:00 GMT"}, 200),
        ({"ratelimit-remaining": "0", "ratelimit-reset": "1060"}, 60),
        ({"ratelimit-remaining": "3", "ratelimit-reset": "1060"}, 0),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "y"}, 0),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "10"}, 0),
    ],
)  # fmt: skip
def test_what_a_forge_allows_is_read(headers: dict[str, str], seconds: float) -> None:
    assert allowed_after(headers, 1000.0) == seconds


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        ((401, {}, b'{"message":"Bad credentials"}'), ForgeRefusesError),
        ((404, {}, b"<html>"), ForgeRefusesError),
        ((500, {}, b""), ForgeError), ((200, {}, b"{"), ForgeError),
        ((302, {"Location": "http://elsewhere.example/"}, b""), ForgeError),
        ((200, {"Link": '<http://elsewhere.example/>; rel="next"'}, b"[]"), ForgeError),
        ((429, {}, b""), ForgeBusyError),
    ],
)  # fmt: skip
def test_what_a_forge_cannot_do_is_noted_and_tried_later(
    github: Asked, answer: tuple[int, dict[str, str], bytes], kind: type[ForgeError]
) -> None:
    github.stub.instead = [answer]
    with pytest.raises(kind):
        github.poll()
    state = github.ledger.poll("app")
    assert state.due > github.now
    assert state.why
    assert state.done is None
    github.now = state.due + 1
    assert github.poll() == 0
    assert github.ledger.poll("app").why == ""


def test_what_answers_anything_at_all_is_no_fault(github: Asked) -> None:
    for body in (b"[]", b"{}", b"null", b"1", b'[1,null,{"name":1,"commit":[]}]', b'"x"'):
        github.stub.instead = [(200, {}, body)] * 3
        assert github.poll() == 0
    assert github.known("seen") == set()


def test_an_answer_without_end_is_given_up(github: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clients, "MOST_ANSWER", 1000)
    github.stub.instead = [(200, {}, b"[" + b" " * 2000 + b"]")]
    with pytest.raises(ForgeError, match="longer than"):
        github.poll()


def test_a_forge_that_is_not_there_is_tried_less_and_less_often(github: Asked) -> None:
    github.client.http.close()
    with asking(source(url="http://127.0.0.1:9", token="token"), TOKEN) as client:
        for tries in range(4):
            with pytest.raises(ForgeError):
                poll(github.ledger, client, github.clock)
            assert github.ledger.poll("app").tries == tries + 1


def test_it_is_polled_when_it_is_time_and_a_clock_that_was_set_back_does_not_keep_it(
    github: Asked,
) -> None:
    poll_if_due(github.ledger, github.client, github.clock)
    count = len(github.stub.asked)
    assert count == 3
    poll_if_due(github.ledger, github.client, github.clock)
    assert len(github.stub.asked) == count
    due = github.ledger.poll("app").due
    assert 0.9 * 300 <= due - github.now <= 1.1 * 300
    github.now = due
    poll_if_due(github.ledger, github.client, github.clock)
    assert len(github.stub.asked) == 2 * count
    github.now -= 10 * 86400
    poll_if_due(github.ledger, github.client, github.clock)
    assert len(github.stub.asked) == 3 * count


# --- what a forge is told ------------------------------------------------------------------------


def test_a_forge_hears_of_a_commit_when_it_waits_and_when_it_is_over(asked: Asked) -> None:
    name = asked.made()
    assert asked.report() == 1
    assert asked.report() == 0
    asked.ledger.record([(name, Began(1, 1, "a"))])
    # What runs is still to come for a forge.
    assert asked.report() == 0
    asked.ledger.record([(name, Ended(2, 1, "timeout", None, "", 1, 0))])
    assert asked.report() == 1
    assert asked.report() == 0
    (first, pending), (second, over) = asked.stub.statuses
    assert first == second == commit(1)
    state = "status" if asked.stub.dialect == "pagure" else "state"
    failed = "failed" if asked.stub.dialect == "gitlab" else "failure"
    assert (pending[state], over[state]) == ("pending", failed)
    assert any(name in str(word) for word in over.values())


@pytest.mark.parametrize(
    ("ending", "state"),
    [("success", "success"), ("failure", "failure"), ("error", "error"), ("cancelled", "error")],
)
def test_each_ending_is_a_state(github: Asked, ending: Any, state: str) -> None:
    name = github.made()
    github.ledger.record([(name, Ended(2, 1, ending, None, "", 0, 0))])
    # It was over before anybody told the forge that it waits.
    assert github.report() == 1
    assert [told["state"] for _, told in github.stub.statuses] == [state]


def test_a_link_names_the_job(stack: ExitStack) -> None:
    asked = Asked(stack, "github", link="https://pool.example/jobs/{job}")
    name = asked.made()
    asked.report()
    assert asked.stub.statuses[0][1]["target_url"] == f"https://pool.example/jobs/{name}"
    assert asked.stub.statuses[0][1]["context"] == "rave/app"


def test_a_commit_that_cannot_be_fetched_is_told_of(github: Asked) -> None:
    github.ledger.take("app", "d", Revision("push", "main", commit(1)), "hook", 1)
    (known,) = github.ledger.waiting("app", github.now)
    github.ledger.give_up(known.number, "git fetch fails")
    github.report()
    assert github.stub.statuses[0][1]["state"] == "error"
    assert "git fetch fails" in github.stub.statuses[0][1]["description"]


def test_what_a_job_said_and_a_secret_are_not_told(github: Asked) -> None:
    name = github.made()
    github.ledger.record([(name, Ended(2, 1, "error", None, "w" * 999, 0, 0))])
    assert github.report() == 1
    assert "w" * 9 not in str(github.stub.statuses)


def test_what_a_forge_does_not_take_is_told_again_and_not_for_ever(github: Asked) -> None:
    github.made()
    github.stub.instead = [(500, {}, b"")] * 2
    for _ in range(2):
        assert github.report() == 0
        github.now += 4000
    assert github.report() == 1
    name = github.made(2)
    github.stub.instead = [(404, {}, b"")] * MOST_REFUSALS
    for _ in range(MOST_REFUSALS):
        github.report()
        github.now += 4000
    assert github.report() == 0
    # Its next state is told.
    github.ledger.record([(name, Ended(2, 1, "success", 0, "", 0, 0))])
    assert github.report() == 1
    assert MOST_TRIES > MOST_REFUSALS


def test_gitlab_hears_what_it_knows_without_a_fault(stack: ExitStack) -> None:
    asked = Asked(stack, "gitlab")
    asked.made()
    assert asked.report() == 1
    # As after a kill between the answer and its note.
    asked.ledger.reported(1, "")  # type: ignore[arg-type]
    assert asked.report() == 1
    assert len(asked.stub.statuses) == 1
    assert asked.report() == 0


def test_what_is_retried_is_told_of(github: Asked) -> None:
    name = github.made()
    github.ledger.record([(name, Ended(time.time(), 1, "failure", 1, "", 1, 0))])
    assert github.report() == 1
    (again,) = github.ledger.retry([github.ledger.load(name)])
    assert github.report() == 1
    github.ledger.record([(again.name, Ended(time.time(), 1, "success", 0, "", 0, 0))])
    assert github.report() == 1
    assert [told["state"] for _, told in github.stub.statuses] == ["failure", "pending", "success"]
