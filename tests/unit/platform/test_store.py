"""The store of events: once each, durable or refused, kept as long as the mode says."""

from __future__ import annotations

import asyncio
import sqlite3
import stat
from typing import TYPE_CHECKING
from uuid import UUID

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from rave_platform.adapters.handovers import HandoverTable
from rave_platform.adapters.store import SCHEMA, VERSION, SqliteEvents
from rave_platform.application import administration
from rave_platform.application.administration import UnknownEventError
from rave_platform.application.ports import StoreUnavailableError, StreamIdentity
from rave_platform.application.retention import prune_forever
from rave_platform.domain.events import EventMessage
from rave_platform.domain.handover import KNOWN_DAYS, HandoverState, TakenIn, TurnedDown
from tests.unit.platform.deliveries import delivery, in_memory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

NOW = 1_700_000_000.0
DAY = 86400.0
STREAM = StreamIdentity("made once", 1000)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteEvents]:
    with SqliteEvents(tmp_path / "events.db", 7) as opened:
        yield opened


def add(store: SqliteEvents, *numbers: int, now: float = NOW) -> list[bool]:
    return [found.new for found in store.add([delivery(n) for n in numbers], now)]


def hand_over(store: SqliteEvents, *, first: int = 1) -> int:
    due = store.due(1000)
    store.record([(event.number, TakenIn(first + at)) for at, event in enumerate(due)])
    return len(due)


def uuids(store: SqliteEvents, state: HandoverState | None = None) -> list[UUID]:
    return [kept.event.event_uuid for kept in store.newest(1000, state)]


def test_a_delivery_is_stored_once_whether_it_comes_again_together_or_later(
    store: SqliteEvents,
) -> None:
    assert add(store, 1, 2, 1) == [True, True, False]
    assert add(store, 2) == [False]
    assert len(store.due(10)) == 2
    assert [found.new for found in store.add([delivery(1, "other")], NOW)] == [True]


def test_what_was_stored_is_there_for_whoever_opens_it_next(tmp_path: Path) -> None:
    place = tmp_path / "events.db"
    with SqliteEvents(place, 7) as first:
        add(first, 1)
        with SqliteEvents(place, 7) as second:
            assert len(second.due(10)) == 1
    assert stat.S_IMODE(place.stat().st_mode) == 0o600


def test_an_acknowledgement_is_synced_and_the_stream_s_answer_need_not_be(
    store: SqliteEvents,
) -> None:
    def pragma(name: str) -> object:
        return store._file._db.execute(f"PRAGMA {name}").fetchone()[0]

    assert (pragma("journal_mode"), pragma("synchronous")) == ("wal", 2)
    add(store, 1)
    hand_over(store)
    assert pragma("synchronous") == 2


def test_what_is_due_is_what_the_stream_does_not_have_in_the_order_it_came(
    store: SqliteEvents,
) -> None:
    add(store, 1, 2, 3)
    first, second, third = store.due(10)
    read = EventMessage.model_validate_json(first.data)
    assert (read.payload["number"], first.subject) == (1, "rave.events.v1.forge.push")
    assert first.message_id == str(read.event_uuid)
    store.record([(second.number, TakenIn(1))])
    assert [event.number for event in store.due(10)] == [first.number, third.number]
    assert store.figures().waiting == 2
    assert store.figures().oldest_waiting == NOW


def test_what_the_stream_has_lost_is_handed_over_again_under_its_name(store: SqliteEvents) -> None:
    assert store.agree(STREAM) == 0
    add(store, 1, 2, 3)
    before = [event.message_id for event in store.due(10)]
    hand_over(store, first=998)
    assert store.agree(StreamIdentity("made once", 999)) == 1
    assert [event.message_id for event in store.due(10)] == before[2:]


def test_what_another_stream_had_is_not_sent_to_a_new_one(store: SqliteEvents) -> None:
    store.agree(STREAM)
    add(store, 1)
    hand_over(store)
    assert store.agree(StreamIdentity("made anew", 0)) is None
    assert store.due(10) == []
    assert store.agree(StreamIdentity("made anew", 0)) == 1


def test_a_replay_has_a_name_of_its_own(store: SqliteEvents) -> None:
    add(store, 1)
    hand_over(store)
    (event_uuid,) = uuids(store)
    assert administration.replay(store, [event_uuid]) == 1
    assert administration.replay(store, [event_uuid]) == 0
    assert [event.message_id for event in store.due(10)] == [f"{event_uuid}.1"]


def test_what_the_stream_does_not_take_is_put_aside_shown_and_replayed(store: SqliteEvents) -> None:
    add(store, 1, 2)
    store.record([(store.due(1)[0].number, TurnedDown("too large", forever=True))])
    (dead,) = administration.listed(store, 10, HandoverState.DEAD)
    assert (dead["handover"]["why"], dead["processed"]) == ("too large", False)
    assert administration.shown(store, UUID(dead["event_uuid"]))["payload"]["number"] == 1
    assert len(store.due(10)) == 1
    assert administration.replay_dead(store) == 1
    assert len(store.due(10)) == 2


def test_who_asks_for_an_event_that_is_not_there_is_told(store: SqliteEvents) -> None:
    for ask in (
        lambda: administration.shown(store, UUID(int=1)),
        lambda: administration.replay(store, [UUID(int=1)]),
    ):
        with pytest.raises(UnknownEventError, match="no event 0000"):
            ask()


def test_events_are_kept_for_so_many_days_and_deliveries_known_for_longer(
    store: SqliteEvents,
) -> None:
    add(store, 1, 2)
    hand_over(store)
    assert store.prune(NOW + 1) == 0
    for day in range(12 * 8):
        store.prune(NOW + day * DAY / 12)
    assert uuids(store) == []
    assert add(store, 1, now=NOW + 8 * DAY) == [False]
    for hour in range(0, 24 * (KNOWN_DAYS + 1), 2):
        store.prune(NOW + hour * 3600)
    assert add(store, 1, now=NOW + 100 * DAY) == [True]


def test_what_waits_is_kept_however_old_it_is(store: SqliteEvents) -> None:
    add(store, 1)
    for day in range(12 * 8):
        store.prune(NOW + day * DAY / 12)
    assert len(uuids(store)) == 1


def test_a_clock_that_leaps_costs_nothing_until_it_has_been_wrong_for_days(
    store: SqliteEvents,
) -> None:
    store.prune(NOW)
    add(store, 1, now=NOW)
    hand_over(store)
    years = 10 * 365 * DAY
    for hour in range(24):
        assert store.prune(NOW + years + hour * 3600) == 0
    assert len(uuids(store)) == 1
    # And what comes while it is wrong the other way is no older than what was there.
    add(store, 2, now=0.0)
    hand_over(store, first=2)
    assert store.prune(NOW + 60) == 0
    assert len(uuids(store)) == 2


def test_a_full_disk_refuses_all_of_a_batch_and_keeps_what_was_there(store: SqliteEvents) -> None:
    add(store, 1)
    pages = store._file._db.execute("PRAGMA page_count").fetchone()[0]
    store._file._db.execute(f"PRAGMA max_page_count = {pages + 2}")
    with pytest.raises(StoreUnavailableError, match="full"):
        add(store, *range(2, 200))
    assert len(store.due(1000)) == 1
    store._file._db.execute(f"PRAGMA max_page_count = {pages + 2000}")
    assert all(add(store, *range(2, 200)))


def test_no_more_may_wait_than_was_said(tmp_path: Path) -> None:
    with SqliteEvents(tmp_path / "events.db", 7, most_waiting=3) as store:
        add(store, 1, 2)
        with pytest.raises(StoreUnavailableError, match="too many"):
            add(store, 3, 4)
        hand_over(store)
        assert add(store, 3, 4) == [True, True]


def test_what_is_no_store_or_a_newer_one_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("this is no database, whatever its name says" * 100)
    (tmp_path / "text").chmod(0o600)
    with sqlite3.connect(tmp_path / "newer") as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    (tmp_path / "newer").chmod(0o600)
    (tmp_path / "open").touch(0o644)
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    for name, says in {
        "text": "not a database", "newer": "a newer version", "open": "others may read",
        "link": "symbolic links", "no/such/folder": "No such file",
    }.items():  # fmt: skip
        with pytest.raises(StoreUnavailableError, match=says):
            SqliteEvents(tmp_path / name, 7)


def test_what_is_old_is_removed_in_pieces_until_nothing_is(store: SqliteEvents) -> None:
    add(store, *range(1200))
    while hand_over(store):
        pass
    store._file.set_fact("aged", str(NOW + 7 * DAY))
    asyncio.run(prune_once(store, NOW + 7 * DAY + 3600))
    assert uuids(store) == []


async def prune_once(store: SqliteEvents, now: float) -> None:
    """Let the hourly pruning run until it waits for the next hour."""

    async def blocking(call: Callable[[], int]) -> int:
        return call()

    pruning = asyncio.create_task(prune_forever(store, blocking, lambda: now))
    await asyncio.sleep(0)
    assert not pruning.done()
    pruning.cancel()


class Stored(RuleBasedStateMachine):
    """Whatever happens, an event is there once, and waits until the stream has taken it."""

    def __init__(self) -> None:
        super().__init__()
        # In memory: what is on the disk has its own tests.
        self.store = SqliteEvents.__new__(SqliteEvents)
        self.store._retention, self.store._most_waiting = 7 * DAY, 1000
        self.store._file = in_memory(SCHEMA, VERSION)
        self.store._handovers = HandoverTable(self.store._file, "events")
        self.came: set[int] = set()
        self.taken: set[str] = set()
        self.place = 0

    @rule(numbers=st.lists(st.integers(1, 12), max_size=4))
    def comes(self, numbers: list[int]) -> None:
        new = add(self.store, *numbers)
        assert sum(new) == len(set(numbers) - self.came)
        self.came |= set(numbers)

    @rule(answers=st.lists(st.booleans(), max_size=4))
    def is_handed_over(self, answers: list[bool]) -> None:
        for event, takes in zip(self.store.due(4), answers, strict=False):
            self.place += 1
            step = TakenIn(self.place) if takes else TurnedDown("no", forever=True)
            self.store.record([(event.number, step)])
            if takes:
                self.taken.add(event.message_id.partition(".")[0])

    @rule()
    def dead_are_replayed(self) -> None:
        administration.replay_dead(self.store)

    @invariant()
    def every_event_is_there_once(self) -> None:
        kept = uuids(self.store)
        assert len(kept) == len(set(kept)) == len(self.came)
        published = {str(u) for u in uuids(self.store, HandoverState.PUBLISHED)}
        assert published == self.taken
        figures = self.store.figures()
        assert figures.waiting + figures.dead + len(published) == len(self.came)

    def teardown(self) -> None:
        self.store._file.close()


TestStored = Stored.TestCase
TestStored.settings = settings(max_examples=30, stateful_step_count=20, deadline=None)
