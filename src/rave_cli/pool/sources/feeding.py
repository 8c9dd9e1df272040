"""Takes in what a machine's dispatcher has: the forge's hooks go to it, and from there here.

The dispatcher has proven them, and keeps them; they are asked for through the door into the guest,
as `rave events` does. One that comes twice counts once.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from rave_cli.errors import RaveError
from rave_cli.flows import webhooks
from rave_cli.pool.sources.hooks import PROVIDERS
from rave_cli.pool.sources.revision import repository, told
from rave_platform.domain.events import EventFacts, EventKind
from rave_platform.domain.payloads.reading import number, text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from rave_cli.flows.webhooks import ReceivedEvent
    from rave_cli.pool.sources.ledger import RevisionLedger
    from rave_cli.pool.sources.source import ForgeSource

log = logging.getLogger("rave.pool.sources")

# Seconds between two looks; each asks a guest.
EVERY = 5.0

_BUILT = {"push": EventKind.PUSH, "merge_request": EventKind.MERGE_REQUEST}


def feed(ledger: RevisionLedger, source: ForgeSource, now: Callable[[], float]) -> int:
    """Take in the events of a source that its dispatcher has; return how many revisions were new.

    Raises:
        RaveError: as asking a machine for its events; HOST if the ledger cannot be written.
    """
    events = {
        f"event:{one.event_uuid}": one
        for one in reversed(webhooks.listed(source.dispatcher, source=source.sender))
    }
    new = 0
    for identity in ledger.unknown(source.name, list(events)):
        event = events[identity]
        kind = _BUILT.get(event.kind)
        found = None
        if kind is not None:
            payload = _payload(webhooks.shown(source.dispatcher, event.event_uuid))
            facts = facts_of(event, kind)
            if source.is_of(repository(PROVIDERS[source.forge], facts, payload)):
                found = told(PROVIDERS[source.forge], facts, payload)
        if found is None or not source.wants(found):
            ledger.ignore(source.name, identity, now())
        else:
            taken = ledger.take(source.name, identity, found, "dispatcher", now())
            new += taken == "new"
    return new


def facts_of(event: ReceivedEvent, kind: EventKind) -> EventFacts:
    """Return what a guest says of an event, as far as a revision is read from it."""
    said = event.model_dump()
    return EventFacts(
        kind=kind,
        action=text(said, "action"),
        project=text(said, "project"),
        commit=text(said, "commit"),
        number=number(said, "number"),
    )


def _payload(event: ReceivedEvent) -> Mapping[str, Any]:
    found = event.model_dump().get("payload")
    return found if isinstance(found, dict) else {}


def feed_if_due(
    ledger: RevisionLedger, source: ForgeSource, due: float, now: Callable[[], float]
) -> float:
    """Take in what a dispatcher has, if it is time; return when it is again."""
    if not source.dispatcher or now() < due:
        return due
    try:
        feed(ledger, source, now)
    except RaveError as error:
        log.warning("source %s: machine %s: %s", source.name, source.dispatcher, error.message)
        return now() + 6 * EVERY
    return now() + EVERY
