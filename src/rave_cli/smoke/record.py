"""What the transcript says of a run, derived from its results."""

from __future__ import annotations

import hashlib
import json
import platform
from typing import TYPE_CHECKING, Any

from rave_cli import __version__
from rave_cli.machines.qemu import accelerator
from rave_cli.smoke.phases import PHASE_IDS, PHASES
from rave_cli.transcript import (
    ImageDigests,
    ImageRecord,
    MachineRecord,
    PackageOrigin,
    RunRecord,
    RunSubject,
    skipped,
)
from rave_cli.transcript.parts import health_part, security_part

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rave_cli.profiles.catalog import Plan
    from rave_cli.smoke.model import Check, SmokeRun
    from rave_cli.smoke.request import SmokeRequest


def run_subject(request: SmokeRequest, checks: Sequence[Check]) -> RunSubject:
    """Return what a run is about, before its first check."""
    spec, image = request.machine.spec, request.image
    return RunSubject(
        profile=spec.profile,
        base=spec.base,
        mode=spec.mode,
        machine=MachineRecord(spec.name, spec.instance_id, spec.network),
        image=ImageRecord(image.qcow2.name, image.sha256, image.store_path, image.nar_hash),
        packages=PackageOrigin(image.lock_sha256, image.trusted_keys),
        tools={"rave": __version__, "python": platform.python_version()},
        configuration=configuration(request, checks),
        checks=tuple(check.id for check in checks),
    )


def run_record(
    run: SmokeRun,
    subject: RunSubject,
    plan: Plan,
    digests: Mapping[str, str],
    checks: Sequence[Check],
    *,
    origin: str = "",
    replaced: str | None = None,
) -> RunRecord:
    """Return what the transcript says of a run of `checks`; `origin` says how the guest began,
    `replaced` is the sha256 of the image that the machine was updated from, if it was.
    """
    complete = "before" in digests and "after" in digests
    return RunRecord(
        subject=subject,
        checks=run.results,
        digests=ImageDigests(digests["before"], digests["after"]) if complete else None,
        guest_boot_id=run.facts.get("boot_id"),
        system_info=system_info(run.facts)
        | ({"origin": origin} if origin else {})
        | ({"updated_from": f"sha256:{replaced}"} if replaced else {}),
        service_health=service_health(run, plan),
        **{phase.part: _part(run, phase.id) for phase in PHASES if phase.part},
        performance_metrics=performance_metrics(run, checks),
        security_validation=security_part([*run.of("secrets"), *run.of("security")]),
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


def configuration(request: SmokeRequest, checks: Sequence[Check]) -> dict[str, str]:
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


def service_health(run: SmokeRun, plan: Plan) -> dict[str, object]:
    """Return per service of the profile what was found; absent ones with the reason."""
    found: dict[str, object] = {}
    for name in plan.services:
        found[name] = health_part([r for r in run.results if r.id.partition(".")[0] == name])
    for name in plan.absent:
        found[name] = skipped(f"this image of the base {run.base} does not have it")
    return found


def _part(run: SmokeRun, phase: str) -> dict[str, object]:
    results = run.of(phase)
    if all(result.status == "skip" for result in results):
        return dict(skipped("; ".join(r.detail for r in results) or "the run did not get there"))
    return health_part(results)


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
