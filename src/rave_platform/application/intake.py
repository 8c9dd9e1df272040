"""What is done with a webhook that came: proven, counted, read, stored, and only then answered."""

from __future__ import annotations

import math
import secrets
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rave_platform.application.ports import StoreUnavailableError
from rave_platform.application.tracing import Tracer
from rave_platform.domain import events, normalisation, signatures, tracing
from rave_platform.domain.payloads.reading import MalformedPayloadError
from rave_platform.domain.ratelimit import Bucket, Rate, draw
from rave_platform.domain.signatures import NotAuthentic
from rave_platform.domain.tracing import SpanKind

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from uuid import UUID

    from rave_platform.application.ports import StoredEvent
    from rave_platform.domain.events import Provider, WebhookEvent
    from rave_platform.domain.normalisation import WebhookDelivery
    from rave_platform.domain.signatures import Authentic, Scheme, WebhookRequest

# Seconds after which a sender may try again when nothing can be stored.
RETRY_AFTER = 30


@dataclass(frozen=True)
class WebhookSource:
    """A sender of the settings; without a scheme until its secrets are there."""

    name: str
    provider: Provider
    scheme: Scheme | None
    rate: Rate


@dataclass(frozen=True)
class WebhookAnswer:
    """What the sender is told."""

    status: int
    reason: str
    event_uuid: UUID | None = None
    retry_after: int | None = None  # seconds


@dataclass
class SourceIntake:
    """Takes the webhooks of one source; `append` stores a delivery and returns then."""

    source: WebhookSource
    append: Callable[[WebhookDelivery], Awaitable[StoredEvent]]
    wall: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic
    tracer: Tracer = field(default_factory=Tracer)
    _bucket: Bucket = field(init=False)

    def __post_init__(self) -> None:
        self._bucket = Bucket(float(self.source.rate.burst), self.monotonic())

    async def receive(self, request: WebhookRequest) -> WebhookAnswer:
        """Answer a webhook. Only our own faults are a 5xx, and then nothing was accepted."""
        if self.source.scheme is None:
            return WebhookAnswer(503, "no-secrets", retry_after=RETRY_AFTER)
        received = self.wall()
        proof = signatures.authenticate(request, self.source.scheme, received)
        if isinstance(proof, NotAuthentic):
            return WebhookAnswer(401, proof.reason)
        # After the proof: nobody else uses up what a sender may send.
        drawn = draw(self._bucket, self.source.rate, self.monotonic())
        self._bucket = drawn.bucket
        if drawn.wait > 0:
            return WebhookAnswer(429, "too-many", retry_after=math.ceil(drawn.wait))
        return await self._store(request, proof, received)

    async def _store(
        self, request: WebhookRequest, proof: Authentic, received: float
    ) -> WebhookAnswer:
        began = self.tracer.now()
        try:
            delivery = normalisation.delivery(
                self.source.name, self.source.provider, request, proof,
                received=received, fresh_trace=secrets.token_hex(16),
            )  # fmt: skip
            stored = await self.append(delivery)
        except MalformedPayloadError:
            return WebhookAnswer(400, "malformed-body")
        except StoreUnavailableError:
            return WebhookAnswer(503, "not-stored", retry_after=RETRY_AFTER)
        if not stored.new:
            return WebhookAnswer(200, "duplicate", stored.event_uuid)
        self._trace(request, delivery.event, began)
        return WebhookAnswer(202, "accepted", stored.event_uuid)

    def _trace(self, request: WebhookRequest, event: WebhookEvent, began: int) -> None:
        asked = tracing.parse(request.headers.get(tracing.HEADER, ""))
        self.tracer.over(
            events.span_of(event), f"webhook {self.source.name}", began,
            parent=asked, kind=SpanKind.SERVER,
            attributes={"rave.event": str(event.event_uuid), "rave.event.kind": event.kind},
        )  # fmt: skip
