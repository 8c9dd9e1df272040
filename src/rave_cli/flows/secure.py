"""Secure a machine: the operator's secrets are made where they are missing, and brought to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rave_cli.flows.events import Event, step
from rave_cli.secrets import init as making
from rave_cli.secrets import install as installing
from rave_cli.secrets.store import place

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from rave_cli.flows.events import OnEvent
    from rave_cli.machines.guest.door import Runs
    from rave_cli.machines.spec import Machine
    from rave_cli.profiles.catalog import Plan, Secret
    from rave_cli.secrets.init import Initialized
    from rave_cli.secrets.install import InstallReport, InstallRequest


def make(
    file: Path,
    secrets: Mapping[str, Secret],
    *,
    on_event: OnEvent,
    recipients: tuple[str, ...] = (),
) -> Initialized:
    """Make the age identity, the policy and every secret that has no value yet.

    Raises:
        RaveError: SECRETS if what is there cannot be used.
    """
    with step(on_event, "secrets", "Making the secrets that are missing") as doing:
        made = making.init(file, secrets, recipients=recipients)
    if made.made_key:
        doing.note(f"made your age identity: {made.key_file}   (keep a copy in a safe place)")
    if made.made_policy:
        doing.note(f"made the policy: {made.policy}")
    return made


def install(
    machine: Machine,
    plan: Plan,
    file: Path,
    *,
    on_event: OnEvent,
    session: Runs | None = None,
    packed: Callable[[], InstallRequest] | None = None,
) -> InstallReport:
    """Give a running machine the secrets of its plan, and prove that its services took them.

    Args:
        machine: the machine.
        plan: what its base makes of its profile.
        file: the operator's secrets file.
        on_event: told what happens.
        session: an open connection to the machine; None opens one.
        packed: returns what is to be sent, where that is prepared beside something else.

    Raises:
        RaveError: SECRETS if the file is refused or the machine does not take them; NOT_READY if
            it cannot be reached.
    """
    with step(on_event, "secrets", f"Installing secrets in {machine.name}") as doing:
        report = installing.install(
            machine, plan, file, on_event=doing.progress, session=session, packed=packed
        )
    for finding in report.warnings:
        doing.warning(finding.message)
    return report


def install_if_any(
    machine: Machine, plan: Plan, file: Path | None, *, on_event: OnEvent
) -> InstallReport | None:
    """Install the operator's secrets; without a file that anybody named, say that there are none.

    Raises:
        RaveError: as `install`.
    """
    found = place(file)
    if file is None and not found.exists():
        text = f"there is no secrets file {found}; checks that need it are skipped"
        on_event(Event("warning", "secrets", text))
        on_event(Event("note", "secrets", "make one: rave secrets init"))
        return None
    return install(machine, plan, found, on_event=on_event)
