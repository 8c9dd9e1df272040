"""The suite: every check of a run, from what is declared beside its function and from the plan.

Order within a phase is the order in which people read them; a check comes after what it needs.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, cast

from rave_cli.smoke import ban, canaries, declarations, onhost, outside, recovery, sandbox, scan
from rave_cli.smoke.declarations import Subject
from rave_cli.smoke.model import Check
from rave_cli.smoke.phases import OPT_IN, PHASE_IDS, PHASES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from rave_cli.profiles.catalog import HealthCheck, Plan
    from rave_cli.profiles.names import Mode
    from rave_cli.smoke.declarations import Declaration
    from rave_cli.smoke.phases import Step

LOGIN = "boot.ssh"
NOTHING: Mapping[str, str] = MappingProxyType({})
# Where the host's own checks are declared.
HOST = (onhost, outside, scan, ban, canaries, recovery, sandbox)


def suite(
    plan: Plan,
    *,
    mode: Mode = "safe",
    instance: str = "",
    network: str = "isolated",
    memory_mib: int = 0,
    decoys: tuple[tuple[str, int], ...] = (),
    named: frozenset[str] = frozenset(),
    withheld: Mapping[str, str] = NOTHING,
) -> tuple[Check, ...]:
    """Return every check of a machine, in the order of the phases.

    Args:
        plan: the plan that the machine was made from.
        mode: the machine's mode.
        instance: its instance id.
        network: `isolated` or `nat`.
        memory_mib: its memory; 0 takes what the plan has for the mode.
        decoys: (address, port) of listeners that the host holds open for the guest to try.
        named: phases that are carried out only where they are named, and are.
        withheld: phases that cannot be carried out, and why; one check of each says so.
    """
    document = plan.model_dump(mode="json", by_alias=True)
    about = Subject(document, mode, instance, network, memory_mib, decoys)
    declared = [
        found
        for found in (*_of_host(), *declarations.of_guest())
        if found.service is None or found.service in plan.services
        if found.phase not in OPT_IN - named
        if found.phase not in withheld
    ]
    general = [d for d in declared if d.service is None or d.viewpoint != "guest"]
    checks = [_bind(d, about) for d in general]
    for name in plan.services:
        own = [_bind(d, about) for d in declared if d.service == name and d.viewpoint == "guest"]
        checks += [_units(plan, name), *_of_records(plan, name, own), *own]
    tested = {check.phase for check in checks}
    return _in_order(_together([*_planned(plan, tested, withheld), *checks]))


def asked(checks: Iterable[Check], phases: frozenset[str] | None) -> tuple[Check, ...]:
    """Return the checks of some phases (None: of all), and the login that those inside need."""
    return tuple(c for c in checks if phases is None or c.phase in phases or c.id == LOGIN)


def _of_host() -> Iterator[Declaration]:
    for module in HOST:
        yield from declarations.declared(module)


def _planned(plan: Plan, tested: set[str], withheld: Mapping[str, str]) -> Iterator[Check]:
    """Return what stands for phases that have no checks here, with the reason."""
    for phase in PHASES:
        if (planned := phase.planned) is None or phase.id in tested:
            continue
        missing = [name for name in planned.services if name not in plan.services]
        reason = withheld.get(phase.id) or (
            f"{plan.profile} on {plan.base} carries no {', '.join(missing)}"
            if missing
            else "this version of rave has no such test yet"
        )
        yield Check(
            planned.id, phase.id, planned.title, viewpoint="host", step="start", skip=reason
        )


def _bind(declaration: Declaration, about: Subject) -> Check:
    """Return a declared check as it is carried out in one run."""
    arguments = declaration.arguments(about)
    guest = declaration.viewpoint == "guest"
    return Check(
        declaration.id,
        declaration.phase,
        declaration.title.format(**arguments),
        viewpoint=declaration.viewpoint,
        kind=declaration.kind,
        arguments=arguments,
        timeout=declaration.timeout,
        retry_for=declaration.retry_for,
        needs=(LOGIN, *declaration.needs) if guest else declaration.needs,
        severity=declaration.severity,
        step=_step(declaration),
        figures=declaration.figures,
        look=None if guest else declaration.function,
    )


def _step(declaration: Declaration) -> Step:
    if declaration.step is not None:
        return cast("Step", declaration.step)
    if declaration.viewpoint == "guest":
        return next(phase.inside for phase in PHASES if phase.id == declaration.phase)
    return "outside" if declaration.viewpoint == "outside" else "start"


def _units(plan: Plan, name: str) -> Check:
    service = plan.services[name]
    title = f"{service.title}: its units are active"
    return Check(
        f"{name}.units", "health", title, kind=declarations.UNITS,
        arguments={"units": list(service.units)} | ({"waits": True} if service.waits else {}),
        retry_for=20, needs=(LOGIN,),
    )  # fmt: skip


def _of_records(plan: Plan, name: str, own: Sequence[Check]) -> Iterator[Check]:
    """Return the health questions of a service's record; `own` are those of its module."""
    service = plan.services[name]
    units = f"{name}.units"
    declared = {check.id for check in own}
    for record in service.checks:
        # A plan of an older catalog asks some that the module declares by now.
        if record.id in declared:
            continue
        title = f"{service.title} {record.title}"
        if record.from_ == "host":
            look = partial(outside.page, **_page(record), timeout=record.timeout)
            yield Check(record.id, "health", title, viewpoint="outside", step="outside",
                        timeout=record.timeout, retry_for=_patience(record),
                        needs=(units,), look=look)  # fmt: skip
        else:
            yield Check(record.id, "health", title, kind=declarations.CATALOG[record.kind],
                        arguments=_arguments(plan, record), timeout=record.timeout,
                        retry_for=_patience(record),
                        needs=(LOGIN, units))  # fmt: skip


def _patience(record: HealthCheck) -> float:
    """Seconds during which a health question that is not answered well is asked again."""
    return max(10.0, 1.5 * record.timeout)


def _page(record: HealthCheck) -> dict[str, Any]:
    return {"url": record.url, "status": record.status, "contains": record.contains}


def _arguments(plan: Plan, record: HealthCheck) -> dict[str, Any]:
    """Return what a health question of the catalog is asked with."""
    if record.kind == "tcp":
        return {"port": record.port}
    if record.kind == "http":
        return _page(record)
    secrets = {
        variable: plan.secrets[secret].path
        for variable, secret in record.environment_secret.items()
        if secret in plan.secrets
    }
    return {
        "argv": list(record.argv),
        "matches": record.matches or "",
        "user": record.user,
        "environment_secret": secrets,
    }


def _together(checks: Sequence[Check]) -> list[Check]:
    """Return checks such that what the guest is asked early is asked with all that it needs, and
    with all that needs it: two batches that go on at once know nothing of each other.
    """
    guest = [check for check in checks if check.viewpoint == "guest"]
    early = {check.id for check in guest if check.step == "early"}
    more = early
    while more:
        needed = {name for check in guest if check.id in early for name in check.needs}
        more = {c.id for c in guest if c.id in needed or not early.isdisjoint(c.needs)} - early
        early |= more
    return [replace(check, step="early") if check.id in early else check for check in checks]


def _in_order(checks: Iterable[Check]) -> tuple[Check, ...]:
    """Return checks by phase, and each after what it needs.

    Raises:
        ValueError: a check needs itself.
    """
    waiting = sorted(checks, key=lambda check: PHASE_IDS.index(check.phase))
    open_ = {check.id for check in waiting}
    ordered = []
    while waiting:
        ready = next((c for c in waiting if open_.isdisjoint(c.needs)), None)
        if ready is None:
            raise ValueError(f"these need each other: {sorted(open_)}")
        waiting.remove(ready)
        open_.discard(ready.id)
        ordered.append(ready)
    return tuple(ordered)
