"""Results, their counting, and the verdict on a run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from rave_cli.smoke.model import (
    Check,
    SmokeRun,
    Verdict,
    blocked,
    judge,
    settle,
)
from tests.transcripts import make_check

if TYPE_CHECKING:
    from rave_cli.transcript.check import CheckResult, Severity, Status


def result(id_: str, status: Status, phase: str = "health") -> CheckResult:
    return make_check(id_, status, phase=phase)


def run(*statuses: Status, aborted: str | None = None) -> SmokeRun:
    results = tuple(result(f"c{n}", status) for n, status in enumerate(statuses))
    return SmokeRun("s", "demo", "debian", "safe", "m", "now", 1.0, results, aborted=aborted)


@pytest.mark.parametrize(
    ("statuses", "verdict"),
    [
        (("pass",), "SUCCESS"),
        (("pass", "skip"), "SUCCESS"),
        (("pass", "warn"), "WARNING"),
        (("pass", "warn", "fail"), "FAILED"),
        (("pass", "error"), "FAILED"),
        (("skip", "skip"), "FAILED"),
        (("warn",), "FAILED"),
        ((), "FAILED"),
    ],
)
def test_a_skip_or_an_error_never_counts_as_passed(
    statuses: tuple[Status, ...], verdict: str
) -> None:
    assert run(*statuses).status == verdict


def test_an_aborted_run_is_aborted_whatever_passed() -> None:
    assert run("pass", aborted="interrupted").status == "ABORTED"


@pytest.mark.parametrize(
    ("severity", "status", "settled"),
    [
        ("critical", "fail", "fail"),
        ("warning", "fail", "warn"),
        ("warning", "error", "error"),
        ("warning", "pass", "pass"),
    ],
)
def test_severity_decides_what_a_failure_counts(
    severity: Severity, status: Status, settled: str
) -> None:
    check = Check("a", "health", "t", severity=severity)
    assert settle(check, Verdict(status, "d"), seconds=0.1, attempts=1).status == settled


def test_judge() -> None:
    assert judge([], "good", figure=1) == Verdict("pass", "good", {"figure": 1})
    assert judge(["a", "b"], "good").detail == "a; b"


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        ("pass", None),
        ("warn", None),
        ("fail", "a is a precondition, and its result is fail"),
        ("skip", "a is a precondition, and its result is skip"),
        ("error", "a is a precondition, and its result is error"),
    ],
)
def test_what_blocks_a_check(status: Status, reason: str | None) -> None:
    check = Check("b", "health", "t", needs=("a",))
    assert blocked(check, {"a": result("a", status)}) == reason


def test_a_need_that_was_not_asked_blocks_nothing() -> None:
    assert blocked(Check("b", "health", "t", needs=("a",)), {}) is None


def test_a_reason_of_its_own_comes_first() -> None:
    assert blocked(Check("b", "health", "t", skip="not here"), {}) == "not here"


def test_the_document_counts_by_phase() -> None:
    document = run("pass", "fail").document()
    assert document["summary"] == {"pass": 1, "fail": 1, "warn": 0, "skip": 0, "error": 0}
    health = next(phase for phase in document["phases"] if phase["id"] == "health")
    assert health["summary"]["pass"] == 1
    assert [check["id"] for check in document["checks"]] == ["c0", "c1"]
