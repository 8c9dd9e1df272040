"""`rave secrets install`: give a machine the secrets its plan needs, and prove that it took them.

The machine gets no more than that: the operator's file is opened here, what the plan needs is
encrypted to the machine's own age identity alone, and both go on standard input: over pinned SSH,
or over the command channel, which is root's alone in the guest and the operator's alone here.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, ValidationError

from rave_cli import age, paths
from rave_cli.errors import ExitCode, RaveError
from rave_cli.machines.guest import ssh
from rave_cli.machines.guest.door import Door, UnusableAnswerError, VerbRefusedError
from rave_cli.secrets import identity, sops, store, validate

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from rave_cli.machines.guest.door import Runs
    from rave_cli.machines.spec import Machine
    from rave_cli.profiles.catalog import Plan
    from rave_cli.secrets.findings import Finding

TIMEOUT = 90.0  # seconds, beyond what services take to start; demo needs about three under TCG


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


class GuestReport(_Record):
    """What the guest says of an installation."""

    changed: tuple[str, ...]
    secrets: tuple[Placed, ...]
    refreshed: tuple[str, ...]
    proofs: tuple[Proof, ...]
    seconds: dict[str, float]


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
class InstallRequest:
    """What is sent to one machine. `arguments` hold its age identity: standard input only."""

    arguments: Mapping[str, str] = field(repr=False)
    names: tuple[str, ...]
    warnings: tuple[Finding, ...]


def install(
    machine: Machine,
    plan: Plan,
    file: Path,
    *,
    on_event: Callable[[str], None],
    session: Runs | None = None,
    packed: Callable[[], InstallRequest] | None = None,
) -> InstallReport:
    """Install the secrets of a plan in a running machine and verify what the guest reports.

    Args:
        machine: the machine.
        plan: what its base makes of its profile.
        file: the operator's secrets file.
        on_event: told each step, in words.
        session: an open connection to the machine; None opens one.
        packed: returns, or raises, what `pack_for` did before; None packs here.

    Raises:
        RaveError: SECRETS if the file is refused, or the machine does not take the secrets;
            NOT_READY if the machine cannot be reached.
    """
    began = time.monotonic()
    on_event("checking the secrets file")
    request = packed() if packed is not None else pack_for(machine, plan, file)
    ready = time.monotonic()
    on_event(f"sending {len(request.names)} secrets to {machine.name}")
    report = _send(machine, request, session, patience(plan))
    check_report(machine.name, plan, report)
    return InstallReport(
        machine=machine.name,
        secrets=report.secrets,
        changed=report.changed,
        refreshed=report.refreshed,
        proofs=report.proofs,
        warnings=request.warnings,
        seconds={
            "total": round(time.monotonic() - began, 3),
            "pack": round(ready - began, 3),
            **{f"guest.{step}": seconds for step, seconds in report.seconds.items()},
        },
    )


def pack_for(machine: Machine, plan: Plan, file: Path) -> InstallRequest:
    """Open the operator's file and encrypt what the plan needs to a machine that was made.

    Raises:
        RaveError: SECRETS as `pack` and `machine_identity` do.
    """
    return pack(plan, file, machine_identity(machine))


def pack(plan: Plan, file: Path, recipient: age.Identity) -> InstallRequest:
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
    arguments = {"identity": recipient.secret, "file": sealed.decode()}
    # Other profiles and operators may keep more in the file; that is no doubt about it.
    warnings = tuple(finding for finding in findings if finding.code != "unknown")
    return InstallRequest(arguments, tuple(values), warnings)


def patience(plan: Plan) -> float:
    """Return the seconds that an installation may take.

    Services that do not take what is new are restarted once more, with what was in force before.
    """
    deadlines = [service.deadline_seconds for service in plan.services.values()]
    return TIMEOUT + 2 * max(deadlines, default=0)


def machine_identity(machine: Machine) -> age.Identity:
    """Return a machine's own age identity.

    Raises:
        RaveError: SECRETS if its file is not private or not an age key.
    """
    return age.parse_identities(paths.read_private(machine.age_key).decode())[0]


def ask(door: Door, request: InstallRequest, timeout: float) -> GuestReport:
    """Let the guest install what a request holds, within `timeout` seconds, and read its report.

    Raises:
        RaveError: SECRETS if it reports a fault or something else than a report; NOT_READY if it
            cannot be reached.
    """
    hint = f"rave vm logs {door.machine}; rave secrets install {door.machine}"
    try:
        answer = door.call("secrets-install", request.arguments, timeout=timeout)
        return GuestReport.model_validate(answer)
    except VerbRefusedError as error:
        raise RaveError(
            f"machine {door.machine} did not take the secrets ({error.stage}): {error.why}",
            hint=hint,
            exit_code=ExitCode.SECRETS,
        ) from error
    except (UnusableAnswerError, ValidationError) as error:
        raise RaveError(
            f"machine {door.machine} did not report on its secrets"
            + (f": {error.message}" if isinstance(error, RaveError) else ""),
            hint=hint,
            exit_code=ExitCode.SECRETS,
            detail=error.detail if isinstance(error, RaveError) else (),
        ) from error


def check_report(name: str, plan: Plan, report: GuestReport) -> None:
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


def _misplaced(plan: Plan, report: GuestReport) -> tuple[str, ...]:
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


def _unproven(plan: Plan, report: GuestReport) -> tuple[str, ...]:
    """Name each secret that a service has to prove, and did not."""
    proven = {proof.secret for proof in report.proofs if proof.accepted}
    return tuple(
        f"{secret.proof} was not asked about {name}"
        for name, secret in plan.secrets.items()
        if secret.proof is not None and name not in proven
    )


def _send(
    machine: Machine, request: InstallRequest, session: Runs | None, timeout: float
) -> GuestReport:
    if session is not None:
        return ask(Door.of(machine, session), request, timeout)
    with ssh.connect(machine) as opened:
        return ask(Door.of(machine, opened), request, timeout)
