"""Asks the guest: one call of its door per batch, over a connection that stays open."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from rave_cli.errors import ExitCode, RaveError
from rave_cli.smoke.model import Question, Verdict, blocked, settle, unasked
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
    door: Door,
    questions: Sequence[Question],
    known: Mapping[str, CheckResult],
    *,
    most_seconds: float,
) -> Answer:
    """Ask a batch of guest questions in one call.

    Questions whose needs were settled elsewhere and did not pass are skipped here; needs within
    the batch are the probe's own affair.

    Args:
        door: the way into the guest.
        questions: the batch; a question comes after those of the batch that it needs.
        known: results so far.
        most_seconds: what is left of the run's time.

    Raises:
        RaveError: NOT_READY if the connection breaks, the call does not end in time, or the guest
            does not answer what was asked.
    """
    reasons = {q.id: reason for q in questions if (reason := blocked(q, known))}
    skipped = [unasked(q, reasons[q.id]) for q in questions if q.id in reasons]
    asked = [q for q in questions if q.id not in reasons]
    settled = {**known, **{result.id: result for result in skipped}}
    # A need that is skipped in this batch skips what depends on it, link by link.
    while late := [q for q in asked if blocked(q, settled)]:
        for question in late:
            result = unasked(question, blocked(question, settled) or "")
            settled[question.id] = result
            skipped.append(result)
        asked = [q for q in asked if q.id not in settled]
    if not asked:
        return Answer(tuple(skipped), {})
    began = time.monotonic()
    document = door.call("probe", request(asked), timeout=min(most_seconds, longest(asked)))
    spent = time.monotonic() - began
    answer = read_answer(door.machine, document, asked)
    # The guest's clock is its own affair, but no check took longer than the call.
    results = (replace(result, seconds=min(result.seconds, spent)) for result in answer.results)
    return Answer((*skipped, *results), answer.facts)


def longest(questions: Sequence[Question]) -> float:
    """Return the seconds after which a batch must have been answered.

    Eight checks run at a time, so the slowest chain decides; the sum is a bound that no honest
    guest reaches, and a check that hangs is cut off by the probe itself.
    """
    times = [q.timeout + q.retry_for + 1 for q in questions]
    return OVERHEAD + max(*times, sum(times) / 4)


def request(questions: Sequence[Question]) -> dict[str, Any]:
    """Return the arguments of the verb probe."""
    batch = {question.id for question in questions}
    checks = [
        {
            "id": question.id,
            "kind": question.kind,
            "timeout": question.timeout,
            "retry_for": question.retry_for,
            "needs": [name for name in question.needs if name in batch],
            "arguments": dict(question.arguments),
        }
        for question in questions
    ]
    return {"checks": checks}


def read_answer(machine: str, document: Mapping[str, Any], questions: Sequence[Question]) -> Answer:
    """Read the answer of the verb probe. The guest is not trusted to answer well.

    Raises:
        RaveError: NOT_READY if it is not an answer to exactly these questions.
    """
    try:
        results, facts = _parts(document, questions)
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        raise RaveError(
            f"machine {machine} gave no usable answer to probe: {type(error).__name__}: {error}",
            hint=f"rave vm logs {machine}",
            exit_code=ExitCode.NOT_READY,
        ) from error
    return Answer(results, facts)


def _parts(
    document: Mapping[str, Any], questions: Sequence[Question]
) -> tuple[tuple[CheckResult, ...], Mapping[str, Any]]:
    entries = {str(entry["id"]): entry for entry in document["results"]}
    if len(entries) != len(document["results"]) or set(entries) != {q.id for q in questions}:
        raise ValueError("it does not answer what was asked")
    if not isinstance(document["facts"], dict):
        raise TypeError("its facts are no table")
    return tuple(_result(q, entries[q.id]) for q in questions), document["facts"]


def _result(question: Question, entry: Mapping[str, Any]) -> CheckResult:
    status, data = entry["status"], entry["data"]
    if status not in STATUSES or not isinstance(data, dict):
        raise ValueError(f"{question.id}: not a verdict")
    verdict = Verdict(status, str(entry["detail"])[:2000], data)
    return settle(
        question, verdict, seconds=float(entry["seconds"]), attempts=int(entry["attempts"])
    )
