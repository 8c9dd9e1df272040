"""The answer to one check: a status, one line of detail, and figures. Standard library only."""

from __future__ import annotations

from typing import Any, NamedTuple

PASS, FAIL, WARN, SKIP, ERROR = "pass", "fail", "warn", "skip", "error"


class Verdict(NamedTuple):
    """What one check found; `data` holds figures and lists, never a secret."""

    status: str
    detail: str
    data: dict[str, Any]


def passed(detail: str, **data: Any) -> Verdict:
    """The property holds."""
    return Verdict(PASS, detail, data)


def failed(detail: str, **data: Any) -> Verdict:
    """The property was looked at and does not hold."""
    return Verdict(FAIL, detail, data)


def warned(detail: str, **data: Any) -> Verdict:
    """The property holds, but somebody should look."""
    return Verdict(WARN, detail, data)


def skipped(reason: str, **data: Any) -> Verdict:
    """The check has nothing to look at here; the reason says why."""
    return Verdict(SKIP, reason, data)


def errored(reason: str, **data: Any) -> Verdict:
    """The check itself could not be carried out; it says nothing about the property."""
    return Verdict(ERROR, reason, data)


def judge(problems: list[str], good: str, **data: Any) -> Verdict:
    """Fail with the problems, or pass with `good` if there is none."""
    return failed("; ".join(problems), **data) if problems else passed(good, **data)
