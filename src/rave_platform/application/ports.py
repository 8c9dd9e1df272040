"""What the application needs of the world; adapters fill it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from typing import TypeVar
    from uuid import UUID

    from rave_platform.domain.events import WebhookEvent
    from rave_platform.domain.handover import (
        Handover,
        HandoverState,
        HandoverStep,
        TakenIn,
        TurnedDown,
    )
    from rave_platform.domain.normalisation import WebhookDelivery
    from rave_platform.domain.tracing import Span, TraceContext

    T = TypeVar("T")


class UnavailableError(Exception):
    """Something outside is not there now; asked again later, it may be."""

    def __init__(self, why: str, retry_after: float = 0.0) -> None:
        """Say why, and how many seconds to wait at least, if that is known."""
        super().__init__(why)
        self.retry_after = retry_after


class StoreUnavailableError(UnavailableError):
    """Nothing can be stored now: the disk is full or broken, or too much waits already."""


class StreamUnavailableError(UnavailableError):
    """The stream cannot be asked, or takes nothing now; nothing is wrong with the event."""


@dataclass(frozen=True)
class StoredEvent:
    """What storing a delivery came to; `new` is false if it had come before."""

    event_uuid: UUID
    new: bool


@dataclass(frozen=True)
class OutgoingEvent:
    """An event on its way to the stream.

    Attributes:
        number: its own in the store.
        subject: where it is published.
        message_id: by which the stream knows it again.
        data: what it says.
        alone: whether no other ever has its subject.
        cause: the span that it comes of, if one is known.
        traceparent: what the message says of its trace; empty for nothing.
    """

    number: int
    subject: str
    message_id: str
    data: bytes
    alone: bool = False
    cause: TraceContext | None = None
    traceparent: str = ""


@dataclass(frozen=True)
class KeptEvent:
    """An event as it is kept, with what became of it."""

    event: WebhookEvent
    handover: Handover
    body: bytes = b""


@dataclass(frozen=True)
class StreamIdentity:
    """Which stream it is (when it was made), and the last place in it."""

    created: str
    last_sequence: int


@dataclass(frozen=True)
class StoreFigures:
    """How many events the stream does not have, and when the oldest that waits came."""

    waiting: int
    dead: int
    oldest_waiting: float | None


class OutgoingStore(Protocol):
    """What is handed over to a stream; every method raises StoreUnavailableError."""

    def due(self, most: int) -> list[OutgoingEvent]:
        """Return events that the stream does not have, the oldest first."""

    def record(self, steps: Sequence[tuple[int, HandoverStep]]) -> None:
        """Take in what happened to events, by their numbers."""

    def agree(self, stream: StreamIdentity) -> int | None:
        """Put back what a stream has lost; return how many, or None if it is another stream."""


class AgingStore(Protocol):
    """What is not kept for ever; every method raises StoreUnavailableError."""

    def prune(self, now: float) -> int:
        """Remove some of what is older than is kept and done; return how many, 0 at the end."""


class SpanStore(AgingStore, Protocol):
    """The spans of one service; every method raises StoreUnavailableError."""

    def keep(self, spans: Sequence[Span]) -> None:
        """Keep what is known of spans, each in place of what was known of it before."""


class EventStore(OutgoingStore, AgingStore, Protocol):
    """Every accepted event. What was added is on the disk when `add` returns.

    Every method raises StoreUnavailableError.
    """

    def add(self, deliveries: Sequence[WebhookDelivery], now: float) -> list[StoredEvent]:
        """Take in deliveries, all or none; one that has come before is told by its identity."""

    def figures(self) -> StoreFigures:
        """Return the figures of the moment."""


class EventStream(Protocol):
    """Where events are published."""

    @property
    def connection(self) -> int:
        """Counts connections; 0 while there is none."""

    async def connect(self) -> StreamIdentity:
        """Connect if need be, and make the stream if there is none.

        Raises:
            StreamUnavailableError: if it cannot be reached.
        """

    async def publish(self, event: OutgoingEvent) -> TakenIn | TurnedDown:
        """Publish an event and return the stream's answer.

        Raises:
            StreamUnavailableError: if there is none.
        """


class EventArchive(Protocol):
    """What is kept, for people who look; every method raises StoreUnavailableError."""

    def newest(
        self, most: int, state: HandoverState | None = None, source: str = ""
    ) -> list[KeptEvent]:
        """Return events without their bodies, the newest first."""

    def load(self, event_uuid: UUID) -> KeptEvent | None:
        """Return an event with its body, or None."""

    def replay(self, event_uuids: Sequence[UUID]) -> int:
        """Have events handed over again; return how many that changes."""


if TYPE_CHECKING:
    # Runs a method of the store where it may block.
    Blocking = Callable[[Callable[[], T]], Awaitable[T]]
