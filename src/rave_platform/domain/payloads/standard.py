"""Payloads by Standard Webhooks: `type`, `timestamp`, and `data` in the sender's own form."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rave_platform.domain.events import EventFacts, EventKind
from rave_platform.domain.payloads.reading import text

if TYPE_CHECKING:
    from collections.abc import Mapping


def facts(_headers: Mapping[str, str], payload: Mapping[str, Any]) -> EventFacts:
    """Return what a payload says."""
    return EventFacts(kind=EventKind.OTHER, action=text(payload, "type"))
