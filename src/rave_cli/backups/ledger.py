"""What became of backups and of looks at them, per machine: who asks later whether all is well goes
by it. What the folder itself tells (which backups there are) is not repeated here.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from rave_cli import paths
from rave_cli.errors import RaveError
from rave_cli.machines.spec import check_name
from rave_cli.records import RecordFormat

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

# A backup was made; one was read to its end; one was restored into a machine of its own.
Deed = Literal["made", "read", "restored"]


@dataclass(frozen=True)
class LastDeed:
    """The last time that something was tried.

    Attributes:
        since: seconds since the epoch when it began.
        until: the same when it ended; None if it did not (yet): it runs, or was killed.
        error: why it failed; None if it did not.
        backup: the backup that it was about, where there was one.
        well: `until` of the last time that it did not fail; None if it always did.
    """

    since: float
    until: float | None
    error: str | None
    backup: str | None
    well: float | None


@dataclass(frozen=True)
class BackupLedger:
    """What became of the backups of a machine; None of what was never tried."""

    made: LastDeed | None = None
    read: LastDeed | None = None
    restored: LastDeed | None = None


LEDGER = RecordFormat(title="the ledger of backups", shape=BackupLedger, version=1)


def place(machine: str) -> Path:
    """Return where the ledger of a machine is."""
    return paths.state_dir() / "backups" / f"{check_name(machine)}.json"


def load(machine: str) -> BackupLedger:
    """Return the ledger of a machine; an empty one if there is none.

    Raises:
        RaveError: HOST if it is damaged or of a newer rave.
    """
    found = place(machine)
    with paths.refusing(found):
        there = found.exists()
    if not there:
        return BackupLedger()
    return LEDGER.read(found, hint=f"mv {found} {found}.damaged; it is made anew")


@contextmanager
def noted(
    machine: str, deed: Deed, on_fault: Callable[[RaveError], object]
) -> Iterator[Callable[[str], None]]:
    """Note that something is tried, and how it ends; yields what takes the backup's name.

    A ledger that cannot be written keeps nobody from making a backup: it is told to `on_fault`.
    """
    began = time.time()
    about: list[str] = []
    _write(machine, deed, lambda well: LastDeed(began, None, None, None, well), on_fault)

    def end(error: str | None) -> None:
        now, name = time.time(), about[-1] if about else None
        _write(
            machine,
            deed,
            lambda well: LastDeed(began, now, error, name, well if error else now),
            on_fault,
        )

    with ending(end):
        yield about.append


@contextmanager
def ending(end: Callable[[str | None], None]) -> Iterator[None]:
    """Tell how what is done meanwhile ends: None if well, else why not."""
    try:
        yield
    except RaveError as error:
        end(error.message)
        raise
    except BaseException as error:
        end(f"it was interrupted ({str(error) or type(error).__name__})")
        raise
    end(None)


def _write(
    machine: str,
    deed: Deed,
    made: Callable[[float | None], LastDeed],
    on_fault: Callable[[RaveError], object],
) -> None:
    try:
        found = place(machine)
        with paths.lock(found.with_name(f".{machine}.lock"), busy=None):
            before = load(machine)
            last: LastDeed | None = getattr(before, deed)
            now = replace(before, **{deed: made(last.well if last else None)})
            LEDGER.write(found, now, mode=0o600)
    except RaveError as error:
        on_fault(error)
