"""The ban: when it is not risked, and what counts as one."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from rave_cli.smoke import inside
from rave_cli.smoke.ban import PATIENCE, SETTINGS, BanCheck, ban, forgive, judge_ban, release
from rave_cli.smoke.context import CheckContext
from rave_cli.smoke.model import Verdict, settle
from rave_cli.smoke.operator import Operator
from tests.transcripts import make_check
from tests.unit.smoke.test_smoke_inside import Guest, all_pass, door, verdict

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


def test_the_ban_is_lifted_over_the_open_connection(
    context: CheckContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    greetings = iter([False, True])
    monkeypatch.setattr(BanCheck, "_greeted", lambda *_: next(greetings))
    monkeypatch.setattr(BanCheck, "_provoke", lambda _: None)
    monkeypatch.setattr("rave_cli.smoke.ban.time.sleep", lambda _: None)
    lifted: list[str] = []

    def reply(checks: list[dict[str, Any]]) -> dict[str, Any]:
        lifted.append(checks[0]["kind"])
        return {"results": [verdict(release("").id)], "facts": {}}

    monkeypatch.setattr(BanCheck, "_shut_while", lambda self, _: not (self._greeted(1) and False))
    found = ban(ready(context, Guest(reply), settings(bantime=60)))
    assert lifted == ["services.fail2ban.release"]
    assert found.status == "pass"


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
