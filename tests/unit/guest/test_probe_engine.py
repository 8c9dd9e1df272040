"""How a batch is carried out: needs, retries, time limits, faults of a check."""

from __future__ import annotations

import threading
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rave_guest import probe, registry
from rave_guest.check import declared
from rave_guest.refusal import Refused
from rave_guest.system import System
from rave_guest.verdict import Verdict, errored, failed, passed, skipped, warned
from tests.waiting import CEILING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


def ask(id_: str, *needs: str, timeout: float = CEILING, retry_for: float = 0) -> probe.Ask:
    return probe.Ask(id_, "checks.boot.kernel", timeout, retry_for, needs, {})


def answered(
    monkeypatch: pytest.MonkeyPatch,
    asks: list[probe.Ask],
    looks: Mapping[str, Callable[[], Verdict]],
) -> dict[str, probe.Result]:
    monkeypatch.setattr(probe, "look_of", lambda one, world: looks[one.id])
    return {result.id: result for result in probe.answer(asks, System())}


def test_results_come_in_the_order_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    slow = threading.Event()

    def early() -> Verdict:
        slow.set()
        return passed("early")

    looks = {"a": lambda: passed("late") if slow.wait(CEILING) else failed("never"), "b": early}
    found = answered(monkeypatch, [ask("a"), ask("b")], looks)
    assert list(found) == ["a", "b"]
    assert found["a"].verdict.detail == "late"


@pytest.mark.parametrize("verdict", [failed("x"), errored("x"), skipped("x")])
def test_what_needs_a_check_that_did_not_pass_is_skipped(
    monkeypatch: pytest.MonkeyPatch, verdict: Verdict
) -> None:
    looks = {"a": lambda: verdict, "b": lambda: passed("reached"), "c": lambda: passed("reached")}
    found = answered(monkeypatch, [ask("a"), ask("b", "a"), ask("c", "b")], looks)
    assert found["b"].verdict.status == "skip"
    assert found["b"].verdict.detail == f"a is a precondition, and its result is {verdict.status}"
    assert found["c"].verdict.status == "skip"
    assert found["b"].attempts == 0


def test_a_warning_is_good_enough_for_what_needs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = {"a": lambda: warned("hm"), "b": lambda: passed("reached")}
    found = answered(monkeypatch, [ask("a"), ask("b", "a")], looks)
    assert found["b"].verdict.status == "pass"


def test_a_check_that_hangs_is_an_error_and_holds_nobody_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    forever = threading.Event()
    looks = {
        "a": lambda: passed("x") if forever.wait(CEILING) else failed("y"),
        "b": lambda: passed("z"),
    }
    found = answered(monkeypatch, [ask("a", timeout=0.1), ask("b")], looks)
    forever.set()
    assert found["a"].verdict.status == "error"
    assert "no result within 0.1 s" in found["a"].verdict.detail
    assert found["b"].verdict.status == "pass"


def test_more_checks_than_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    asks = [ask(f"c{n}") for n in range(5 * probe.WORKERS)]
    found = answered(monkeypatch, asks, {a.id: lambda: passed("x") for a in asks})
    assert len(found) == len(asks)
    assert {result.verdict.status for result in found.values()} == {"pass"}


def test_a_failing_check_is_asked_again_with_growing_pauses() -> None:
    answers = iter([failed("1"), errored("2"), failed("3"), passed("4")])
    pauses: list[float] = []
    result = probe.carry_out(ask("a", retry_for=60), lambda: next(answers), sleep=pauses.append)
    assert (result.verdict.detail, result.attempts) == ("4", 4)
    assert pauses == [0.1, 0.2, 0.4]


def test_without_patience_it_is_asked_once() -> None:
    result = probe.carry_out(ask("a"), lambda: failed("no"), sleep=lambda _: None)
    assert (result.verdict.status, result.attempts) == ("fail", 1)


@pytest.mark.parametrize("verdict", [passed("x"), warned("x"), skipped("x")])
def test_only_failures_are_repeated(verdict: Verdict) -> None:
    result = probe.carry_out(ask("a", retry_for=60), lambda: verdict, sleep=lambda _: None)
    assert result.attempts == 1


@pytest.mark.parametrize(
    ("fault", "status", "detail"),
    [
        (TimeoutError(), "fail", f"no answer within {CEILING:g} s"),
        (ConnectionRefusedError(), "fail", "connection refused"),
        (KeyError("x"), "error", "KeyError: 'x'"),
        (RuntimeError("psql: no"), "error", "RuntimeError: psql: no"),
    ],
)
def test_a_fault_of_a_check_is_its_verdict(fault: Exception, status: str, detail: str) -> None:
    def look() -> Verdict:
        raise fault

    verdict = probe.carry_out(ask("a"), look).verdict
    assert (verdict.status, verdict.detail) == (status, detail)


def entry(id_: str, **more: Any) -> dict[str, Any]:
    usual = {
        "kind": "checks.boot.kernel",
        "timeout": 1,
        "retry_for": 0,
        "needs": [],
        "arguments": {},
    }
    return {"id": id_, **usual, **more}


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"checks": 1},
        {"checks": [1]},
        {"checks": [{"id": "a"}]},
        {"checks": [entry("a", timeout="soon")]},
        {"checks": [entry("a", arguments=1)]},
        {"checks": [entry("a"), entry("a")]},
        {"checks": [entry("a", needs=["b"]), entry("b")]},
        {"checks": [entry("a", needs=["a"])]},
    ],
)
def test_a_batch_that_makes_no_sense_is_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(Refused, match=r"not a batch|twice|does not come before") as caught:
        probe.parse(arguments)
    assert caught.value.stage == "request"


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_any_batch_ends_and_respects_its_needs(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 12))
    statuses = data.draw(
        st.lists(st.sampled_from(["pass", "fail", "warn", "skip"]), min_size=count, max_size=count)
    )
    needs = [
        data.draw(st.sets(st.integers(0, at - 1), max_size=3)) if at else set()
        for at in range(count)
    ]
    asks = [ask(str(at), *map(str, needs[at])) for at in range(count)]
    looks = {str(at): partial(Verdict, s, "", {}) for at, s in enumerate(statuses)}
    with pytest.MonkeyPatch.context() as monkeypatch:
        found = answered(monkeypatch, asks, looks)
    for at in range(count):
        met = all(found[str(n)].verdict.status in {"pass", "warn"} for n in needs[at])
        expected = statuses[at] if met else "skip"
        assert found[str(at)].verdict.status == expected


@pytest.mark.parametrize(
    "kind",
    ["telepathy", "checks.boot", "checks.boot.read", "checks.boot.judge_taint", "os.system",
     "checks.../secrets/install.install", "secrets.install.verb", "services.redis.alive"],
)  # fmt: skip
def test_a_kind_that_is_none_is_an_error_of_that_check_alone(kind: str) -> None:
    one = probe.Ask("a", kind, 1, 0, (), {})
    (result,) = probe.answer([one], System())
    assert result.verdict.status == "error"
    assert f"does not know the kind of check {kind!r}" in result.verdict.detail


def test_every_declared_check_can_be_asked_for() -> None:
    for module in registry.modules():
        for declaration in declared(module):
            look = probe.look_of(probe.Ask("a", declaration.kind, 1, 0, (), {}), System())
            assert callable(look)
            assert registry.function(declaration.kind) is declaration.function
