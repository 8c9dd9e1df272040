"""What forges told a machine by webhooks: asked, and handed over again, through its door."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

from rave_cli.flows.provided import ProvidedVerb

if TYPE_CHECKING:
    from collections.abc import Sequence

EVENTS = ProvidedVerb("events", "events", "takes no webhooks", "that receives them")
MOST = 1000  # events that the guest shows, or hands over again, at once


class HandedOver(BaseModel):
    """What became of an event: `accepted`, `published` or `dead`, and why the last."""

    model_config = ConfigDict(frozen=True, extra="allow")

    state: str
    why: str = ""


class ReceivedEvent(BaseModel):
    """An event as docs/reference/events.md has it; `payload` is there where one is shown."""

    model_config = ConfigDict(frozen=True, extra="allow")

    event_uuid: str
    received_at: str
    source: str
    kind: str
    action: str = ""
    project: str = ""
    actor: str = ""
    title: str = ""
    handover: HandedOver


class EventsAnswer(BaseModel):
    """What the guest answers: events, one event, or how many are handed over again."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    events: tuple[ReceivedEvent, ...] = ()
    event: ReceivedEvent | None = None
    replayed: int = 0


def listed(
    name: str, *, state: str | None = None, source: str | None = None, most: int = MOST
) -> tuple[ReceivedEvent, ...]:
    """Return events of a running machine, the newest first.

    Raises:
        RaveError: as `ask`.
    """
    wanted = {"state": state, "source": source, "most": most}
    given = {key: value for key, value in wanted.items() if value is not None}
    return ask(name, "list", given).events


def shown(name: str, event: str) -> ReceivedEvent:
    """Return one event of a running machine, with its payload.

    Raises:
        RaveError: as `ask`.
    """
    found = ask(name, "show", {"event": event}).event
    if found is None:
        raise EVENTS.unusable(name)
    return found


def replay(name: str, events: Sequence[str]) -> int:
    """Have events handed over again; all that the stream did not take if none is named.

    Returns:
        How many.

    Raises:
        RaveError: as `ask`; nothing is handed over then.
    """
    if events:
        return ask(name, "replay", {"events": list(events)}).replayed
    return ask(name, "replay-dead", {}).replayed


def ask(name: str, action: str, wanted: dict[str, Any]) -> EventsAnswer:
    """Let a running machine carry out an action on its events (rave_guest/events.py).

    Raises:
        RaveError: USAGE if the machine takes no webhooks, or there is no such event; NOT_READY if
            it cannot be reached, or its dispatcher's program does not answer.
    """
    hints = {"input": "rave events list --help", "absent": f"rave events list {name}"}
    return EVENTS.ask(name, action, wanted, EventsAnswer, hints)
