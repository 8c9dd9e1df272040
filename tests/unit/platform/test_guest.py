"""The guest's verb events and the program that carries it out: what one asks, the other answers.

The two know nothing of each other but this program's words (the platform and the guest's code are
held apart), so they are put together here.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from rave_cli.flows.webhooks import EventsAnswer
from rave_cli.options import EVENT_STATES
from rave_guest import events
from rave_guest.refusal import Refused
from rave_guest.services import webhook_dispatcher
from rave_platform.adapters.store import SqliteEvents
from rave_platform.domain.handover import HandoverState, TakenIn
from tests.unit.platform.deliveries import delivery

NOW = 1_700_000_000.0
SOURCE = Path(__file__).resolve().parents[3] / "src"


@pytest.fixture
def program(tmp_path: Path) -> list[str]:
    """The program with a store of three events, the first of which the stream has."""
    settings = tmp_path / "settings.toml"
    settings.write_text(f'store = "{tmp_path}/events.db"\n')
    settings.chmod(0o600)
    with SqliteEvents(tmp_path / "events.db", 7) as store:
        store.add([delivery(number) for number in (1, 2, 3)], NOW)
        store.record([(store.due(1)[0].number, TakenIn(1))])
    return [sys.executable, "-m", "rave_platform.events", str(settings)]


def test_every_action_is_answered_in_the_form_that_the_host_reads(program: list[str]) -> None:
    def ask(action: str, **wanted: object) -> EventsAnswer:
        events.check(action, wanted)
        return EventsAnswer.model_validate(webhook_dispatcher.events(action, wanted, program))

    found = ask("list", most=10).events
    assert [(event.kind, event.handover.state) for event in found] == [
        ("push", "accepted"), ("push", "accepted"), ("push", "published"),
    ]  # fmt: skip
    assert [event.source for event in ask("list", source="forge", most=2).events] == ["forge"] * 2
    (published,) = ask("list", state="published").events
    assert ask("list", state="dead").events == ()
    shown = ask("show", event=published.event_uuid).event
    assert shown is not None
    assert (shown.model_extra or {})["payload"] == {"ref": "refs/heads/main", "number": 1}
    assert ask("replay", events=[published.event_uuid]).replayed == 1
    assert ask("list", state="published").events == ()
    assert ask("replay-dead").replayed == 0
    with pytest.raises(Refused, match="there is no event") as caught:
        ask("show", event="5f0c4c0e-6a51-5f0e-9d0a-0d7c1f6f2a11")
    assert caught.value.stage == "absent"


def test_all_three_know_the_same_states() -> None:
    assert tuple(HandoverState) == EVENT_STATES == events.STATES
