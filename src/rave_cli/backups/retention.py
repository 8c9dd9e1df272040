"""Which backups stay: the newest of each of so many days and months, and always the last."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from rave_cli.backups.kept import Backup


# Days that can be restored to any of their moments, if nobody says otherwise.
DAYS = 7


@dataclass(frozen=True)
class RetentionPolicy:
    """How many days and months have a backup that stays, for each machine (instance), and how many
    days can be restored to any of their moments.
    """

    days: int = 30
    months: int = 12
    log: int = DAYS


def staying(backups: Iterable[Backup], policy: RetentionPolicy) -> set[str]:
    """Return the names of the backups that stay."""
    machines: dict[str, list[Backup]] = {}
    for backup in backups:
        machines.setdefault(backup.instance, []).append(backup)
    stay: set[str] = set()
    for found in machines.values():
        newest = sorted(found, key=lambda one: (one.at, one.name), reverse=True)
        stay.add(newest[0].name)
        stay |= _first_of_each(newest, lambda one: one.at[:10], policy.days)
        stay |= _first_of_each(newest, lambda one: one.at[:7], policy.months)
    return stay


def _first_of_each(newest: list[Backup], period: Callable[[Backup], str], most: int) -> set[str]:
    found: dict[str, str] = {}
    for backup in newest:
        if period(backup) not in found and len(found) < most:
            found[period(backup)] = backup.name
    return set(found.values())
