"""The parts of a document that are derived from its checks, and derived again to verify it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rave_cli.transcript.check import BAD

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rave_cli.transcript.check import CheckResult, Status


def health_of(statuses: Sequence[Status]) -> str:
    """Return the state of what a few checks are about, from the verdicts on it."""
    if any(status in BAD for status in statuses):
        return "unhealthy"
    return "healthy" if "pass" in statuses else "not asked"


def health_part(checks: Sequence[CheckResult]) -> dict[str, object]:
    """Return what the document says of a service, or of another part that a few checks look at."""
    return {
        "status": health_of([check.status for check in checks]),
        "checks": {check.id: check.status for check in checks},
    }


def security_part(checks: Sequence[CheckResult]) -> dict[str, object]:
    """Return the document's `security_validation`."""
    critical = [c.id for c in checks if c.status in BAD and c.severity == "critical"]
    passed = any(check.status == "pass" for check in checks)
    return {
        "status": "fail" if critical else "pass" if passed else "skip",
        "critical_findings": len(critical),
        "findings": critical,
        "checks": {check.id: check.status for check in checks},
    }
