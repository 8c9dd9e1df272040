"""Asks the guest: one call of its door per batch, over a connection that stays open."""

from __future__ import annotations

import time
from collections import ChainMap
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

from rave_cli.errors import ExitCode, RaveError
from rave_cli.smoke.model import Check, Verdict, blocked, settle, unasked
from rave_cli.transcript.check import STATUSES, CheckResult

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rave_cli.machines.guest.door import Door

# The probe itself: interpreter, modules, answer. Under TCG it needs about one second.
OVERHEAD = 20.0


@dataclass(frozen=True)
class Answer:
    """Results of a batch, and what the guest said about itself."""

    results: tuple[CheckResult, ...]
    facts: Mapping[str, Any]


def ask(
    door: Door | None,
    checks: Sequence[Check],
    known: Mapping[str, CheckResult],
    *,
    most_seconds: float,
) -> Answer:
    """Let the guest carry out a batch of checks in one call.

    Checks whose needs were settled elsewhere and did not pass are skipped here; needs within the
    batch are the probe's own affair.

    Args:
        door: the way into the guest; None if nobody could log in.
        checks: the batch; a check comes after those of the batch that it needs.
        known: results so far.
        most_seconds: what is left of the run's time.

    Raises:
        RaveError: NOT_READY if there is no way in, the connection breaks, the call does not end in
            time, or the guest does not answer what was asked.
    """
    skipped, asked = _divide(checks, known)
    if not asked:
        return Answer(skipped, {})
    if door is None:
        raise RaveError(
            "there is no connection to the guest",
            hint="rave vm status",
            exit_code=ExitCode.NOT_READY,
        )
    began = time.monotonic()
    document = door.call("probe", request(asked), timeout=min(most_seconds, longest(asked)))
    spent = time.monotonic() - began
    answer = read_answer(door.machine, document, asked)
    # The guest's clock is its own affair, but no check took longer than the call.
    results = (replace(result, seconds=min(result.seconds, spent)) for result in answer.results)
    return Answer((*skipped, *results), answer.facts)


def _divide(
    checks: Sequence[Check], known: Mapping[str, CheckResult]
) -> tuple[tuple[CheckResult, ...], list[Check]]:
    """Return the results of what is blocked, link by link, and the checks to ask."""
    skipped: dict[str, CheckResult] = {}
    settled = ChainMap(skipped, cast("dict[str, CheckResult]", known))
    asked = []
    for check in checks:
        reason = blocked(check, settled)
        if reason is None:
            asked.append(check)
        else:
            skipped[check.id] = unasked(check, reason)
    return tuple(skipped.values()), asked


def longest(checks: Sequence[Check]) -> float:
    """Return the seconds after which a batch must have been answered.

    Eight checks run at a time, so the slowest chain decides; the sum is a bound that no honest
    guest reaches, and a check that hangs is cut off by the probe itself.
    """
    times = [c.timeout + c.retry_for + 1 for c in checks]
    return OVERHEAD + max(*times, sum(times) / 4)


def request(checks: Sequence[Check]) -> dict[str, Any]:
    """Return the arguments of the verb probe."""
    batch = {check.id for check in checks}
    asked = [
        {
            "id": check.id,
            "kind": check.kind,
            "timeout": check.timeout,
            "retry_for": check.retry_for,
            "needs": [name for name in check.needs if name in batch],
            "arguments": dict(check.arguments),
        }
        for check in checks
    ]
    return {"checks": asked}


def read_answer(machine: str, document: Mapping[str, Any], checks: Sequence[Check]) -> Answer:
    """Read the answer of the verb probe. The guest is not trusted to answer well.

    Raises:
        RaveError: NOT_READY if it is not an answer to exactly these checks.
    """
    try:
        results, facts = _parts(document, checks)
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        raise RaveError(
            f"machine {machine} gave no usable answer to probe: {type(error).__name__}: {error}",
            hint=f"rave vm logs {machine}",
            exit_code=ExitCode.NOT_READY,
        ) from error
    return Answer(results, facts)


def _parts(
    document: Mapping[str, Any], checks: Sequence[Check]
) -> tuple[tuple[CheckResult, ...], Mapping[str, Any]]:
    entries = {str(entry["id"]): entry for entry in document["results"]}
    if len(entries) != len(document["results"]) or set(entries) != {c.id for c in checks}:
        raise ValueError("it does not answer what was asked")
    if not isinstance(document["facts"], dict):
        raise TypeError("its facts are no table")
    return tuple(_result(c, entries[c.id]) for c in checks), document["facts"]


def _result(check: Check, entry: Mapping[str, Any]) -> CheckResult:
    status, data = entry["status"], entry["data"]
    if status not in STATUSES or not isinstance(data, dict):
        raise ValueError(f"{check.id}: not a verdict")
    verdict = Verdict(status, str(entry["detail"])[:2000], data)
    return settle(check, verdict, seconds=float(entry["seconds"]), attempts=int(entry["attempts"]))
