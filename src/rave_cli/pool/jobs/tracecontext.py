"""Which trace a job belongs to, as W3C Trace Context writes it.

https://www.w3.org/TR/trace-context/

The ids of a job's spans are made of its trace and their names: whoever is to know one, an agent on
another host or an export that is made twice, comes to the same.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from dataclasses import dataclass

# The variable of an environment that carries one, as OpenTelemetry names it (Environment Variables
# as Context Propagation Carriers).
VARIABLE = "TRACEPARENT"

_HEADER = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_SAMPLED = 1


@dataclass(frozen=True)
class TraceContext:
    """A span of a trace, in lower-case hex: ids of 16 and of 8 bytes, and the flags."""

    trace: str
    span: str
    flags: int = _SAMPLED

    @property
    def header(self) -> str:
        """It as a `traceparent`."""
        return f"00-{self.trace}-{self.span}-{self.flags:02x}"

    @property
    def sampled(self) -> bool:
        """Whether whoever began the trace may have recorded it."""
        return bool(self.flags & _SAMPLED)


def parse(text: str) -> TraceContext | None:
    """Return what a `traceparent` says; None if it is none (section 3.2.2). Of a newer version what
    is known of this one counts.
    """
    found = _HEADER.fullmatch(text)
    if found is None:
        return None
    version, trace, span, flags, more = found.groups()
    if version == "ff" or (version == "00" and more) or not int(trace, 16) or not int(span, 16):
        return None
    # Of the flags only this one has a meaning that may be passed on.
    return TraceContext(trace, span, int(flags, 16) & _SAMPLED)


def new_trace() -> str:
    """Return the id of a new trace."""
    return secrets.token_hex(16)


def span_id(trace: str, *names: object) -> str:
    """Return the id of the span of a trace that these names tell from its others."""
    words = "/".join(map(str, (trace, *names)))
    return hashlib.sha256(words.encode()).hexdigest()[:16]
