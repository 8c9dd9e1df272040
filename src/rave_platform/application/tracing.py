"""Where a span begins and ends, and how what is known of it gets to where it is kept.

Nothing waits for that, and nothing fails of it: spans are kept beside the work, together, and lost
where they cannot be.
"""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from rave_platform.application.ports import StoreUnavailableError
from rave_platform.domain import tracing
from rave_platform.domain.tracing import LONGEST, Span, SpanKind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from rave_platform.application.ports import Blocking, SpanStore
    from rave_platform.domain.tracing import TraceContext

LOG = logging.getLogger(__name__)

# Spans that may wait to be kept, and seconds between two times that they are.
MOST_WAITING = 4096
PAUSE = 0.2


class OpenSpan:
    """A span that goes on, for whoever is within it."""

    def __init__(self, tracer: Tracer, span: Span) -> None:
        self._tracer = tracer
        self._span = span
        self._parts = 0
        self.context = span.context

    def say(self, **attributes: object) -> None:
        """Say more of it; a `_` stands for the dot of a name."""
        more = {name.replace("_", "."): str(value)[:LONGEST] for name, value in attributes.items()}
        self._span = replace(self._span, attributes={**self._span.attributes, **more})

    def fail(self, why: str) -> None:
        """Say why it did not succeed."""
        self._span = replace(self._span, error=why[:LONGEST])

    @contextmanager
    def part(self, name: str, kind: SpanKind) -> Iterator[OpenSpan]:
        """Enclose a part of it. If all of it is done again, that has parts of its own."""
        self._parts += 1
        context = tracing.named(
            self.context.trace_id, self.context.span_id, self._span.start_time_unix_nano,
            self._parts,
        )  # fmt: skip
        with self._tracer.span(context, name, parent=self.context, kind=kind) as found:
            yield found

    def ended(self, at: int) -> Span:
        """Return it as it has ended, by a clock that may have been put back meanwhile."""
        return replace(self._span, end_time_unix_nano=max(at, self._span.start_time_unix_nano))


_CURRENT: ContextVar[OpenSpan | None] = ContextVar("span", default=None)


class Tracer:
    """Begins and ends spans; `keep` is told of each when it begins, and when it has ended."""

    def __init__(
        self,
        keep: Callable[[Span], None] = lambda _span: None,
        now: Callable[[], int] = time.time_ns,
    ) -> None:
        self._keep = keep
        self.now = now

    @contextmanager
    def span(
        self,
        context: TraceContext,
        name: str,
        *,
        parent: TraceContext | None = None,
        kind: SpanKind = SpanKind.INTERNAL,
    ) -> Iterator[OpenSpan]:
        """Enclose a span; what is raised within it is why it did not succeed."""
        begun = Span(context, parent.span_id if parent else "", name, kind, self.now())
        found = OpenSpan(self, begun)
        self._keep(begun)
        before = _CURRENT.set(found)
        try:
            yield found
        except BaseException as fault:
            found.fail(_why(fault))
            raise
        finally:
            _CURRENT.reset(before)
            self._keep(found.ended(self.now()))

    def over(
        self,
        context: TraceContext,
        name: str,
        began: int,
        *,
        parent: TraceContext | None = None,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: Mapping[str, str] | None = None,
    ) -> None:
        """Tell of a span of which it was not known which one it is before it was over."""
        ended = max(began, self.now())
        above = parent.span_id if parent else ""
        self._keep(Span(context, above, name, kind, began, ended, "", attributes or {}))


@contextmanager
def part(name: str, kind: SpanKind = SpanKind.INTERNAL) -> Iterator[OpenSpan | None]:
    """Enclose a part of the span that goes on; of none, if there is none."""
    current = _CURRENT.get()
    if current is None:
        yield None
        return
    with current.part(name, kind) as found:
        yield found


def _why(fault: BaseException) -> str:
    """Return what was raised: its words where they are ours, which hold no secret."""
    ours = type(fault).__module__.startswith("rave_platform.")
    words = str(fault) if ours else ""
    return f"{type(fault).__name__}: {words}" if words else type(fault).__name__


class SpanKeeper:
    """Has spans kept while `run` runs: what waits together is one transaction."""

    def __init__(self, store: SpanStore, blocking: Blocking[Any]) -> None:
        self._store = store
        self._blocking = blocking
        self._waiting: dict[tuple[str, str], Span] = {}
        self._lost = 0
        self._wake = asyncio.Event()

    def keep(self, span: Span) -> None:
        """Have a span kept; what was known of it before needs not be."""
        name = (span.context.trace_id, span.context.span_id)
        if len(self._waiting) >= MOST_WAITING and name not in self._waiting:
            self._lost += 1
            return
        self._waiting[name] = span
        self._wake.set()

    async def run(self) -> None:
        """Keep what there is, until cancelled."""
        while True:
            await self._wake.wait()
            await self.flush()
            await asyncio.sleep(PAUSE)

    async def flush(self) -> None:
        """Keep what waits; what cannot be kept is lost, and that is said."""
        self._wake.clear()
        spans, self._waiting = list(self._waiting.values()), {}
        try:
            if spans:
                await self._blocking(lambda: self._store.keep(spans))
        except StoreUnavailableError as fault:
            self._lost += len(spans)
            LOG.warning("spans are lost", extra={"count": self._lost, "why": str(fault)})
            self._lost = 0
