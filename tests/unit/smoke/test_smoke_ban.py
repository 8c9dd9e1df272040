"""The ban: when it is not risked, and what counts as one."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from rave_cli.errors import ExitCode, RaveError
from rave_cli.smoke import inside
from rave_cli.smoke.ban import PATIENCE, SETTINGS, BanCheck, ban, forgive, judge_ban, release
from rave_cli.smoke.banturn import BanTurn
from rave_cli.smoke.context import CheckContext
from rave_cli.smoke.model import Verdict, settle
from rave_cli.smoke.operator import Operator
from tests.transcripts import make_check
from tests.unit.smoke.test_smoke_inside import Guest, all_pass, door
from tests.waiting import CEILING, until

if TYPE_CHECKING:
    from rave_cli.images.manifest import Image
    from rave_cli.machines.spec import Machine
    from rave_cli.profiles.catalog import Plan
    from rave_cli.transcript.check import CheckResult, Status


@pytest.fixture
def context(machine: Machine, plan: Plan, image: Image) -> CheckContext:
    return CheckContext(machine, plan, image, {22: 1}, Operator(), {})


def settings(**data: Any) -> CheckResult:
    return make_check(SETTINGS, data=data)


def ready(context: CheckContext, guest: Any, found: CheckResult | None) -> CheckContext:
    known = {} if found is None else {SETTINGS: found}
    return replace(context, session=guest, known=known)


def inner(status: Status) -> CheckResult:
    return settle(release("10.0.2.2"), Verdict(status, "inside says so"), seconds=0.1, attempts=1)


@pytest.mark.parametrize("found", [None, settings(), settings(bantime="soon")])
def test_a_ban_of_unknown_length_is_not_risked(
    context: CheckContext, found: CheckResult | None
) -> None:
    verdict = ban(ready(context, Guest(lambda _: b""), found))
    assert (verdict.status, "not tried" in verdict.detail) == ("skip", True)


@pytest.mark.parametrize("seconds", [-1, 0, 121, 86400])
def test_a_long_ban_is_not_risked(context: CheckContext, seconds: int) -> None:
    guest = Guest(all_pass)
    verdict = ban(ready(context, guest, settings(bantime=seconds)))
    assert verdict.detail == f"a ban would last {seconds} s, so it is not tried"
    assert guest.asked == [[forgive("").id]], "what the refusals may have caused is lifted"


def test_without_a_connection_that_can_lift_it_it_is_not_risked(context: CheckContext) -> None:
    assert ban(ready(context, None, settings(bantime=60))).status == "skip"


@pytest.mark.parametrize("status", ["pass", "fail"])
def test_the_guest_is_asked_to_lift_it_after_the_failed_logins_and_before_any_look(
    context: CheckContext, monkeypatch: pytest.MonkeyPatch, status: Status
) -> None:
    order: list[str] = []
    greetings = iter([False, True])

    def greeted(*_: object) -> bool:
        order.append("look")
        return next(greetings)

    monkeypatch.setattr(BanCheck, "_greeted", greeted)
    monkeypatch.setattr(BanCheck, "_provoke", lambda _: order.append("logins"))
    turn = context.ban
    with ThreadPoolExecutor(1) as beside:
        guest = Guest(lambda _: b"")
        found = beside.submit(ban, ready(context, guest, settings(bantime=60)))
        assert turn.to_be_lifted(lambda: CEILING)
        assert turn.held
        until(lambda: "look" in order)
        turn.lifted(inner(status))
        assert found.result(CEILING).status == status
    assert order == ["logins", "look", "look"]
    assert not guest.asked, "what lifts it goes with a batch of the run's"


def test_where_none_is_tried_the_guest_is_asked_nothing_and_nobody_waits(
    context: CheckContext,
) -> None:
    context.ban.forgo()
    assert not context.ban.to_be_lifted(lambda: CEILING)


def test_a_run_that_is_out_of_time_waits_for_no_ban(context: CheckContext) -> None:
    def out_of_time() -> float:
        raise TimeoutError

    with pytest.raises(TimeoutError):
        context.ban.to_be_lifted(out_of_time)


def test_a_guest_that_cannot_be_asked_is_no_ban_that_was_lifted(
    context: CheckContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(BanCheck, "_provoke", lambda _: None)
    monkeypatch.setattr(BanCheck, "_greeted", lambda *_: True)
    why = RaveError("the connection broke", exit_code=ExitCode.NOT_READY)
    guest = Guest(lambda _: b"")
    with ThreadPoolExecutor(1) as beside:
        found = beside.submit(ban, ready(context, guest, settings(bantime=60)))
        context.ban.to_be_lifted(lambda: CEILING)
        context.ban.end(why)
        with pytest.raises(RaveError, match="the connection broke"):
            found.result(CEILING)
    with ThreadPoolExecutor(1) as beside:
        turn = BanTurn()
        given_up = beside.submit(turn.tried)
        turn.end(why)
        with pytest.raises(RaveError, match="the connection broke"):
            given_up.result(CEILING)


def test_a_ban_is_held_for_a_look_that_began_before_it_and_a_whole_one_after(
    context: CheckContext,
) -> None:
    assert release("10.0.2.2").arguments["hold"] >= 2 * PATIENCE
    assert release("10.0.2.2").timeout > release("10.0.2.2").arguments["hold"] + 10


def test_silence_is_a_shut_door_only_while_the_ban_is_held(
    context: CheckContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rave_cli.smoke.ban.time.sleep", lambda _: None)
    gate = BanCheck(context, door(Guest(all_pass)))
    held = iter([True, True, True, False])
    monkeypatch.setattr(BanCheck, "_greeted", lambda *_: True)
    assert not gate._shut_while(lambda: next(held))
    greetings = iter([True, False])
    monkeypatch.setattr(BanCheck, "_greeted", lambda *_: next(greetings))
    assert gate._shut_while(lambda: True)


@pytest.mark.parametrize(
    ("shut", "status", "reopened", "problem"),
    [
        (True, "pass", True, None),
        (False, "pass", True, "still greeted"),
        (True, "fail", True, "inside: inside says so"),
        (True, "pass", False, "after the ban was lifted"),
    ],
)
def test_all_three_views_must_agree(
    shut: bool, status: Status, reopened: bool, problem: str | None
) -> None:
    found = judge_ban(shut=shut, inner=inner(status), reopened=reopened)
    assert found.status == ("fail" if problem else "pass")
    assert (problem or "banned") in found.detail


def test_the_release_is_what_the_probe_takes() -> None:
    from rave_guest import probe

    asked = [release("10.0.2.2"), forgive("10.0.2.2")]
    assert len(probe.parse(inside.request(asked))) == 2
    assert inside.longest(asked[:1]) > asked[0].timeout
