"""Restore a backup into a machine that is made for it and deleted afterwards: whether it can be."""

from __future__ import annotations

import secrets
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rave_cli import signals
from rave_cli.backups import ledger, pending
from rave_cli.flows import restore_new
from rave_cli.flows import vault as vaults
from rave_cli.flows.events import Event
from rave_cli.machines import lifecycle, store
from rave_cli.machines.names import stored_names

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from rave_cli.backups.kept import Backup
    from rave_cli.backups.vault import Vault
    from rave_cli.errors import RaveError
    from rave_cli.flows.events import OnEvent
    from rave_cli.flows.restore_new import RecoveredMachine
    from rave_cli.profiles.catalog import Catalog
    from rave_cli.settings import Settings

# How the machines are called that are made for it; a name alone gets none deleted.
PREFIX = "restore-test-"


@dataclass(frozen=True)
class RestoreTest:
    """A backup that was restored, with all services healthy.

    Attributes:
        backup: which.
        rto: seconds from the beginning to there.
        services: those that were restored.
        steps: the seconds of each step.
    """

    backup: Backup
    rto: float
    services: tuple[str, ...]
    steps: Mapping[str, float]

    def document(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {
            "backup": self.backup.name,
            "rtoSeconds": round(self.rto, 3),
            "services": list(self.services),
            "stepSeconds": {name: round(spent, 3) for name, spent in self.steps.items()},
        }


def prove(name: str, settings: Settings, catalog: Catalog, *, on_event: OnEvent) -> RestoreTest:
    """Restore the latest backup of a machine into one that is deleted afterwards.

    Raises:
        RaveError: as `restore_new.new`; USAGE if there is no backup of it.
    """
    target = vaults.opened(settings)
    found = vaults.find(target.listing(), name, "latest")

    def untold(fault: RaveError) -> None:
        on_event(Event("warning", "backup", f"it cannot be noted: {fault.message}"))

    with ledger.noted(name, "restored", untold) as about_it:
        about_it(found.name)
        with copy(target, found, settings, catalog, on_event=on_event) as made:
            return RestoreTest(found, made.rto, made.restored.services, made.steps)


@contextmanager
def copy(
    target: Vault, found: Backup, settings: Settings, catalog: Catalog, *, on_event: OnEvent
) -> Iterator[RecoveredMachine]:
    """Make a machine of a backup; it is deleted on leaving, interrupts included, and what a call
    left that was killed is deleted by the next.

    Raises:
        RaveError: as `restore_new.new`.
    """
    sweep(on_event)
    to = f"{PREFIX}{secrets.token_hex(4)}"
    with pending.alone(to), signals.held() as hold:
        try:
            with hold.released():
                yield restore_new.of_backup(
                    target, found, to, catalog, settings, since=time.time(), on_event=on_event
                )
        finally:
            _delete(to)


def sweep(on_event: OnEvent) -> None:
    """Delete what tests have left that were killed; one that runs is left alone.

    Raises:
        RaveError: HOST if something cannot be deleted.
    """
    for left in pending.left():
        if left.to.startswith(PREFIX) and not pending.busy(left.to):
            on_event(Event("note", "restore", f"deletes {left.to}, which a killed test has left"))
            _delete(left.to)


def _delete(to: str) -> None:
    """Delete a machine that was made for a test, which its record tells by its instance."""
    record = pending.find(to)
    if record is None:
        return
    if to in stored_names() and store.load(to).spec.instance_id == record.instance:
        lifecycle.delete(to, force=True)
    pending.end(to)
