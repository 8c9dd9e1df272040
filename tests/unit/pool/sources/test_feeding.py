"""What a machine's dispatcher has taken in becomes revisions here, and counts once."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest

from rave_cli.errors import ExitCode, RaveError
from rave_cli.flows import webhooks
from rave_cli.flows.webhooks import EventsAnswer, ReceivedEvent
from rave_cli.pool.sources import feeding
from rave_cli.pool.sources.feeding import feed, feed_if_due
from rave_cli.pool.sources.hooks import PROVIDERS
from rave_cli.pool.sources.ledger import RevisionLedger, open_ledger
from rave_cli.pool.sources.source import FORGES, Forge
from rave_platform.adapters.store import SqliteEvents
from rave_platform.application import administration
from rave_platform.domain import normalisation
from rave_platform.domain.signatures import Authentic, Proven

from .forges import commit, hook, push, request, source

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Guest:
    """The dispatcher's own store of a machine, and what its program says, as its door shows it."""

    def __init__(self, forge: Forge, store: SqliteEvents) -> None:
        self.forge, self.store = forge, store
        self.shown: list[str] = []
        self.gone = False

    def receive(self, payload: dict[str, Any]) -> None:
        given = hook(self.forge, payload)
        proof = Authentic(hashlib.sha256(given.body).hexdigest(), Proven.SENDER)
        delivery = normalisation.delivery(
            "forge", PROVIDERS[self.forge], given, proof, received=1.7e9, fresh_trace="f" * 32
        )
        self.store.add([delivery], 1.7e9)

    def listed(self, name: str, *, source: str, most: int = 1000) -> tuple[ReceivedEvent, ...]:
        if self.gone:
            raise RaveError("machine dev does not run", exit_code=ExitCode.NOT_READY)
        assert name == "dev"
        document = {"events": administration.listed(self.store, most, None, source)}
        return EventsAnswer.model_validate_json(json.dumps(document)).events

    def show(self, name: str, uuid: str) -> ReceivedEvent:
        self.shown.append(uuid)
        document = {"event": administration.shown(self.store, UUID(uuid))}
        found = EventsAnswer.model_validate_json(json.dumps(document)).event
        assert found is not None
        return found


@pytest.fixture(params=FORGES)
def guest(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Guest]:
    with SqliteEvents(tmp_path / "events.sqlite", 7) as store:
        found = Guest(request.param, store)
        monkeypatch.setattr(webhooks, "listed", found.listed)
        monkeypatch.setattr(webhooks, "shown", found.show)
        yield found


@pytest.fixture
def ledger() -> Iterator[RevisionLedger]:
    with open_ledger() as found:
        yield found


def test_events_of_a_dispatcher_are_taken_in_once(guest: Guest, ledger: RevisionLedger) -> None:
    fed = source(guest.forge, secrets=(), dispatcher="dev", sender="forge")
    guest.receive(push(guest.forge, commit(1)))
    guest.receive(request(guest.forge, commit(2)))
    guest.receive(request(guest.forge, commit(3), number=8, fork=True))
    assert feed(ledger, fed, lambda: 1.0) == 2
    assert feed(ledger, fed, lambda: 1.0) == 0
    # What is known is not asked for again.
    assert len(guest.shown) == 3
    known = list(reversed(ledger.revisions("app", 9)))
    assert [one.revision.name for one in known] == ["main", "7"]
    assert {one.told_by for one in known} == {"dispatcher"}
    guest.receive(push(guest.forge, commit(4)))
    assert feed(ledger, fed, lambda: 1.0) == 1
    # As is one that a hook, or a poll, has told of as well.
    assert ledger.take("app", "hook", known[0].revision, "hook", 1.0) == "known"


def test_events_of_another_repository_and_kind_are_not_built(
    guest: Guest, ledger: RevisionLedger
) -> None:
    guest.receive(push(guest.forge, commit(1)))
    guest.receive({"object_kind": "issue", "topic": "issue.new", "msg": {}})
    other = source(guest.forge, repository="team/other", dispatcher="dev", sender="forge")
    assert feed(ledger, other, lambda: 1.0) == 0
    assert feed(ledger, other, lambda: 1.0) == 0
    assert ledger.revisions("app", 9) == []


def test_a_machine_that_does_not_run_is_asked_less_often(
    guest: Guest, ledger: RevisionLedger
) -> None:
    fed = source(guest.forge, dispatcher="dev", sender="forge")
    guest.gone = True
    due = feed_if_due(ledger, fed, 0.0, lambda: 100.0)
    assert due > 100.0 + feeding.EVERY
    guest.gone = False
    guest.receive(push(guest.forge, commit(1)))
    assert feed_if_due(ledger, fed, due, lambda: 101.0) == due
    assert ledger.revisions("app", 9) == []
    feed_if_due(ledger, fed, due, lambda: due)
    assert len(ledger.revisions("app", 9)) == 1
