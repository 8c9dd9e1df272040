"""From a delivery that was proven to an event: the one form of what five senders say."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeAlias

from rave_platform.domain import tracing
from rave_platform.domain.events import EventFacts, Provider, WebhookEvent, event_uuid
from rave_platform.domain.payloads import github, gitlab, pagure, reading, standard
from rave_platform.domain.signatures import Authentic, Proven, WebhookRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Reader: TypeAlias = "Callable[[Mapping[str, str], Mapping[str, Any]], EventFacts]"

READERS: Mapping[Provider, Reader] = MappingProxyType(
    {
        Provider.GITLAB: gitlab.facts,
        Provider.GITHUB: github.facts,
        Provider.GITEA: github.facts,
        Provider.PAGURE: pagure.facts,
        Provider.STANDARD: standard.facts,
    }
)


@dataclass(frozen=True)
class WebhookDelivery:
    """An event with the body that it was read from, and what a repetition is told by."""

    event: WebhookEvent
    body: bytes
    identity: str


def facts(provider: Provider, headers: Mapping[str, str], payload: Mapping[str, Any]) -> EventFacts:
    """Return what a payload says, whatever is in it."""
    return READERS[provider](headers, payload)


def delivery(
    source: str, provider: Provider, request: WebhookRequest, proof: Authentic,
    *, received: float, fresh_trace: str,
) -> WebhookDelivery:  # fmt: skip
    """Return the delivery that a proven request is.

    Args:
        source: the settings' name of the sender.
        provider: the form of its payloads.
        request: as it came.
        proof: what was proven of it.
        received: seconds since the epoch.
        fresh_trace: a trace id for a request that has none.

    Raises:
        MalformedPayloadError: if the body is no JSON object.
    """
    payload = reading.parse(request.body)
    digest = hashlib.sha256(request.body).hexdigest()
    name = proof.delivery_id
    if provider is Provider.PAGURE:
        name = pagure.delivery_id(payload)
    same = identity(proof.proven, name, digest)
    found = facts(provider, request.headers, payload)
    asked = tracing.parse(request.headers.get(tracing.HEADER, ""))
    event = WebhookEvent(
        **found.model_dump(),
        event_uuid=event_uuid(source, same),
        trace_id=asked.trace_id if asked else fresh_trace,
        received_at=datetime.fromtimestamp(received, UTC),
        source=source,
        provider=provider,
        delivery_id=name,
        body_sha256=digest,
    )
    return WebhookDelivery(event, request.body, same)


def identity(proven: Proven, name: str, digest: str) -> str:
    """Return what two requests have in common when they are one delivery.

    The id where it is signed: a sender may write the body anew. The body where the id is not: a
    recorded request must not count again under another. Both where the sender just has a token:
    equal bodies may be two events, and nobody who could exchange the id needs to.
    """
    match proven:
        case Proven.BODY:
            return f"body:{digest}"
        case Proven.BODY_AND_ID:
            return f"id:{name}"
        case Proven.SENDER:
            return f"id:{name} body:{digest}"
