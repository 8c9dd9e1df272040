"""The answer to one check: a status, one line of detail, and figures. Standard library only."""

from __future__ import annotations

from collections import namedtuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

PASS, FAIL, WARN, SKIP, ERROR = "pass", "fail", "warn", "skip", "error"


# Why there is nothing to look at before the operator has installed secrets.
ABSENT = "no secrets are installed (rave secrets install)"


class Verdict(namedtuple("Verdict", ("status", "detail", "data"))):
    """What one check found; `data` holds figures and lists, never a secret."""

    __slots__ = ()
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


def missing(path: str) -> Verdict:
    """The check needs a secret that is not there."""
    return skipped(f"needs the secret {path}, which is not installed")


def errored(reason: str, **data: Any) -> Verdict:
    """The check itself could not be carried out; it says nothing about the property."""
    return Verdict(ERROR, reason, data)


def judge(problems: list[str], good: str, **data: Any) -> Verdict:
    """Fail with the problems, or pass with `good` if there is none."""
    return failed("; ".join(problems), **data) if problems else passed(good, **data)
