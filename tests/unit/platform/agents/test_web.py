"""What an agent says of itself: its figures, and the two pages on which they stand."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from rave_platform.adapters.agents import web as webs
from rave_platform.adapters.agents.figures import AgentFigures
from rave_platform.adapters.agents.ledger import SqliteLedger
from rave_platform.adapters.agents.web import AgentWeb, Page
from rave_platform.application.ports import StoreUnavailableError
from rave_platform.domain.agents import progress as progresses
from rave_platform.domain.agents.progress import TaskProgress
from rave_platform.domain.tasks import AgentKind, DecisionKind, DecisionOutcome
from tests.unit.platform.agents.world import MOMENT, decision, task
from tests.waiting import CEILING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

AGENT = AgentKind.BACKEND_ARCHITECT


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def read(page: bytes) -> dict[tuple[str, ...], float]:
    """Return what Prometheus' own reader finds, by name and labels' values without the agent's."""
    found = {}
    for family in text_string_to_metric_families(page.decode()):
        for sample in family.samples:
            labels = dict(sample.labels)
            assert labels.pop("agent") == AGENT
            found[(sample.name.removeprefix("rave_agent_"), *labels.values())] = sample.value
    return found


def page(figures: AgentFigures) -> dict[tuple[str, ...], float]:
    return read(figures.page(stream=True, waiting=2, unfinished=1))


def test_tasks_are_counted_once_each_and_timed() -> None:
    clock = Clock()
    figures = AgentFigures(AGENT, clock)
    first = progresses.taken(TaskProgress(task(1)), MOMENT, 5)
    figures.kept(first)
    figures.kept(progresses.step_begun(first))
    clock.now += 20
    figures.kept(progresses.given_up(first, MOMENT, "it cannot be done"))
    figures.kept(progresses.taken(TaskProgress(task(2)), MOMENT, 5))
    found = page(figures)
    assert [found[("tasks_total", what)] for what in ("started", "completed", "failed")] == [
        2,
        0,
        1,
    ]
    assert found[("task_duration_seconds_bucket", "15")] == 0
    assert found[("task_duration_seconds_bucket", "30")] == 1
    assert found[("task_duration_seconds_bucket", "+Inf")] == 1
    assert (found["task_duration_seconds_count",], found["task_duration_seconds_sum",]) == (1, 20)
    assert (found["waiting",], found["unfinished",], found["stream_connected",]) == (2, 1, 1)


def test_what_was_begun_before_the_start_ends_without_a_time() -> None:
    figures = AgentFigures(AGENT)
    begun = progresses.taken(TaskProgress(task(1)), MOMENT, 5)
    figures.kept(progresses.given_up(begun, MOMENT, "x"))
    found = page(figures)
    assert found[("tasks_total", "failed")] == 1
    assert found["task_duration_seconds_count",] == 0


def test_an_agent_that_is_not_heard_says_for_how_long() -> None:
    clock = Clock()
    figures = AgentFigures(AGENT, clock)
    clock.now += 30
    assert page(figures)["silent_seconds",] == 30
    figures.beaten()
    clock.now += 1
    assert page(figures)["silent_seconds",] == 1


def test_decisions_are_counted_by_what_came_of_them() -> None:
    figures = AgentFigures(AGENT)
    made = decision(DecisionKind.APPROVE)
    for done in (True, True, False):
        figures.decided(
            DecisionOutcome(
                decision_uuid=made.decision_uuid, task_id=made.task_id, trace_id=made.trace_id,
                decision=made.decision, done=done, text="x", at=MOMENT,
            )
        )  # fmt: skip
    found = page(figures)
    assert found[("decisions_total", "approve", "done")] == 2
    assert found[("decisions_total", "approve", "refused")] == 1


@given(st.lists(st.floats(min_value=0, max_value=2000), max_size=20))
def test_the_histogram_is_one_whatever_it_is_told(spans: list[float]) -> None:
    clock = Clock()
    figures = AgentFigures(AGENT, clock)
    for number, span in enumerate(spans):
        begun = progresses.taken(TaskProgress(task(number)), MOMENT, 5)
        figures.kept(begun)
        clock.now += span
        figures.kept(progresses.given_up(begun, MOMENT, "x"))
    found = page(figures)
    buckets = [v for k, v in found.items() if k[0] == "task_duration_seconds_bucket"]
    assert buckets == sorted(buckets)
    assert buckets[-1] == found["task_duration_seconds_count",] == len(spans)


@dataclass
class Stream:
    connection: int = 1


async def blocking(call: Any) -> Any:
    return call()


@pytest.fixture
def web(tmp_path: Path) -> Iterator[AgentWeb]:
    with SqliteLedger(tmp_path / "agent.db", 7) as ledger:
        ledger.keep(progresses.taken(TaskProgress(task(1)), MOMENT, 5))
        yield AgentWeb(ledger, Stream(), blocking, AgentFigures(AGENT))  # type: ignore[arg-type]


def ask(web: AgentWeb, method: str, path: str) -> Page:
    return asyncio.run(web.page(method, path))


def test_it_is_well_while_it_can_keep_how_far_it_has_come(web: AgentWeb) -> None:
    web.stream.connection = 0  # type: ignore[misc]
    found = ask(web, "GET", "/healthz")
    assert found.status == 200
    told = {"status": "ok", "stream": "not-connected", "waiting": 1, "unfinished": 1}
    assert json.loads(found.body) == told
    figures = read(ask(web, "GET", "/metrics").body)
    assert (figures["waiting",], figures["unfinished",], figures["stream_connected",]) == (1, 1, 0)


def test_a_store_that_cannot_be_used_is_no_health(
    web: AgentWeb, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away() -> tuple[int, int]:
        raise StoreUnavailableError("full")

    monkeypatch.setattr(web.ledger, "figures", away)
    for path in ("/healthz", "/metrics"):
        assert ask(web, "GET", path).status == 503


def test_nothing_else_is_there(web: AgentWeb) -> None:
    assert ask(web, "GET", "/").status == 404
    assert ask(web, "POST", "/metrics").status == 405


@pytest.mark.parametrize(
    ("sent", "begins"),
    [
        (b"GET /healthz?x=1 HTTP/1.1\r\nHost: x\r\n\r\n", b"HTTP/1.1 200 OK\r\n"),
        (b"GET /metrics HTTP/1.0\r\n\r\n", b"HTTP/1.1 200 OK\r\n"),
        (b"\xff /healthz HTTP/1.1\r\n\r\n", b""),
        (b"GET\r\n\r\n", b""),
        (b"GET /" + b"x" * webs.MOST * 3 + b" HTTP/1.1\r\n\r\n", b""),
        (b"GET /healthz HTTP/1.1\r\n", b""),
    ],
)
def test_over_a_socket_a_question_is_answered_and_what_is_none_is_not(
    web: AgentWeb, sent: bytes, begins: bytes
) -> None:
    async def do() -> bytes:
        server = await asyncio.start_server(web._answer, webs.LOOPBACK, 0, limit=webs.MOST)
        async with server:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writer.write(sent)
            writer.write_eof()
            found = await asyncio.wait_for(reader.read(), CEILING)
            writer.close()
            return found

    try:
        found = asyncio.run(do())
    except ConnectionResetError:
        found = b""
    assert found.startswith(begins)
    assert bool(found) == bool(begins)
