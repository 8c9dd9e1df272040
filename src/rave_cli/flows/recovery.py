"""What the recovery phase of a smoke run does to a machine and to a copy of it."""

from __future__ import annotations

import secrets
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from rave_cli.errors import ExitCode, RaveError
from rave_cli.flows import backup, restore_test
from rave_cli.flows import vault as vaults
from rave_cli.machines.guest import connection
from rave_cli.machines.guest.door import Door
from rave_cli.smoke.recovering import MarkedBackup, Marks, RecoveredCopy

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rave_cli.backups.kept import Backup
    from rave_cli.flows.events import OnEvent
    from rave_cli.machines.spec import Machine
    from rave_cli.profiles.catalog import Catalog
    from rave_cli.settings import Settings

ANSWERS = 120.0  # seconds for a guest to mark all its services


class Recovery:
    """The steps of the recovery phase with a machine."""

    def __init__(
        self, machine: Machine, settings: Settings, catalog: Catalog, on_event: OnEvent
    ) -> None:
        self._machine, self._settings, self._catalog = machine, settings, catalog
        self._on_event = on_event
        self._backup: Backup | None = None
        self._stack = ExitStack()

    def mark(self) -> Mapping[str, Marks]:
        """Put a mark into each service.

        Raises:
            RaveError: USAGE if the machine keeps nothing; HOST if its image is from before marks;
                NOT_READY if a service does not take it.
        """
        backup.keeps_something(self._machine)
        self._stack.callback(marks, self._machine, {"remove": True})
        return marks(self._machine, {"put": secrets.token_hex(8)})

    def back_up(self) -> MarkedBackup:
        """Back the machine up.

        Raises:
            RaveError: as `backup.make`.
        """
        done = backup.make(self._machine, self._settings, on_event=self._on_event)
        self._backup = done.backup
        self._stack.callback(vaults.forget, self._settings, done.backup)
        rpo = max(0.0, time.time() - done.backup.moment.timestamp())
        return MarkedBackup(done.backup.name, done.backup.size, done.seconds, rpo)

    def restore(self) -> RecoveredCopy:
        """Make a second machine of that backup; it is there until `clean`.

        Raises:
            RaveError: as `restore_test.copy`.
        """
        if self._backup is None:
            raise RaveError("there is no backup to restore", exit_code=ExitCode.USAGE)
        target = vaults.opened(self._settings)
        made = self._stack.enter_context(
            restore_test.copy(
                target, self._backup, self._settings, self._catalog, on_event=self._on_event
            )
        )
        return RecoveredCopy(made.rto, made.steps, marks(made.machine, {"read": True}))

    def clean(self) -> None:
        """Delete the second machine, take the marks away, and forget the backup that has them.

        Raises:
            RaveError: something of it is left.
        """
        self._stack.close()


def marks(machine: Machine, wanted: Mapping[str, Any]) -> dict[str, Marks]:
    """Let a machine put, read or remove marks (rave_guest/state/marks.py), and return them.

    Raises:
        RaveError: HOST if its image is from before marks; NOT_READY if it does not do it.
    """
    with connection.connect(machine) as session:
        answer = Door.of(machine, session).call("state", {"marks": dict(wanted)}, timeout=ANSWERS)
    if "marks" not in answer:
        raise RaveError(
            f"machine {machine.name} was made by an older rave, whose guests take no marks",
            hint="rave up --name NEW makes a machine of today's image",
            exit_code=ExitCode.HOST,
        )
    try:
        found = answer["marks"].items()
        return {str(name): Marks(int(one["count"]), str(one["sha256"])) for name, one in found}
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise RaveError(
            f"machine {machine.name} does not say what is marked in it: {error!r}",
            hint=f"rave vm logs {machine.name}",
            exit_code=ExitCode.NOT_READY,
        ) from error
