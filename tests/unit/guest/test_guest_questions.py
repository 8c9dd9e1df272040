"""Health questions: what is sent, what counts as an answer, and how a round ends."""

from __future__ import annotations

import pickle
import socket
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from rave_guest import questions, ready
from rave_guest.questions import Question, Round
from rave_guest.services import fail2ban, postgresql, redis
from tests.waiting import CEILING

if TYPE_CHECKING:
    from collections.abc import Iterator


PORTS = {
    "ports": [
        {"name": "ssh", "port": 22},
        {"name": "redis", "port": 6379},
        {"name": "postgresql", "port": 5432},
    ]
}


class Listener:
    """A service that answers its one visitor with `answer`, and hangs up unless told to stay."""

    def __init__(self, answer: bytes, *, stay: bool = False) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.address: tuple[str, int] = self._socket.getsockname()
        self.received = b""
        self._answer, self._stay = answer, stay
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        connection, _ = self._socket.accept()
        with connection:
            self.received = connection.recv(4096)
            connection.sendall(self._answer)
            if self._stay:
                self._done.wait(CEILING)

    def close(self) -> None:
        self._done.set()
        self._thread.join(CEILING)
        self._socket.close()


@pytest.fixture
def listeners() -> Iterator[list[Listener]]:
    made: list[Listener] = []
    yield made
    for listener in made:
        listener.close()


def outcome(question: Question, seconds: float = CEILING) -> bool | None:
    """The verdict on one question, or None if it does not end."""
    asking = Round()
    assert asking.ask(question)
    ended: list[tuple[Question, bool]] = []
    until = time.monotonic() + seconds
    while not ended and time.monotonic() < until:
        ended = asking.step(0.05)
    asking.close()
    return ended[0][1] if ended else None


def page(address: tuple[str, int], status: int = 200, contains: str = "ready") -> Question:
    return questions.http(f"http://{address[0]}:{address[1]}/-/ready", status, contains)


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        (b"HTTP/1.0 200 OK\r\nA: b\r\n\r\nready\n", True),
        (b"HTTP/1.0 503 No\r\n\r\nready\n", False),
        (b"HTTP/1.0 200 OK\r\nready: yes\r\n\r\nother", False),
        (b"", False),
    ],
)
def test_http(listeners: list[Listener], answer: bytes, verdict: bool) -> None:
    listeners.append(Listener(answer))
    assert outcome(page(listeners[0].address)) is verdict
    assert listeners[0].received.startswith(b"GET /-/ready HTTP/1.0\r\nHost: 127.0.0.1:")


def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = free.getsockname()
    asking = Round()
    question = page(address)
    if asking.ask(question):
        ended: list[tuple[Question, bool]] = []
        while not ended:
            ended = asking.step(1)
        assert ended == [(question, False)]
    asking.close()


def test_a_missing_socket_is_nobody_listening() -> None:
    assert Round().ask(Question("q", "/nonexistent/socket", b"", lambda _: True)) is False


def test_https_is_answered_by_accepting(listeners: list[Listener]) -> None:
    listeners.append(Listener(b""))
    host, port = listeners[0].address
    assert outcome(questions.http(f"https://{host}:{port}/", 200, "rave")) is True


def test_a_good_answer_needs_no_end(listeners: list[Listener]) -> None:
    listeners.append(Listener(b"+PONG\r\n", stay=True))
    (question,) = redis.alive(PORTS)
    question.address = listeners[0].address
    assert outcome(question) is True


def test_a_bad_answer_with_its_end_needs_no_timeout(listeners: list[Listener]) -> None:
    listeners.append(Listener(b"Jail list: none<F2B_END_COMMAND>", stay=True))
    (question,) = fail2ban.alive({})
    question.address = listeners[0].address
    assert outcome(question) is False


def test_silence_ends_by_time(listeners: list[Listener], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(questions, "ASK_TIMEOUT", 0.1)
    listeners.append(Listener(b"", stay=True))
    assert outcome(page(listeners[0].address)) is False


def test_a_bad_answer_is_asked_again_after_growing_pauses_or_when_something_came_up(
    listeners: list[Listener], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    listeners += [Listener(b"HTTP/1.0 200 OK\r\n\r\nnginx_up 0") for _ in range(7)]
    question = page(listeners[0].address)
    asking = Round()
    pauses = []
    for listener in listeners[:6]:
        question.address = listener.address
        began = now[0]
        while not asking.ask(question):
            now[0] += 0.05
        pauses.append(round(now[0] - began, 2))
        while not (ended := asking.step(1)):
            pass
        assert ended == [(question, False)]
    assert pauses == pytest.approx([0, 0.1, 0.2, 0.4, 0.8, 1.0], abs=0.06)
    question.address = listeners[6].address
    assert not asking.ask(question)
    asking.hurry()
    assert asking.ask(question)
    asking.close()


def test_where_nobody_answers_yet_it_is_asked_again_at_the_next_look() -> None:
    nobody = Question("q", "/nonexistent/socket", b"", lambda _: True)
    asking = Round()
    assert [asking.ask(nobody) for _ in range(3)] == [False] * 3
    assert not asking._pauses


def test_several_questions_at_once(listeners: list[Listener]) -> None:
    listeners += [Listener(b"HTTP/1.0 200 OK\r\n\r\nready") for _ in range(5)]
    asked = [page(listener.address) for listener in listeners]
    asking = Round()
    assert all(asking.ask(question) for question in asked)
    ended: dict[Question, bool] = {}
    until = time.monotonic() + CEILING
    while len(ended) < len(asked) and time.monotonic() < until:
        ended.update(asking.step(0.1))
    assert ended == dict.fromkeys(asked, True)


@pytest.mark.parametrize("answer", [b"+PONG\r\n", b"-NOAUTH Authentication required.\r\n"])
def test_redis_answers_also_by_asking_for_a_password(answer: bytes) -> None:
    (question,) = redis.alive(PORTS)
    assert question.good(answer)
    assert not question.good(b"-LOADING\r\n")


def test_postgresql_message_is_a_startup_packet_and_a_query() -> None:
    (question,) = postgresql.alive(PORTS)
    sent = question.send
    length = int.from_bytes(sent[:4])
    assert sent[4:8] == b"\0\3\0\0"
    assert sent[8:length].endswith(b"\0\0")
    assert sent[length : length + 1] == b"Q"
    query = int.from_bytes(sent[length + 1 : length + 5])
    assert sent[length + 5 : length + 1 + query] == b"select 'alive'\0"
    assert sent[length + 1 + query :] == b"X\0\0\0\4"


def test_fail2ban_message_is_the_pickled_command() -> None:
    data, end, rest = fail2ban.alive({})[0].send.partition(b"<F2B_END_COMMAND>")
    assert (pickle.loads(data), rest) == (["status"], b"")  # noqa: S301 - our own bytes
    assert end


def check(**more: Any) -> dict[str, Any]:
    url = {"url": "http://127.0.0.1:9/x", "status": 200}
    return {"kind": "http", "from": "guest", **url, **more}


def test_questions_of_a_record_are_those_asked_inside_over_http() -> None:
    record = {"checks": [check(), check(**{"from": "host"}), check(kind="tcp")]}
    assert [question.name for question in ready.alive("new", record)] == ["http://127.0.0.1:9/x"]


def test_metrics_that_prometheus_asks_for_are_good_for_some_minutes() -> None:
    """Gathering them is the dearest answer of all."""
    scrape = {"port": 9, "path": "/x"}
    (held,) = ready.alive("new", {"checks": [check()], "scrape": scrape})
    assert held.holds > 60.0
    for other in (None, scrape | {"path": "/y"}, scrape | {"port": 8}):
        (asked,) = ready.alive("new", {"checks": [check()], "scrape": other})
        assert asked.holds == 0.0


def test_a_record_that_asks_over_http_is_enough_even_for_a_service_with_a_module() -> None:
    record = {"checks": [check()], **PORTS}
    assert [q.name for q in ready.alive("redis", record)] == ["http://127.0.0.1:9/x"]


def test_a_service_that_nobody_can_ask_is_judged_by_its_units() -> None:
    assert ready.alive("firewall", {"checks": [check(kind="command")]}) == []


@pytest.mark.parametrize("service", ["sshd", "redis", "postgresql", "fail2ban"])
def test_services_with_their_own_protocol(service: str) -> None:
    assert len(ready.alive(service, {"checks": [], **PORTS})) == 1


def test_the_port_is_the_record_s() -> None:
    moved = {"ports": [{"name": "redis", "port": 6380}]}
    assert redis.alive(moved)[0].address == ("127.0.0.1", 6380)
    moved = {"ports": [{"name": "postgresql", "port": 5433}]}
    assert postgresql.alive(moved)[0].address == "/run/postgresql/.s.PGSQL.5433"
