"""Events of forges as lines."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rave_cli.flows.webhooks import ReceivedEvent
    from rave_cli.show import Line, Show

COLUMNS = ("event", "received", "source", "kind", "action", "project", "state")


def event_row(event: ReceivedEvent) -> tuple[str, ...]:
    """Return an event as a row of COLUMNS; the time is to the second."""
    received = f"{event.received_at[:19]}Z"
    return (
        event.event_uuid, received, event.source, event.kind, event.action, event.project,
        event.handover.state,
    )  # fmt: skip


def event_table(show: Show, events: Sequence[ReceivedEvent]) -> list[Line]:
    """Return events as a table; nothing if there are none."""
    return show.table(COLUMNS, [event_row(event) for event in events]) if events else []


def event_lines(event: ReceivedEvent) -> list[str]:
    """Return one event as lines, with why the stream does not take it, and its payload."""
    more = (("actor", event.actor), ("title", event.title), ("why", event.handover.why))
    rows = [*zip(COLUMNS, event_row(event), strict=True), *more]
    payload = (event.model_extra or {}).get("payload")
    text = [] if payload is None else json.dumps(payload, indent=2).splitlines()
    return [*(f"{head:<9} {value}" for head, value in rows if value), *text]
