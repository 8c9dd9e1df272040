"""What a smoke run is made of: checks, verdicts, results. Frozen values, nothing else."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from rave_cli.smoke.phases import PHASES, Step
from rave_cli.transcript.check import STATUSES, CheckResult, Severity, Status, Viewpoint
from rave_cli.transcript.record import RunStatus, overall_status

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from rave_cli.smoke.context import CheckContext

    Look = Callable[[CheckContext], "Verdict | Mapping[str, Verdict]"]


@dataclass(frozen=True)
class Check:
    """A check of one run, before it is carried out.

    Args:
        id: unique in a run, such as `postgresql.roles`.
        phase: id of its phase.
        title: what passes, as a statement.
        viewpoint: from where it looks.
        kind: the place of the function that carries it out.
        arguments: for `guest`, what that function gets; JSON data, never a secret.
        timeout: seconds for one attempt.
        retry_for: seconds during which a failing attempt is repeated, with growing pauses.
        needs: ids of checks that must have passed (or warned); otherwise this one is skipped.
        severity: a failed `warning` counts as a warning.
        step: when in the run it is carried out.
        figures: name in its data -> name among the transcript's performance metrics.
        look: carries it out, unless the guest does; one look may answer several checks, by id.
        skip: why there is nothing to look at on this machine; None looks.
    """

    id: str
    phase: str
    title: str
    viewpoint: Viewpoint = "guest"
    kind: str = ""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    timeout: float = 20.0
    retry_for: float = 0.0
    needs: tuple[str, ...] = ()
    severity: Severity = "critical"
    step: Step = "inside"
    figures: Mapping[str, str] = field(default_factory=dict)
    look: Look | None = None
    skip: str | None = None


@dataclass(frozen=True)
class Verdict:
    """What one check found; `data` holds figures and lists, never a secret."""

    status: Status
    detail: str
    data: Mapping[str, Any] = field(default_factory=dict)


def judge(problems: list[str], good: str, **data: Any) -> Verdict:  # noqa: ANN401 - JSON data
    """Fail with the problems, or pass with `good` if there is none."""
    return Verdict("fail", "; ".join(problems), data) if problems else Verdict("pass", good, data)


def settle(check: Check, verdict: Verdict, *, seconds: float, attempts: int) -> CheckResult:
    """Return the result of a check; a failed `warning` counts as a warning."""
    status = verdict.status
    if status == "fail" and check.severity == "warning":
        status = "warn"
    return CheckResult(
        id=check.id,
        phase=check.phase,
        title=check.title,
        status=status,
        severity=check.severity,
        viewpoint=check.viewpoint,
        seconds=seconds,
        attempts=attempts,
        detail=verdict.detail,
        data=verdict.data,
    )


def unasked(check: Check, reason: str) -> CheckResult:
    """Return the result of a check that was not carried out, and why."""
    return settle(check, Verdict("skip", reason), seconds=0.0, attempts=0)


def blocked(check: Check, known: Mapping[str, CheckResult]) -> str | None:
    """Return why a check is not carried out: its own reason, or a need that did not pass."""
    if check.skip is not None:
        return check.skip
    for name in check.needs:
        if name in known and known[name].status not in ("pass", "warn"):
            return f"{name} is a precondition, and its result is {known[name].status}"
    return None


@dataclass(frozen=True)
class SmokeRun:
    """A finished run.

    Args:
        session: id of the run, which its transcript carries.
        profile: profile of the machine.
        base: base of its image.
        mode: `safe` or `full`.
        machine: name of the machine.
        started: UTC, `2026-01-24T14:30:52Z`.
        seconds: duration of the checks.
        results: every check, in the order of the phases.
        phase_seconds: time per phase in which one of its checks was under way. Phases overlap.
        facts: what the guest said about itself; empty if it never answered.
        aborted: why the run did not complete; None if it did.
        files: name -> path of what was written.
    """

    session: str
    profile: str
    base: str
    mode: str
    machine: str
    started: str
    seconds: float
    results: tuple[CheckResult, ...]
    phase_seconds: Mapping[str, float] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    aborted: str | None = None
    files: Mapping[str, str] = field(default_factory=dict)

    @property
    def status(self) -> RunStatus:
        """The verdict on the run. Skips and errors never count as passed."""
        if self.aborted is not None:
            return "ABORTED"
        return overall_status([result.status for result in self.results])

    def count(self, phase: str | None = None) -> dict[Status, int]:
        """Return how many checks, of one phase or of all, ended in which status."""
        found = Counter(r.status for r in self.results if phase in (None, r.phase))
        return {status: found.get(status, 0) for status in STATUSES}

    def of(self, phase: str) -> tuple[CheckResult, ...]:
        """Return the results of a phase."""
        return tuple(result for result in self.results if result.phase == phase)

    def with_files(self, files: Mapping[str, str]) -> SmokeRun:
        """Return the run with the places of what was written."""
        return replace(self, files=dict(files))

    def document(self) -> dict[str, Any]:
        """Return it as JSON data."""
        return {
            "session": self.session,
            "status": self.status,
            "aborted": self.aborted,
            "profile": self.profile,
            "base": self.base,
            "mode": self.mode,
            "machine": self.machine,
            "started": self.started,
            "seconds": round(self.seconds, 3),
            "summary": self.count(),
            "phases": [
                {
                    "id": phase.id,
                    "title": phase.title,
                    "seconds": round(self.phase_seconds.get(phase.id, 0.0), 3),
                    "summary": self.count(phase.id),
                }
                for phase in PHASES
            ],
            "facts": dict(self.facts),
            "checks": [result.document() for result in self.results],
            "files": dict(self.files),
        }
