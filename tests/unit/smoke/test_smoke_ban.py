"""The ban: when it is not risked, and what counts as one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from rave_cli.smoke import inside
from rave_cli.smoke.ban import BAN, FORGIVE, RELEASE, Gate, judge_ban
from rave_cli.smoke.model import Verdict, settle
from rave_cli.smoke.scene import Operator, Scene
from tests.transcripts import make_check
from tests.unit.smoke.test_smoke_inside import Guest, all_pass, door, verdict

if TYPE_CHECKING:
    from rave_cli.images.manifest import Image
    from rave_cli.machines.spec import Machine
    from rave_cli.profiles.catalog import Plan
    from rave_cli.transcript.check import CheckResult, Status


@pytest.fixture
def scene(machine: Machine, plan: Plan, image: Image) -> Scene:
    return Scene(machine, plan, image, {22: 1}, Operator(), {})


def settings(**data: Any) -> CheckResult:
    return make_check(BAN.settings, data=data)


def inner(status: Status) -> CheckResult:
    return settle(RELEASE, Verdict(status, "inside says so"), seconds=0.1, attempts=1)


@pytest.mark.parametrize("found", [None, settings(), settings(bantime="soon")])
def test_a_ban_of_unknown_length_is_not_risked(scene: Scene, found: CheckResult | None) -> None:
    verdict = Gate(scene, door(Guest(lambda _: b""))).try_ban(found)
    assert (verdict.status, "not tried" in verdict.detail) == ("skip", True)


@pytest.mark.parametrize("seconds", [-1, 0, 121, 86400])
def test_a_long_ban_is_not_risked(scene: Scene, seconds: int) -> None:
    guest = Guest(all_pass)
    verdict = Gate(scene, door(guest)).try_ban(settings(bantime=seconds))
    assert verdict.detail == f"a ban would last {seconds} s, so it is not tried"
    assert guest.asked == [[FORGIVE.id]], "what the refusals may have caused is lifted"


def test_without_a_connection_that_can_lift_it_it_is_not_risked(scene: Scene) -> None:
    assert Gate(scene, None).try_ban(settings(bantime=60)).status == "skip"


def test_the_ban_is_lifted_over_the_open_connection(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    greetings = iter([True, False, False, True])
    monkeypatch.setattr(Gate, "_greeted", lambda *_: next(greetings))
    monkeypatch.setattr(Gate, "_provoke", lambda _: None)
    monkeypatch.setattr("rave_cli.smoke.ban.time.sleep", lambda _: None)
    lifted: list[str] = []

    def reply(checks: list[dict[str, Any]]) -> dict[str, Any]:
        while len(lifted) == 0:
            lifted.append(checks[0]["kind"])
        return {"results": [verdict(RELEASE.id)], "facts": {}}

    monkeypatch.setattr(Gate, "_shut_while", lambda self, _: not (self._greeted(1) and False))
    found = Gate(scene, door(Guest(reply))).try_ban(settings(bantime=60))
    assert lifted == ["fail2ban-release"]
    assert found.status == "pass"


def test_silence_is_a_shut_door_only_while_the_ban_is_held(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rave_cli.smoke.ban.time.sleep", lambda _: None)
    gate = Gate(scene, None)
    held = iter([True, True, True, False])
    monkeypatch.setattr(Gate, "_greeted", lambda *_: True)
    assert not gate._shut_while(lambda: next(held))
    greetings = iter([True, False])
    monkeypatch.setattr(Gate, "_greeted", lambda *_: next(greetings))
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


def test_the_release_is_a_question_the_probe_takes() -> None:
    from rave_guest import probe

    assert {RELEASE.kind, FORGIVE.kind} <= set(probe.MODULES)
    assert inside.longest([RELEASE]) > RELEASE.timeout
