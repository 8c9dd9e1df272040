"""The verdicts on what no service answers for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from rave_guest.checks import vitals

if TYPE_CHECKING:
    from pathlib import Path

WRITABLE = frozenset({"rw", "noatime"})


@pytest.mark.parametrize(
    ("language", "ahead", "problem"),
    [
        ("C.UTF-8", 0, None),
        ("en_US.utf-8", 0, None),
        ("", 0, "LANG is not set"),
        ("C", 0, "LANG is C"),
        ("C.UTF-8", 3600, "times are +3600 s off UTC"),
    ],
)
def test_locale(language: str, ahead: int, problem: str | None) -> None:
    verdict = vitals.judge_locale(language, ahead)
    assert (verdict.status, verdict.detail) == (
        ("pass", f"{language}, UTC") if problem is None else ("fail", problem)
    )


@pytest.mark.parametrize(("bits", "status"), [(256, "pass"), (17, "fail"), (None, "skip")])
def test_entropy(bits: int | None, status: str) -> None:
    assert vitals.judge_entropy(bits).status == status


@pytest.mark.parametrize(
    ("options", "refused", "errors", "problem"),
    [
        (WRITABLE, "", 0, None),
        (WRITABLE, "", None, None),
        (frozenset({"ro"}), "Read-only file system", 1, "mounted read-only"),
        (WRITABLE, "Input/output error", 0, "a write failed: Input/output error"),
        (WRITABLE, "", 3, "3 errors"),
    ],
)
def test_disk_state(
    options: frozenset[str], refused: str, errors: int | None, problem: str | None
) -> None:
    verdict = vitals.judge_disk_state(options, refused, errors)
    assert verdict.status == ("pass" if problem is None else "fail")
    assert problem is None or problem in verdict.detail


@pytest.mark.parametrize(("count", "status"), [(0, "pass"), (2, "fail"), (None, "skip")])
def test_stuck(count: int | None, status: str) -> None:
    assert vitals.judge_stuck(count).status == status


def test_a_disk_is_asked_by_a_write_that_leaves_nothing(tmp_path: Path) -> None:
    assert vitals._written(str(tmp_path)) == ""
    assert not list(tmp_path.iterdir())
    assert vitals._written("/proc") != ""
