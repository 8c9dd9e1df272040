"""What is done with a webhook, from its first byte to the stream: with the real store."""

from __future__ import annotations

import asyncio
import inspect
import json
import logging
import re
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rave_platform.adapters import openapi
from rave_platform.adapters import web as web_module
from rave_platform.adapters.metrics import DispatcherMetrics
from rave_platform.adapters.store import SqliteEvents
from rave_platform.adapters.web import DispatcherWeb
from rave_platform.application import intake as intake_module
from rave_platform.application.intake import SourceIntake
from rave_platform.application.journal import MOST_WAITING, Journal
from rave_platform.application.outbox import Outbox
from rave_platform.application.ports import (
    StoreUnavailableError,
    StreamIdentity,
    StreamUnavailableError,
)
from rave_platform.domain.handover import MOST_REFUSALS, TakenIn, TurnedDown
from rave_platform.domain.ratelimit import Rate
from tests.unit.platform.deliveries import GENEROUS, KEY, body, delivery, request, signed, source
from tests.waiting import NEVER

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator
    from pathlib import Path

    from rave_platform.application.intake import WebhookAnswer
    from rave_platform.application.ports import OutgoingEvent

LIMIT = 2000


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteEvents]:
    with SqliteEvents(tmp_path / "events.db", 7) as opened:
        yield opened


async def blocking(call: Callable[[], Any]) -> Any:
    return call()


class ScriptedStream:
    """A stream that answers as told: what a real one does only when it is broken."""

    def __init__(self, *script: TakenIn | TurnedDown | None, identity: str = "one") -> None:
        self.script = list(script)
        self.identity = StreamIdentity(identity, 10**6)
        self.connection = 0
        self.taken: list[str] = []

    async def connect(self) -> StreamIdentity:
        self.connection += 1
        return self.identity

    async def publish(self, event: OutgoingEvent) -> TakenIn | TurnedDown:
        answer = self.script.pop(0) if self.script else TakenIn(len(self.taken) + 1)
        if answer is None:
            raise StreamUnavailableError("it is away")
        if isinstance(answer, TakenIn):
            self.taken.append(event.message_id)
        return answer


def run(work: Callable[[Journal], Coroutine[Any, Any, Any]], store: SqliteEvents) -> Any:
    """Run something while a journal writes."""

    async def both() -> Any:
        journal = Journal(store, blocking)
        writing = asyncio.create_task(journal.run())
        try:
            return await work(journal)
        finally:
            writing.cancel()

    return asyncio.run(both())


def receive(store: SqliteEvents, *numbers: int, rate: Rate = GENEROUS) -> list[WebhookAnswer]:
    async def work(journal: Journal) -> list[WebhookAnswer]:
        intake = SourceIntake(source(rate), journal.append, monotonic=lambda: 0.0)
        return [await intake.receive(request(number)) for number in numbers]

    found: list[WebhookAnswer] = run(work, store)
    return found


# --- intake


def test_a_webhook_is_answered_once_it_is_stored_and_again_as_a_duplicate(
    store: SqliteEvents,
) -> None:
    first, second = receive(store, 1, 1)
    assert (first.status, first.reason) == (202, "accepted")
    assert (second.status, second.reason) == (200, "duplicate")
    assert first.event_uuid == second.event_uuid
    assert len(store.due(10)) == 1


def test_a_sender_that_is_too_fast_is_told_when_to_come_again(store: SqliteEvents) -> None:
    answers = receive(store, 1, 2, 3, rate=Rate(0.5, 2))
    assert [answer.status for answer in answers] == [202, 202, 429]
    assert answers[-1].retry_after == 2
    assert len(store.due(10)) == 2


def test_whoever_cannot_prove_anything_uses_up_nothing_of_a_rate(store: SqliteEvents) -> None:
    async def work(journal: Journal) -> list[int]:
        intake = SourceIntake(source(Rate(0.001, 1)), journal.append)
        forged = [request(1).__class__(signed(body(n), b"x" * 32), body(n)) for n in range(20)]
        answers = [await intake.receive(each) for each in [*forged, request(1)]]
        return [answer.status for answer in answers]

    assert run(work, store) == [401] * 20 + [202]


def test_what_cannot_be_stored_is_not_accepted(store: SqliteEvents) -> None:
    store._most_waiting = 0
    (answer,) = receive(store, 1)
    assert (answer.status, answer.reason, answer.retry_after) == (503, "not-stored", 30)
    assert store.newest(10) == []


def test_a_source_without_its_secrets_takes_nothing(store: SqliteEvents) -> None:
    async def work(journal: Journal) -> WebhookAnswer:
        return await SourceIntake(source(keys=()), journal.append).receive(request(1))

    assert run(work, store).status == 503


# --- journal


def test_what_waits_together_is_one_transaction(store: SqliteEvents) -> None:
    batches: list[int] = []
    add = store.add

    def counted(deliveries: Any, now: float) -> Any:
        batches.append(len(deliveries))
        return add(deliveries, now)

    store.add = counted  # type: ignore[method-assign]

    async def work(journal: Journal) -> Any:
        return await asyncio.gather(*(journal.append(delivery(n)) for n in range(100)))

    assert all(found.new for found in run(work, store))
    assert batches == [64, 36]


def test_who_has_gone_meanwhile_spoils_it_for_nobody(store: SqliteEvents) -> None:
    async def work(journal: Journal) -> Any:
        gone = asyncio.create_task(journal.append(delivery(1)))
        stays = asyncio.create_task(journal.append(delivery(2)))
        await asyncio.sleep(0)
        gone.cancel()
        return await stays

    assert run(work, store).new
    assert len(store.due(10)) == 2


def test_no_more_wait_in_memory_than_there_is_room_for(store: SqliteEvents) -> None:
    async def work() -> None:
        journal = Journal(store, blocking)
        waiting = [
            asyncio.create_task(journal.append(delivery(number))) for number in range(MOST_WAITING)
        ]
        await asyncio.sleep(0)
        with pytest.raises(StoreUnavailableError, match="too many"):
            await journal.append(delivery(-1))
        for task in waiting:
            task.cancel()

    asyncio.run(work())


# --- outbox


def hand_over(store: SqliteEvents, stream: ScriptedStream, times: int = 1) -> None:
    async def work() -> None:
        outbox = Outbox(store, stream, blocking)
        for _ in range(times):
            try:
                await outbox.hand_over()
            except StreamUnavailableError:
                continue

    asyncio.run(work())


def test_what_one_event_waits_for_the_others_do_not(store: SqliteEvents) -> None:
    store.add([delivery(n) for n in range(3)], 0.0)
    stream = ScriptedStream(TakenIn(1), None, TakenIn(2))
    hand_over(store, stream)
    assert len(stream.taken) == 2
    assert len(store.due(10)) == 1
    hand_over(store, stream)
    assert len(set(stream.taken)) == 3


def test_a_stream_that_is_away_counts_against_no_event(store: SqliteEvents) -> None:
    store.add([delivery(1)], 0.0)
    stream = ScriptedStream(*[None] * 50)
    hand_over(store, stream, times=50)
    assert store.figures().dead == 0
    hand_over(store, stream)
    assert len(stream.taken) == 1


def test_an_event_that_is_turned_down_again_and_again_stops_nobody(store: SqliteEvents) -> None:
    store.add([delivery(1), delivery(2)], 0.0)
    no = TurnedDown("no")
    stream = ScriptedStream(no, TakenIn(1), *[no] * (MOST_REFUSALS - 1))
    hand_over(store, stream, times=MOST_REFUSALS)
    assert (store.figures().dead, store.figures().waiting, len(stream.taken)) == (1, 0, 1)


def test_after_each_connection_the_stream_is_asked_what_it_still_has(
    store: SqliteEvents, caplog: pytest.LogCaptureFixture
) -> None:
    store.add([delivery(1)], 0.0)
    stream = ScriptedStream()
    hand_over(store, stream)
    stream.identity = StreamIdentity("one", 0)
    with caplog.at_level(logging.WARNING):
        hand_over(store, stream)
    assert "had lost events" in caplog.text
    assert len(stream.taken) == 2
    assert len(set(stream.taken)) == 1
    stream.identity = StreamIdentity("another", 0)
    hand_over(store, stream)
    assert "a new one" in caplog.text


def test_it_wakes_for_what_is_new_and_waits_for_a_stream_that_is_away(store: SqliteEvents) -> None:
    async def work() -> list[str]:
        stream = ScriptedStream(None, None)
        outbox = Outbox(store, stream, blocking)
        running = asyncio.create_task(outbox.run())
        for number in range(3):
            store.add([delivery(number)], 0.0)
            outbox.wake()
            while len(stream.taken) <= number:
                await asyncio.sleep(0.001)
        running.cancel()
        return stream.taken

    assert len(asyncio.run(work())) == 3


# --- HTTP


def posted(
    store: SqliteEvents, *requests: tuple[str, bytes, dict[str, str]]
) -> list[httpx.Response]:
    async def work(journal: Journal) -> list[httpx.Response]:
        web = DispatcherWeb(
            {"forge": SourceIntake(source(), journal.append)}, store, ScriptedStream(), blocking,
            DispatcherMetrics(), LIMIT,
        )  # fmt: skip
        transport = httpx.ASGITransport(web.app())
        async with httpx.AsyncClient(transport=transport, base_url="http://dispatcher") as client:
            return [
                await client.post(path, content=content, headers=headers)
                for path, content, headers in requests
            ] + [await client.get("/metrics"), await client.get("/healthz")]

    found: list[httpx.Response] = run(work, store)
    return found


def test_http_says_what_became_of_a_webhook(store: SqliteEvents) -> None:
    good, forged = body(1), body(2)
    large = b'{"a":"' + b"x" * LIMIT + b'"}'
    *answers, metrics, health = posted(
        store,
        ("/webhooks/forge", good, signed(good)),
        ("/webhooks/forge", good, signed(good)),
        ("/webhooks/forge", forged, signed(good)),
        ("/webhooks/forge", b"[]", signed(b"[]")),
        ("/webhooks/forge", large, signed(large)),
        ("/webhooks/nobody", good, signed(good)),
        ("/", good, {}),
    )
    assert [a.status_code for a in answers] == [202, 200, 401, 400, 413, 404, 404]
    assert answers[0].json()["event_uuid"] == answers[1].json()["event_uuid"]
    assert answers[2].json() == {"status": "wrong-signature"}
    for line in (
        'rave_dispatcher_requests_total{endpoint="webhooks/forge",status="202"} 1.0',
        'rave_dispatcher_refused_total{reason="wrong-signature",source="forge"} 1.0',
        'rave_dispatcher_refused_total{reason="unknown-source",source="unknown"} 1.0',
        'rave_dispatcher_request_duration_seconds_count{endpoint="webhooks/forge"} 5.0',
        'rave_dispatcher_events{state="accepted"} 1.0',
    ):
        assert line in metrics.text
    assert health.json() == {
        "status": "ok", "stream": "not-connected", "waiting": 1, "dead": 0,
        "sources": {"forge": True},
    }  # fmt: skip


def test_openapi_says_every_answer_and_every_path(store: SqliteEvents) -> None:
    good = body(1)
    *_, answer = posted(store, ("/webhooks/forge", good, signed(good)))[:1]
    document = openapi.document()
    said = document["paths"]["/webhooks/{source}"]["post"]["responses"]
    schema = said["202"]["content"]["application/json"]["schema"]
    assert set(answer.json()) == set(schema["required"])
    assert answer.json()["status"] in schema["properties"]["status"]["enum"]
    web = DispatcherWeb({}, store, ScriptedStream(), blocking, DispatcherMetrics(), LIMIT)
    assert {route.path for route in web.app().routes} == set(document["paths"])  # type: ignore[attr-defined]
    # Every answer that the code can give is said, with its word.
    code = "".join(inspect.getsource(module) for module in (intake_module, web_module))
    given_answers = re.findall(r'WebhookAnswer\(\s*(\d+),\s*"([a-z-]+)"', code)
    assert len(given_answers) == 9
    for status, word in given_answers:
        assert word in openapi.ANSWERS[status][1]


def test_a_body_without_a_length_is_cut_off_where_it_is_too_large(
    store: SqliteEvents, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web_module, "MOST_READ", 5_000)
    taken = []

    async def endless() -> Any:
        for _ in range(100):
            taken.append(1)
            yield b"x" * 100

    answer, *_ = posted(store, ("/webhooks/forge", endless(), {}))
    assert answer.status_code == 413
    assert len(taken) == 51


@pytest.mark.parametrize(("path", "status"), [("/webhooks/forge", 413), ("/webhooks/nobody", 404)])
@pytest.mark.parametrize("length", [{}, {"content-length": "10000"}])
def test_what_is_refused_is_read_first_for_nginx_says_502_where_it_is_still_handing_on(
    store: SqliteEvents, path: str, status: int, length: dict[str, str]
) -> None:
    taken = []

    async def large() -> Any:
        for _ in range(100):
            taken.append(1)
            yield b"x" * 100

    answer, *_ = posted(store, (path, large(), length))
    assert answer.status_code == status
    assert len(taken) == 100


def test_a_sender_that_is_too_slow_is_cut_off(
    store: SqliteEvents, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def slow() -> Any:
        yield b"{"
        await asyncio.sleep(NEVER)

    monkeypatch.setattr(web_module, "BODY_WITHIN", 0.01)
    answer, *_ = posted(store, ("/webhooks/forge", slow(), {}))
    assert (answer.status_code, answer.json()) == (408, {"status": "too-slow"})


def test_what_is_logged_holds_no_body_and_no_secret(
    store: SqliteEvents, caplog: pytest.LogCaptureFixture
) -> None:
    content = json.dumps({"password": "hunter2"}).encode()
    with caplog.at_level(logging.DEBUG):
        posted(store, ("/webhooks/forge", content, signed(content)))
    assert "hunter2" not in caplog.text
    assert KEY.decode() not in str([record.__dict__ for record in caplog.records])


paths = st.sampled_from(["/webhooks/forge", "/webhooks/x", "/webhooks/", "/webhooks/a/b"])
header_values = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=80)
headers = st.dictionaries(
    st.sampled_from(
        ["x-hub-signature-256", "x-github-delivery", "x-github-event", "traceparent",
         "content-type", "webhook-id"]
    ),
    header_values,
    max_size=4,
)  # fmt: skip


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(paths, st.binary(max_size=LIMIT + 100), headers, st.booleans())
def test_no_request_is_answered_with_a_5xx(
    store: SqliteEvents, path: str, content: bytes, extra: dict[str, str], well_signed: bool
) -> None:
    sent = {**extra, **(signed(content) if well_signed else {})}
    answer, *_ = posted(store, (path, content, sent))
    assert answer.status_code < 500
