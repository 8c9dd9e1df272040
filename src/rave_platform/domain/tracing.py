"""Which trace something belongs to, as W3C Trace Context writes it, and the spans of one.

https://www.w3.org/TR/trace-context/ ; spans are called as OpenTelemetry calls them
(opentelemetry/proto/trace/v1/trace.proto).

The id of a span is made of its trace and of what it names: whoever is told of a task, after
whatever was killed, knows which span asked for it, and a step that is recorded twice is one span.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping  # noqa: TC003 - read when the program runs
from dataclasses import dataclass, field
from enum import IntEnum

# The header, and the name under which a message of the stream carries it.
HEADER = "traceparent"

_FORM = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_SAMPLED = 1

# Characters of a status, and of the value of an attribute.
LONGEST = 200


@dataclass(frozen=True)
class TraceContext:
    """A span of a trace, in lower-case hex: ids of 16 and of 8 bytes, and the flags."""

    trace_id: str
    span_id: str
    flags: int = _SAMPLED

    @property
    def header(self) -> str:
        """It as a `traceparent`."""
        return f"00-{self.trace_id}-{self.span_id}-{self.flags:02x}"


class SpanKind(IntEnum):
    """What a span is to whoever is beyond it: the numbers are OpenTelemetry's."""

    INTERNAL = 1
    SERVER = 2
    CLIENT = 3
    PRODUCER = 4
    CONSUMER = 5


@dataclass(frozen=True)
class Span:
    """A part of what became of something.

    Attributes:
        context: which one it is.
        parent_span_id: of the span that it is a part of; empty for none.
        name: what is done, of few kinds.
        kind: what it is to others.
        start_time_unix_nano: nanoseconds since 1970.
        end_time_unix_nano: likewise; None if it goes on.
        error: why it did not succeed, shortly; empty if it did, or goes on.
        attributes: what there is to say of it; nothing that anybody wrote or may not know.
    """

    context: TraceContext
    parent_span_id: str
    name: str
    kind: SpanKind
    start_time_unix_nano: int
    end_time_unix_nano: int | None = None
    error: str = ""
    attributes: Mapping[str, str] = field(default_factory=dict)


def parse(text: str) -> TraceContext | None:
    """Return what a `traceparent` says; None if it is none (section 3.2.2). Of a newer version what
    is known of this one counts.
    """
    found = _FORM.fullmatch(text)
    if found is None:
        return None
    version, trace, span, flags, more = found.groups()
    if version == "ff" or (version == "00" and more) or not int(trace, 16) or not int(span, 16):
        return None
    # Of the flags only this one has a meaning that may be passed on.
    return TraceContext(trace, span, int(flags, 16) & _SAMPLED)


def named(trace_id: str, *names: object) -> TraceContext:
    """Return the span of a trace that these names tell from its others."""
    words = "/".join(map(str, (trace_id, *names)))
    return TraceContext(trace_id, hashlib.sha256(words.encode()).hexdigest()[:16])


def handed_over(trace_id: str, message_id: str) -> TraceContext:
    """Return the span in which a message is handed over to the stream."""
    return named(trace_id, "handed-over", message_id)


def parent(header: str, otherwise: TraceContext) -> TraceContext:
    """Return what a message's header says if it is of the same trace, and what is known if not."""
    said = parse(header)
    return said if said and said.trace_id == otherwise.trace_id else otherwise
