"""How an accepted event gets to the stream: accepted → published, or dead, and back by a replay."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping

# Times that the stream may refuse one event, while it takes others, before it is put aside.
MOST_REFUSALS = 5

# Days that an event is kept after it came, by mode, and that we know a delivery again: longer than
# any sender repeats one.
RETENTION_DAYS: Mapping[str, int] = MappingProxyType({"safe": 7, "full": 30})
KNOWN_DAYS = 90

# Seconds by which one pruning may go beyond the last, an hour before: a clock that is wrong has to
# be wrong for days before it costs an event.
MOST_PRUNED = 2 * 3600.0


class HandoverState(StrEnum):
    """Where an accepted event is."""

    ACCEPTED = "accepted"  # with us alone
    PUBLISHED = "published"  # the stream has it
    DEAD = "dead"  # the stream does not take it


@dataclass(frozen=True)
class Handover:
    """What became of an event; `sequence` is its place in the stream."""

    state: HandoverState = HandoverState.ACCEPTED
    refusals: int = 0
    replays: int = 0
    sequence: int | None = None
    why: str = ""


@dataclass(frozen=True)
class TakenIn:
    """The stream has stored it."""

    sequence: int


@dataclass(frozen=True)
class TurnedDown:
    """The stream answered, and not to this one; `forever` if it never will."""

    why: str
    forever: bool = False


@dataclass(frozen=True)
class Replayed:
    """Somebody wants it handed over again."""


@dataclass(frozen=True)
class LostByStream:
    """The stream no longer has what it had stored."""


HandoverStep: TypeAlias = TakenIn | TurnedDown | Replayed | LostByStream


def advance(before: Handover, step: HandoverStep) -> Handover:
    """Return what a handover is after a step; one that says nothing new changes nothing."""
    match step, before.state:
        case TakenIn(sequence), HandoverState.ACCEPTED:
            return replace(
                before, state=HandoverState.PUBLISHED, sequence=sequence, refusals=0, why=""
            )
        case TurnedDown(why, forever), HandoverState.ACCEPTED:
            refusals = before.refusals + 1
            dead = forever or refusals >= MOST_REFUSALS
            state = HandoverState.DEAD if dead else HandoverState.ACCEPTED
            return replace(before, state=state, refusals=refusals, why=why)
        case Replayed(), HandoverState.PUBLISHED | HandoverState.DEAD:
            return Handover(replays=before.replays + 1)
        case LostByStream(), HandoverState.PUBLISHED:
            # Not a new message for whoever reads the stream, so under the same name.
            return replace(before, state=HandoverState.ACCEPTED, sequence=None)
    return before


def message_id(event_uuid: str, replays: int) -> str:
    """Return the name under which the stream knows a message again."""
    return event_uuid if replays == 0 else f"{event_uuid}.{replays}"


def pruned_until(last: float | None, now: float) -> float:
    """Return up to which moment events have aged: now, unless the clock has leapt."""
    if last is None:
        return now
    return max(last, min(now, last + MOST_PRUNED))
