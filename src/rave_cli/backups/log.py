"""PostgreSQL's write-ahead log as it is kept: parts that follow each other, and the times to which
a machine can be restored with them.

A chain is a row of parts without a gap, in which each begins where the one before ends. A backup
that was made while a chain went on is the beginning of a recovery; the chain leads from there to
any later moment (docs/adr/0059).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Self

from rave_cli.backups.parts import SERVICE, moment_of, said

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from rave_cli.backups.kept import Backup
    from rave_cli.backups.parts import LogPart

# So many small parts at the end of a chain are made one, which is what a restore reads quickly; one
# of so many bytes is left as it is.
MOST_SMALL = 16
LARGE = 32 << 20


@dataclass(frozen=True)
class LogChain:
    """Parts without a gap, the first one first; there is one at least."""

    parts: tuple[LogPart, ...]

    @property
    def last(self) -> LogPart:
        """Its last part."""
        return self.parts[-1]

    @property
    def since(self) -> datetime:
        """From when on a backup is one that it goes on from; backups tell whole seconds."""
        return moment_of(self.parts[0].since).replace(microsecond=0)

    @property
    def until(self) -> datetime:
        """What was committed by then is in it."""
        return moment_of(self.last.until)

    def is_behind(self, backup: Backup) -> bool:
        """Return whether it goes on from a backup."""
        same = backup.instance == self.last.instance and SERVICE in backup.services
        return same and self.since <= backup.moment and whole(backup) <= self.until

    def beyond(self, backup: Backup) -> Self:
        """Return the parts of it that a recovery from a backup needs."""
        parts = [one for one in self.parts if moment_of(one.until) >= backup.moment]
        return type(self)(tuple(parts) or self.parts[-1:])

    def small(self) -> tuple[LogPart, ...]:
        """Return the small parts at its end."""
        found: list[LogPart] = []
        for part in reversed(self.parts):
            if part.size >= LARGE:
                break
            found.append(part)
        return tuple(reversed(found))


def whole(backup: Backup) -> datetime:
    """Return the first moment to which a recovery from a backup can go: its copy of the cluster had
    ended by then.
    """
    return moment_of(backup.until.replace("Z", ".0Z")) + timedelta(seconds=1)


def chains(parts: Iterable[LogPart]) -> tuple[LogChain, ...]:
    """Return parts as chains, in the order in which their last parts are given: that goes by this
    host's clock, and not by a guest's. A part whose bytes another one has, too, is in none; where a
    part is missing within a chain, it is two.
    """
    rows: dict[tuple[str, str], list[LogPart]] = {}
    order: dict[str, int] = {}
    for part in parts:
        order[part.snapshot] = len(order)
        rows.setdefault((part.instance, part.chain), []).append(part)
    found: list[LogChain] = []
    for row in rows.values():
        run: list[LogPart] = []
        for part in sorted(row, key=lambda one: (one.start, -one.end, one.snapshot)):
            if run and part.end <= run[-1].end:
                continue
            if run and part.start != run[-1].end:
                found.append(LogChain(tuple(run)))
                run = []
            run.append(part)
        found.append(LogChain(tuple(run)))
    return tuple(sorted(found, key=lambda one: max(order[part.snapshot] for part in one.parts)))


@dataclass(frozen=True)
class LogGap:
    """Where parts of one chain are missing: those before end at `after`, the next begin at
    `before`.
    """

    after: LogPart
    before: LogPart


def gaps(found: Sequence[LogChain]) -> tuple[LogGap, ...]:
    """Return where something is missing within a chain."""
    rows: dict[tuple[str, str], list[LogChain]] = {}
    for chain in found:
        rows.setdefault((chain.last.instance, chain.last.chain), []).append(chain)
    return tuple(
        LogGap(one.last, two.parts[0])
        for row in rows.values()
        for ordered in [sorted(row, key=lambda one: one.last.end)]
        for one, two in pairwise(ordered)
    )


@dataclass(frozen=True)
class Span:
    """Moments that can be reached: all from the first to the last."""

    first: datetime
    last: datetime

    def document(self) -> dict[str, str]:
        """Return it for JSON."""
        return {"from": said(self.first), "until": said(self.last)}

    def __str__(self) -> str:
        return f"{said(self.first)} to {said(self.last)}"


def reach(backup: Backup, known: Iterable[LogChain]) -> Span | None:
    """Return the moments to which a recovery from a backup can go; None if there are none."""
    ends = [chain.until for chain in known if chain.is_behind(backup)]
    return Span(whole(backup), max(ends)) if ends else None


def spans(backups: Iterable[Backup], known: Sequence[LogChain]) -> tuple[Span, ...]:
    """Return the moments that can be reached with any of some backups, in their order."""
    found: list[Span] = []
    each = (reach(backup, known) for backup in backups)
    for span in sorted(filter(None, each), key=lambda one: one.first):
        if found and span.first <= found[-1].last:
            found[-1] = Span(found[-1].first, max(found[-1].last, span.last))
        else:
            found.append(span)
    return tuple(found)


def choose(
    backups: Iterable[Backup], known: Sequence[LogChain], at: datetime
) -> tuple[Backup, LogChain] | None:
    """Return the backup and the log by which a moment is reached with the least to recover; None if
    it cannot be.
    """
    fitting = [
        (backup, chain.beyond(backup))
        for backup in backups
        for chain in known
        if chain.is_behind(backup) and whole(backup) <= at <= chain.until
    ]
    return max(fitting, key=lambda one: (one[0].at, one[0].name), default=None)


def nearest(found: Sequence[Span], at: datetime) -> datetime | None:
    """Return the moment next to one that cannot be reached; None if none can."""
    edges = [edge for span in found for edge in (span.first, span.last)]
    return min(edges, key=lambda edge: abs(edge - at), default=None)


def staying(
    parts: Sequence[LogPart], backups: Sequence[Backup], days: int, now: datetime
) -> set[str]:
    """Return the snapshots of the parts that stay: all that lead from a backup which stays to any
    moment of the last days, and the last of each machine, from which the next goes on.

    Args:
        parts: those of any machines.
        backups: those that stay.
        days: so many.
        now: the present.
    """
    known, stay = chains(parts), set()
    current = {chain.last.instance: chain for chain in known}
    first = now - timedelta(days=days)
    for chain in known:
        is_current = current[chain.last.instance] is chain
        if is_current:
            stay.add(chain.last.snapshot)
        if chain.until < first:
            continue
        bases = sorted(one.moment for one in backups if chain.is_behind(one))
        needed = max((one for one in bases if one <= first), default=min(bases, default=None))
        if needed is None and not is_current:
            continue
        stay |= {
            part.snapshot
            for part in chain.parts
            if needed is None or moment_of(part.until) >= needed
        }
    return stay
