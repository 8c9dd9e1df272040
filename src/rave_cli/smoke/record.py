"""What the transcript says of a run, derived from its results."""

from __future__ import annotations

import hashlib
import json
import platform
from typing import TYPE_CHECKING, Any

from rave_cli import __version__
from rave_cli.machines.qemu import accelerator
from rave_cli.smoke.phases import PHASE_IDS, PHASES
from rave_cli.transcript import ImageRecord, RunRecord, skipped
from rave_cli.transcript.check import BAD

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rave_cli.smoke.model import Check, SmokeRun
    from rave_cli.smoke.request import Request
    from rave_cli.transcript.check import Status


def run_record(
    run: SmokeRun,
    request: Request,
    digests: Mapping[str, str],
    checks: Sequence[Check],
) -> RunRecord:
    """Return what the transcript says of a run."""
    image = request.image
    complete = "before" in digests and "after" in digests
    return RunRecord(
        profile=run.profile,
        base=run.base,
        mode=run.mode,
        checks=run.results,
        image=ImageRecord(
            name=image.qcow2.name,
            sha256=digests["before"],
            sha256_after=digests["after"],
            store_path=image.store_path,
            nar_hash=image.nar_hash,
        )
        if complete
        else None,
        guest_boot_id=run.facts.get("boot_id"),
        system_info=system_info(run.facts),
        tools={"rave": __version__, "python": platform.python_version()},
        configuration=configuration(request, checks),
        service_health=service_health(run, request),
        **{phase.part: _part(run, phase.id) for phase in PHASES if phase.part},
        performance_metrics=performance_metrics(run, checks),
        security_validation=security(run),
        aborted=run.aborted if run.aborted or complete else "the image could not be read",
    )


def system_info(facts: Mapping[str, Any]) -> dict[str, object]:
    """Return the machine's facts in the fields that operators know, and the host's."""
    found = accelerator.detect()
    memory = facts.get("memory_mib")
    names = ("hostname", "kernel", "arch", "cpu_cores", "os", "uptime")
    return {
        **{name: facts[name] for name in names if name in facts},
        **({"memory_gb": round(memory / 1024, 1)} if isinstance(memory, int | float) else {}),
        "accelerator": found.kind,
        "accelerator_reason": found.reason,
        "host_kernel": platform.release(),
    }


def configuration(request: Request, checks: Sequence[Check]) -> dict[str, str]:
    """Return the sha256 of what configured the run: the plan, the suite, the flake's lock."""
    asked = [[c.id, c.title, c.kind, c.viewpoint, c.severity, list(c.needs)] for c in checks]
    found = {
        "plan": _digest(request.plan.model_dump_json(by_alias=True).encode()),
        "suite": _digest(json.dumps(asked).encode()),
    }
    if request.lock_file is not None and request.lock_file.is_file():
        found["flake.lock"] = _digest(request.lock_file.read_bytes())
    return found


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def service_health(run: SmokeRun, request: Request) -> dict[str, object]:
    """Return per service of the profile what was found; absent ones with the reason."""
    found: dict[str, object] = {}
    for name in request.plan.services:
        statuses = {r.id: r.status for r in run.results if r.id.partition(".")[0] == name}
        found[name] = {"status": health_of(list(statuses.values())), "checks": statuses}
    for name in request.plan.absent:
        found[name] = skipped(f"the base {run.base} does not carry it")
    return found


def health_of(statuses: list[Status]) -> str:
    """Return the state of a service from the verdicts on it."""
    if not statuses:
        return "not asked"
    if any(status in BAD for status in statuses):
        return "unhealthy"
    return "healthy" if "pass" in statuses else "not asked"


def _part(run: SmokeRun, phase: str) -> dict[str, object]:
    results = run.of(phase)
    if all(result.status == "skip" for result in results):
        return dict(skipped("; ".join(r.detail for r in results) or "the run did not get there"))
    return {"status": health_of([r.status for r in results]),
            "checks": {r.id: r.status for r in results}}  # fmt: skip


def performance_metrics(run: SmokeRun, checks: Sequence[Check]) -> dict[str, object]:
    """Return the figures of the run, by name with the unit in it."""
    by_id = {result.id: result for result in run.results}
    found: dict[str, object] = {"checks_seconds": round(run.seconds, 3)}
    for check in checks:
        data = by_id[check.id].data if check.id in by_id else {}
        found |= {target: data[name] for name, target in check.figures.items() if name in data}
    found["phase_seconds"] = {
        phase: round(run.phase_seconds[phase], 3)
        for phase in PHASE_IDS
        if phase in run.phase_seconds
    }
    return found


def security(run: SmokeRun) -> dict[str, object]:
    """Return what the phases secrets and security found."""
    results = [*run.of("secrets"), *run.of("security")]
    critical = [r.id for r in results if r.status in BAD and r.severity == "critical"]
    return {
        "status": "fail" if critical else "pass" if any(r.status == "pass" for r in results) else
        "skip",
        "critical_findings": len(critical),
        "findings": critical,
        "checks": {result.id: result.status for result in results},
    }  # fmt: skip
