"""The recovery phase: what each of its checks says of what came of the steps."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from rave_cli.errors import ExitCode, RaveError
from rave_cli.profiles.catalog import parse
from rave_cli.profiles.names import BAKED
from rave_cli.smoke import runner
from rave_cli.smoke.phases import OPT_IN
from rave_cli.smoke.recovering import MarkedBackup, Marks, RecoveredCopy
from rave_cli.smoke.recovery import IDS, carried_out, compare
from rave_cli.smoke.suite import suite
from rave_cli.transcript import verify
from tests.unit.smoke.test_smoke_runner import looks, request_

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rave_cli.smoke.request import SmokeRequest

__all__ = ["looks", "request_"]

GOOD = {"redis": Marks(64, "a" * 64), "postgresql": Marks(64, "b" * 64)}


@dataclass
class Steps:
    """Steps that go well, but for one."""

    fails: str = ""
    marks: Mapping[str, Marks] = field(default_factory=lambda: dict(GOOD))
    found: Mapping[str, Marks] = field(default_factory=lambda: dict(GOOD))
    taken: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def _take(self, name: str) -> None:
        self.taken.append(name)
        time.sleep(self.seconds / 4)
        if name == self.fails:
            raise RaveError(f"no {name}", exit_code=ExitCode.NOT_READY)

    def mark(self) -> Mapping[str, Marks]:
        self._take("mark")
        return self.marks

    def back_up(self) -> MarkedBackup:
        self._take("backup")
        return MarkedBackup("dev-1", 5 << 20, 9.0, 8.5)

    def restore(self) -> RecoveredCopy:
        self._take("restore")
        return RecoveredCopy(70.25, {"start": 30.0}, self.found)

    def clean(self) -> None:
        self._take("clean")


def statuses(steps: Steps) -> list[str]:
    found = carried_out(steps)
    assert tuple(found) == IDS
    return [found[name].status for name in IDS]


def test_where_all_goes_well_the_figures_are_told() -> None:
    found = carried_out(Steps())
    assert {one.status for one in found.values()} == {"pass"}
    assert found["recovery.restore"].data["rto_seconds"] == 70.25
    assert found["recovery.backup"].data["rpo_seconds"] == 8.5
    assert found["recovery.content"].data["lines"] == {"redis": 64, "postgresql": 64}


def test_what_comes_after_a_step_that_fails_is_skipped_and_cleaned_up() -> None:
    for number, name in enumerate(("mark", "backup", "restore")):
        steps = Steps(fails=name)
        after = ["skip"] * (3 - number)
        assert statuses(steps) == ["pass"] * number + ["fail"] + after + ["pass"], name
        assert steps.taken[-1] == "clean"
    assert statuses(Steps(fails="clean")) == ["pass"] * 4 + ["fail"]


def test_a_machine_that_keeps_nothing_has_nothing_to_show() -> None:
    assert statuses(Steps(marks={})) == ["fail", "skip", "skip", "skip", "pass"]
    assert statuses(Steps(marks={"redis": Marks(0, "c" * 64)}))[0] == "fail"


def test_a_lost_line_a_lost_service_and_another_line_are_told() -> None:
    for found, word in (
        ({"redis": GOOD["redis"]}, "postgresql has lost its mark"),
        (GOOD | {"redis": Marks(63, "a" * 64)}, "63 lines of 64"),
        (GOOD | {"redis": Marks(64, "d" * 64)}, "other lines"),
        (GOOD | {"redis": Marks(0, "a" * 64)}, "redis has lost"),
    ):
        verdict = compare(GOOD, found)
        assert verdict.status == "fail"
        assert word in verdict.detail
        assert statuses(Steps(found=found)) == ["pass", "pass", "pass", "fail", "pass"]


marks = st.dictionaries(
    st.sampled_from(["redis", "nats", "postgresql"]),
    st.builds(Marks, st.integers(1, 3), st.sampled_from(["a" * 64, "b" * 64])),
    max_size=3,
)


@given(marks, marks)
def test_marks_are_there_if_and_only_if_each_is(
    before: dict[str, Marks], after: dict[str, Marks]
) -> None:
    good = all(after.get(name) == mark for name, mark in before.items())
    assert (compare(before, after).status == "pass") == good


def test_a_run_signs_what_became_of_it_with_the_figures(request_: SmokeRequest) -> None:
    steps = Steps(seconds=0.3)
    found = runner.run(replace(request_, recovery=steps), on_event=lambda _: None)
    assert found.status == "SUCCESS", [r for r in found.results if r.status in ("fail", "error")]
    assert steps.taken == ["mark", "backup", "restore", "clean"]
    assert {result.id for result in found.of("recovery")} == set(IDS)
    # One look answers all: the phase lasts as long as that.
    lasted = sum(result.seconds for result in found.of("recovery"))
    assert found.phase_seconds["recovery"] >= 0.99 * lasted
    transcript = request_.output / found.files["transcript"]
    verified = verify(transcript, key=request_.key.public_file, image=request_.image.qcow2)
    assert set(IDS) <= set(verified.passed)
    metrics = json.loads(transcript.read_text())["performance_metrics"]
    assert (metrics["recovery_rto_seconds"], metrics["recovery_rpo_seconds"]) == (70.25, 8.5)


def test_the_phase_is_asked_where_it_is_named_alone() -> None:
    plan = parse(BAKED.read_bytes()).plan("demo", "debian")
    usual = {check.id for check in suite(plan)}
    assert usual.isdisjoint(IDS)
    assert {check.id for check in suite(plan, named=OPT_IN)} - usual == set(IDS)
