"""`rave secrets install`: give a machine the secrets its plan needs, and prove that it took them.

The machine gets no more than that: the operator's file is opened here, what the plan needs is
encrypted to the machine's own age identity alone, and both go over pinned SSH on standard input.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from rave_cli import age, paths
from rave_cli.errors import ExitCode, RaveError
from rave_cli.secrets import identity, sops, store, validate

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from rave_cli.machines.guest.ssh import Session
    from rave_cli.machines.spec import Machine
    from rave_cli.process import Completed
    from rave_cli.profiles.catalog import Plan
    from rave_cli.secrets.findings import Finding

COMMAND = ("/usr/lib/rave/rave-guest", "secrets-install")
TIMEOUT = 120.0  # seconds; a machine under TCG needs about three

# Services that can be asked whether they took a secret; PostgreSQL is asked once per role.
_PROVABLE = {"redis": "redis/password", "nats": "nats/password", "nginx": "tls/certificate"}


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Placed(_Record):
    """A secret in place in the guest: by name, owner and mode, never by value."""

    name: str
    path: str
    owner: str
    group: str
    mode: str


class Proof(_Record):
    """What a service answered: it accepted the new value and refused the others named here."""

    service: str
    secret: str
    accepted: bool
    refused: tuple[str, ...]
    seconds: float


class _Accepted(_Record):
    ok: Literal[True]
    changed: tuple[str, ...]
    secrets: tuple[Placed, ...]
    refreshed: tuple[str, ...]
    proofs: tuple[Proof, ...]
    seconds: dict[str, float]


class _Rejected(_Record):
    ok: Literal[False]
    stage: str
    error: str


@dataclass(frozen=True)
class InstallReport:
    """A finished installation. `seconds` has the total and, as `guest.*`, the guest's own steps."""

    machine: str
    secrets: tuple[Placed, ...]
    changed: tuple[str, ...]
    refreshed: tuple[str, ...]
    proofs: tuple[Proof, ...]
    warnings: tuple[Finding, ...]
    seconds: Mapping[str, float]

    def document(self) -> dict[str, Any]:
        """Return the report for JSON."""
        return {
            "machine": self.machine,
            "secrets": [placed.model_dump() for placed in self.secrets],
            "changed": list(self.changed),
            "refreshed": list(self.refreshed),
            "proofs": [proof.model_dump(mode="json") for proof in self.proofs],
            "warnings": [finding.document() for finding in self.warnings],
            "seconds": dict(self.seconds),
        }


@dataclass(frozen=True)
class Parcel:
    """What is sent to one machine. `request` holds its age identity: standard input only."""

    request: bytes
    names: tuple[str, ...]
    warnings: tuple[Finding, ...]


def install(
    machine: Machine,
    plan: Plan,
    file: Path,
    *,
    on_event: Callable[[str], None],
    session: Session | None = None,
) -> InstallReport:
    """Install the secrets of a plan in a running machine and verify what the guest reports.

    Args:
        machine: the machine.
        plan: what its base makes of its profile.
        file: the operator's secrets file.
        on_event: told each step, in words.
        session: an open connection to the machine; None opens one.

    Raises:
        RaveError: SECRETS if the file is refused, or the machine does not take the secrets;
            NOT_READY if the machine cannot be reached.
    """
    began = time.monotonic()
    on_event("checking the secrets file")
    parcel = pack(plan, file, machine_identity(machine))
    packed = time.monotonic()
    on_event(f"sending {len(parcel.names)} secrets to {machine.name}")
    done = _send(machine, parcel.request, session)
    accepted = read_report(machine.name, done)
    check_report(machine.name, plan, accepted)
    return InstallReport(
        machine=machine.name,
        secrets=accepted.secrets,
        changed=accepted.changed,
        refreshed=accepted.refreshed,
        proofs=accepted.proofs,
        warnings=parcel.warnings,
        seconds={
            "total": round(time.monotonic() - began, 3),
            "pack": round(packed - began, 3),
            **{f"guest.{step}": seconds for step, seconds in accepted.seconds.items()},
        },
    )


def pack(plan: Plan, file: Path, recipient: age.Identity) -> Parcel:
    """Open the operator's file and encrypt what the plan needs to one machine.

    Raises:
        RaveError: SECRETS if the file is refused or the result cannot be read by the machine.
    """
    opened, findings = validate.require(file, plan.secrets, identity.load())
    values = {name: opened.values[name] for name in plan.secrets}
    text = json.dumps(store.nest(values)).encode()
    sealed = sops.encrypt(text, [recipient.recipient], source="json")
    if store.names_of(sops.decrypt(sealed, recipient.file_text(), output="json")) != values:
        raise RaveError(
            "what sops wrote for the machine cannot be used; nothing was sent",
            hint="rave doctor sops",
            exit_code=ExitCode.SECRETS,
        )
    request = {"identity": recipient.secret, "file": sealed.decode()}
    # Other profiles and operators may keep more in the file; that is no doubt about it.
    warnings = tuple(finding for finding in findings if finding.code != "unknown")
    return Parcel(json.dumps(request).encode(), tuple(values), warnings)


def machine_identity(machine: Machine) -> age.Identity:
    """Return a machine's own age identity.

    Raises:
        RaveError: SECRETS if its file is not private or not an age key.
    """
    return age.parse_identities(paths.read_private(machine.age_key).decode())[0]


def read_report(name: str, done: Completed) -> _Accepted:
    """Read what the guest printed.

    Raises:
        RaveError: SECRETS if it reports a fault or something else than a report.
    """
    hint = f"rave vm logs {name}; rave secrets install {name}"
    try:
        rejected = _Rejected.model_validate_json(done.stdout)
    except ValidationError:
        rejected = None
    if rejected is not None:
        raise RaveError(
            f"machine {name} did not take the secrets ({rejected.stage}): {rejected.error}",
            hint=hint,
            exit_code=ExitCode.SECRETS,
        )
    try:
        return _Accepted.model_validate_json(done.stdout)
    except ValidationError as error:
        raise RaveError(
            f"machine {name} did not report on its secrets (exit status {done.returncode})",
            hint=hint,
            exit_code=ExitCode.SECRETS,
            detail=done.tail(4),
        ) from error


def check_report(name: str, plan: Plan, report: _Accepted) -> None:
    """Compare the guest's report with the plan.

    Raises:
        RaveError: SECRETS with every difference if there is one.
    """
    faults = (*_misplaced(plan, report), *_unproven(plan, report))
    if faults:
        raise RaveError(
            f"machine {name} has its secrets, but not as the plan says: {faults[0]}",
            hint=f"if its image is from another catalog, launch a new one: rave vm status {name}",
            exit_code=ExitCode.SECRETS,
            detail=faults[1:],
        )


def _misplaced(plan: Plan, report: _Accepted) -> tuple[str, ...]:
    faults = []
    found = {placed.name: placed for placed in report.secrets}
    for name, secret in plan.secrets.items():
        placed = found.get(name)
        if placed is None:
            faults.append(f"{name} is not in place")
        elif placed.mode != secret.mode or placed.path != secret.path:
            faults.append(f"{name} has mode {placed.mode} at {placed.path}")
        # A base without the account gives the secret to root.
        elif placed.owner not in {secret.owner, "root"}:
            faults.append(f"{name} belongs to {placed.owner} instead of {secret.owner}")
    return (*faults, *(f"{name} is not in the plan" for name in found if name not in plan.secrets))


def _unproven(plan: Plan, report: _Accepted) -> tuple[str, ...]:
    expected = {service for service, secret in _PROVABLE.items() if secret in plan.secrets}
    expected &= set(plan.services)
    if "postgresql" in plan.services:
        expected |= {f"postgresql:{database.role}" for database in plan.databases}
    proven = {proof.service for proof in report.proofs if proof.accepted}
    return tuple(f"{service} was not asked" for service in sorted(expected - proven))


def _send(machine: Machine, request: bytes, session: Session | None) -> Completed:
    if session is not None:
        return session.run(COMMAND, stdin=request, timeout=TIMEOUT, sudo=True)
    from rave_cli.machines.guest.ssh import connect

    with connect(machine) as opened:
        return opened.run(COMMAND, stdin=request, timeout=TIMEOUT, sudo=True)
