"""Reads an event log back and checks it from the first line to the last."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rave_cli.transcript.canonical import DamagedError, Json, parse_line
from rave_cli.transcript.formats import BY_EVENTS
from rave_cli.transcript.refusal import Reason, RefusedError

if TYPE_CHECKING:
    from rave_cli.transcript.formats import TranscriptFormat

LARGEST = 64 << 20
GENESIS = "0" * 64
MEMBERS = ("seq", "prev", "time", "mono", "phase", "kind", "data")

# The kinds of events that the log itself writes, or that say what the document says too.
BEGIN = "begin"
SUBJECT = "subject"
CHECK = "check"
FACTS = "facts"
DIGEST = "digest"
ABORT = "abort"
END = "end"
KINDS = (BEGIN, SUBJECT, CHECK, FACTS, DIGEST, ABORT, END)


@dataclass(frozen=True)
class ChainEvent:
    """One line of an event log.

    Args:
        number: counts from 1.
        time: the time of day, in UTC, as text.
        mono: seconds since the run began, by a clock that does not jump.
        phase: the phase of the run it belongs to.
        kind: what happened, in a word.
        data: JSON data.
    """

    number: int
    time: str
    mono: float
    phase: str
    kind: str
    data: dict[str, Json]


@dataclass(frozen=True)
class ChainEnds:
    """What an event log comes to: the hash of its last line, its length, and what its ends say."""

    head: str
    count: int
    session: str
    nonce: str
    started: str
    completed: str
    seconds: float
    status: str


@dataclass(frozen=True)
class Chain:
    """A complete event log."""

    format: TranscriptFormat
    ends: ChainEnds
    events: tuple[ChainEvent, ...]

    def of(self, kind: str) -> tuple[ChainEvent, ...]:
        """Return the events of a kind, in the order in which they happened."""
        return tuple(event for event in self.events if event.kind == kind)


def read_chain(raw: bytes) -> Chain:
    """Check the bytes of an event log from the first line to the last.

    Raises:
        RefusedError: EVENTS if a line was changed, dropped, added, repeated or moved; TRUNCATED if
            the end is missing; UNKNOWN_VERSION if the log is of a kind this rave does not know.
    """
    if not raw.endswith(b"\n"):
        raise _truncated("the event log does not end with a whole line")
    lines = [line + b"\n" for line in raw[:-1].split(b"\n")]
    head = GENESIS
    events: list[ChainEvent] = []
    for number, line in enumerate(lines, start=1):
        events.append(_link(number, line, head))
        head = hashlib.sha256(line).hexdigest()
    first, last = events[0], events[-1]
    found = BY_EVENTS.get(str(first.data.get("schema"))) if first.kind == BEGIN else None
    if found is None:
        raise RefusedError(
            Reason.UNKNOWN_VERSION,
            f"the event log does not begin as {', '.join(BY_EVENTS)} do",
            hint="verify it with the version of rave that wrote it",
        )
    if last.kind != END:
        raise _truncated("the event log has no end event, so the run did not complete")
    if any(event.kind in (BEGIN, END) for event in events[1:-1]):
        raise _broken("the event log begins or ends more than once")
    if last.data.get("count") != len(lines):
        raise _broken(f"the event log has {len(lines)} lines, and its end names another number")
    ends = ChainEnds(
        head=head,
        count=len(lines),
        session=str(first.data.get("session")),
        nonce=str(first.data.get("nonce")),
        started=first.time,
        completed=last.time,
        seconds=last.mono,
        status=str(last.data.get("status")),
    )
    return Chain(found, ends, tuple(events))


def _link(number: int, line: bytes, head: str) -> ChainEvent:
    """Return the event on a line, which must be number `number` and follow `head`."""
    try:
        event = parse_line(line)
    except DamagedError as error:
        raise _broken(f"line {number} of the event log is damaged: {error}") from error
    if tuple(event) != MEMBERS:
        raise _broken(f"line {number} of the event log is not an event")
    if event["prev"] != head:
        raise _broken(f"line {number} of the event log does not follow the line before it")
    if event["seq"] != number:
        raise _broken(f"line {number} of the event log carries another number")
    match event:
        case {
            "time": str(time), "mono": int(mono) | float(mono), "phase": str(phase),
            "kind": str(kind), "data": dict(data),
        } if not isinstance(mono, bool):  # fmt: skip
            return ChainEvent(number, time, mono, phase, kind, data)
        case _:
            raise _broken(f"line {number} of the event log is not an event")


def _broken(message: str) -> RefusedError:
    return RefusedError(
        Reason.EVENTS, message, hint="get the event log again from where the run was"
    )


def _truncated(message: str) -> RefusedError:
    return RefusedError(Reason.TRUNCATED, message, hint="rave smoke run")
