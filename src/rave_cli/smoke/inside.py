"""Asks the guest: one call of its door per batch, over a connection that stays open."""

from __future__ import annotations

import json
import time
from collections import ChainMap
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

from rave_cli.errors import ExitCode, RaveError
from rave_cli.smoke.model import Check, Verdict, blocked, settle, unasked
from rave_cli.transcript.check import STATUSES, CheckResult

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from rave_cli.machines.guest.door import Door

# The probe itself: interpreter, modules, answer. Under TCG it needs about one second.
OVERHEAD = 20.0

# Bytes of a line that the guest tells.
LONGEST_LINE = 1 << 20


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
    on_result: Callable[[CheckResult], None] | None = None,
) -> Answer:
    """Let the guest carry out a batch of checks in one call.

    Checks whose needs were settled elsewhere and did not pass are skipped here; needs within the
    batch are the probe's own affair.

    Args:
        door: the way into the guest; None if nobody could log in.
        checks: the batch; a check comes after those of the batch that it needs.
        known: results so far.
        most_seconds: what is left of the run's time.
        on_result: told of each result as soon as the guest has it; the answer has it again.

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
    patience = min(most_seconds, longest(asked))
    if on_result is None:
        document = door.call("probe", request(asked), timeout=patience)
    else:
        lines = ToldResults(asked, on_result)
        wanted = request(asked) | {"tells": True}
        document = door.call("probe", wanted, timeout=patience, on_error=lines.take)
    spent = time.monotonic() - began
    answer = read_answer(door.machine, document, asked)
    # The guest's clock is its own affair, but no check took longer than the call.
    results = (replace(result, seconds=min(result.seconds, spent)) for result in answer.results)
    return Answer((*skipped, *results), answer.facts)


class ToldResults:
    """Results that the guest tells while it goes on, line by line. What is none is left out."""

    def __init__(self, checks: Sequence[Check], on_result: Callable[[CheckResult], None]) -> None:
        self._open = {check.id: check for check in checks}
        self._on_result = on_result
        self._rest = b""

    def take(self, data: bytes) -> None:
        """Take a piece of what it says."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        self._rest = self._rest[-LONGEST_LINE:]
        for line in lines:
            try:
                entry = json.loads(line)["told"]
                result = _result(self._open[entry["id"]], entry)
            except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
                continue
            del self._open[result.id]
            self._on_result(result)


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
