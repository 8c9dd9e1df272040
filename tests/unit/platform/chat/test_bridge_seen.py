"""What the bridge lets be seen: figures, and whether it is well."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import httpx

from rave_platform.adapters.chat.conversations import SqliteConversations
from rave_platform.adapters.chat.matrix import MatrixChannel, MatrixSettings
from rave_platform.adapters.chat.metrics import MOST_TIMED, BridgeMetrics
from rave_platform.adapters.chat.web import BridgeWeb
from rave_platform.application.chat.ports import (
    ChatFigures,
    QueueFigures,
)
from rave_platform.application.ports import StoreUnavailableError, StreamUnavailableError
from rave_platform.domain.chat import conversation
from rave_platform.domain.chat.commands import Verb
from rave_platform.domain.chat.conversation import ChatDeed, DeedKind
from rave_platform.domain.handover import TakenIn, TurnedDown
from tests.unit.platform.chat.talk import NOW, ROOM, said

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def test_each_command_is_counted_and_timed_by_what_was_commanded() -> None:
    clock = iter(range(MOST_TIMED + 10))
    metrics = BridgeMetrics(lambda: float(next(clock)))
    first = said("!rave run", 1)
    metrics.heard([first])
    metrics.decided(first, Verb.RUN, "answered")
    metrics.done(conversation.answered(first, "x"), TakenIn(0))
    metrics.done(ChatDeed("leave:1", DeedKind.LEAVE, ROOM), TurnedDown("no", forever=True))
    metrics.heard([said("", number) for number in range(2, MOST_TIMED + 4)])
    figures = ChatFigures(1, 2, 3, 4, 5, NOW, NOW + 20, None)
    metrics.read([QueueFigures("gone", 1, 0, 0)])
    metrics.read([QueueFigures("agents-ai-engineer", 3, 1, 2)])
    page = metrics.page(figures, chat=True, stream=False, now=NOW + 60).decode()
    for line in (
        'rave_bridge_commands_total{command="run",result="answered"} 1.0',
        'rave_bridge_answer_duration_seconds_sum{command="run"} 1.0',
        'rave_bridge_deeds_total{kind="leave",result="refused"} 1.0',
        'rave_bridge_waiting{what="stream"} 4.0',
        'rave_bridge_dead{what="answer"} 3.0',
        'rave_bridge_connected{to="stream"} 0.0',
        "rave_bridge_oldest_undecided_seconds 60.0",
        'rave_bridge_oldest_waiting_seconds{what="answer"} 40.0',
        'rave_bridge_oldest_waiting_seconds{what="stream"} 0.0',
        'rave_bridge_consumer_messages{consumer="agents-ai-engineer",state="pending"} 3.0',
        'rave_bridge_consumer_messages{consumer="agents-ai-engineer",state="redelivered"} 2.0',
    ):
        assert line in page, line
    assert "gone" not in page


class Stream:
    connection = 0

    async def queues(self) -> list[QueueFigures]:
        raise StreamUnavailableError("away")


def test_health_says_what_waits_and_that_nothing_can_be_stored(tmp_path: Path) -> None:
    async def work(blocking: Any, store: SqliteConversations) -> list[httpx.Response]:
        channel = MatrixChannel(MatrixSettings("http://hs", "rave", "as", "hs"))
        stream: Any = Stream()
        web = BridgeWeb(store, channel, stream, stream, blocking, BridgeMetrics())
        transport = httpx.ASGITransport(web.app())
        async with httpx.AsyncClient(transport=transport, base_url="http://us") as client:
            found = [await client.get(where) for where in ("/healthz", "/metrics")]
        await channel.close()
        return found

    async def blocking(call: Callable[[], Any]) -> Any:
        return call()

    async def broken(_call: Callable[[], Any]) -> Any:
        raise StoreUnavailableError("full")

    with SqliteConversations(tmp_path / "bridge.db", 7) as store:
        store.hear([said("!rave help", at=datetime.now(UTC).timestamp())], "")
        health, metrics = asyncio.run(work(blocking, store))
        assert health.json()["undecided"] == 1
        assert (health.json()["chat"], health.json()["stream"]) == ("not-connected",) * 2
        assert 'rave_bridge_waiting{what="decision"} 1.0' in metrics.text
        assert 'rave_bridge_requests_total{endpoint="healthz",status="200"} 1.0' in metrics.text
        assert [a.status_code for a in asyncio.run(work(broken, store))] == [503, 503]
