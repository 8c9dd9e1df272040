"""What people may ask about events and have done with them: list, show, replay."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from rave_platform.domain.handover import HandoverState

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from rave_platform.application.ports import EventArchive, KeptEvent

# More are shown in several calls.
MOST = 1000


class UnknownEventError(Exception):
    """There is no such event, or it is no longer kept."""


def listed(
    archive: EventArchive, most: int, state: HandoverState | None = None, source: str = ""
) -> list[dict[str, Any]]:
    """Return events, the newest first, without their payloads."""
    return [_document(kept) for kept in archive.newest(min(most, MOST), state, source)]


def shown(archive: EventArchive, event_uuid: UUID) -> dict[str, Any]:
    """Return one event with its payload.

    Raises:
        UnknownEventError: if there is none.
    """
    kept = archive.load(event_uuid)
    if kept is None:
        raise UnknownEventError(f"there is no event {event_uuid}")
    return {**_document(kept), "payload": json.loads(kept.body)}


def replay(archive: EventArchive, event_uuids: Sequence[UUID]) -> int:
    """Have events handed over again, under new names in the stream; return how many.

    Raises:
        UnknownEventError: if one of them is not there; nothing is handed over then.
    """
    for event_uuid in event_uuids:
        if archive.load(event_uuid) is None:
            raise UnknownEventError(f"there is no event {event_uuid}")
    return archive.replay(event_uuids)


def replay_dead(archive: EventArchive) -> int:
    """Have everything that the stream did not take handed over again; return how many."""
    count = 0
    while dead := archive.newest(MOST, HandoverState.DEAD):
        count += archive.replay([kept.event.event_uuid for kept in dead])
    return count


def _document(kept: KeptEvent) -> dict[str, Any]:
    published = kept.handover.state is HandoverState.PUBLISHED
    event = kept.event.model_copy(update={"processed": published})
    return {
        **event.model_dump(mode="json"),
        "handover": {
            "state": kept.handover.state,
            "refusals": kept.handover.refusals,
            "replays": kept.handover.replays,
            "sequence": kept.handover.sequence,
            "why": kept.handover.why,
        },
    }
