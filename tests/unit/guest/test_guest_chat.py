"""The smoke suite's conversation, without a server: what is read of answers, and what waits."""

from __future__ import annotations

import json
import threading
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rave_guest import chat, journey
from rave_guest.checks import catalog
from rave_guest.refusal import Refused
from rave_guest.services import matrix
from rave_guest.verdict import Verdict, passed
from rave_guest.wire import http
from rave_guest.wire.matrix import code_of, messages

if TYPE_CHECKING:
    from pathlib import Path

    from rave_guest.system import System


def event(text: str, kind: str = "m.room.message") -> dict[str, Any]:
    return {"type": kind, "content": {"body": text}}


@given(st.lists(st.tuples(st.sampled_from(["m.room.message", "m.room.member"]), st.text())))
def test_what_was_said_in_a_room_is_read_in_its_order(said: list[tuple[str, str]]) -> None:
    events = [event(text, kind) for kind, text in said]
    news = {"rooms": {"join": {"!a": {"timeline": {"events": events}}}}}
    assert messages(news, "!a") == [text for kind, text in said if kind == "m.room.message"]
    assert messages(news, "!b") == []


@given(st.binary(max_size=40))
def test_an_error_without_a_code_is_one_nevertheless(body: bytes) -> None:
    assert code_of(body)


def test_the_code_of_an_error_is_told() -> None:
    assert code_of(json.dumps({"errcode": "M_FORBIDDEN", "error": "no"}).encode()) == "M_FORBIDDEN"


def fails(error: Exception) -> Any:
    def step(_: object) -> Verdict:
        raise error

    return step


def test_a_step_without_its_ground_is_skipped_and_the_others_go_on() -> None:
    steps = {
        "one": lambda _: passed("well"),
        "two": fails(journey.Broken("it is not")),
        "three": fails(Refused("provider", "it is away")),
        "four": fails(TimeoutError("late")),
    }
    found = journey.travel(None, steps, ground=())
    assert {name: verdict.status for name, verdict in found.items()} == {
        "one": "pass", "two": "fail", "three": "error", "four": "error",
    }  # fmt: skip
    found = journey.travel(None, steps, ground=("one", "two"))
    assert found["four"] == found["three"] == Verdict("skip", "needs two", {})


def test_accounts_are_deleted_whatever_becomes_of_the_conversation() -> None:
    asked: list[tuple[str, str]] = []

    def accounts(action: str, arguments: Any) -> dict[str, Any]:
        asked.append((action, arguments["user"]))
        raise Refused("absent", "there is none")

    def connect(_site: str) -> HTTPConnection:
        raise ConnectionRefusedError(111, "refused")

    talk = chat.Chat("https://m", "https://a", accounts, provider="oidc-canaille", connect=connect)
    found = {name: verdict.status for name, verdict in chat.converse(talk).items()}
    assert found.pop("flows") == "error"
    assert set(found.values()) == {"skip"}
    assert asked == [("delete", user) for user in chat.USERS] * 2


class Refuses(BaseHTTPRequestHandler):
    """nginx, with nobody behind it."""

    def do_GET(self) -> None:
        self.send_error(502)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def test_a_server_that_fails_is_a_failure_and_no_account_is_left() -> None:
    asked: list[str] = []

    def accounts(action: str, _arguments: Any) -> dict[str, Any]:
        asked.append(action)
        return {}

    with HTTPServer(("127.0.0.1", 0), Refuses) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()

        def connect(_site: str) -> HTTPConnection:
            return HTTPConnection("127.0.0.1", server.server_port, timeout=10)

        talk = chat.Chat("https://m", "https://a", accounts, provider="oidc-x", connect=connect)
        found = chat.converse(talk)
        server.shutdown()
    assert found["flows"] == Verdict("fail", "Matrix answers 502 without a code", {})
    assert {verdict.status for name, verdict in found.items() if name != "flows"} == {"skip"}
    assert asked == ["delete"] * 4


@pytest.mark.parametrize(
    ("status", "text", "verdict"),
    [
        (401, '{"errcode": "M_UNKNOWN_TOKEN"}', "pass"),
        (500, '{"errcode": "M_UNKNOWN"}', "fail"),  # its database is away
        (401, "an error of nginx", "fail"),
        (200, "{}", "fail"),
    ],
)
def test_synapses_database_answers_where_it_looked_for_a_session(
    monkeypatch: pytest.MonkeyPatch, system: System, status: int, text: str, verdict: str
) -> None:
    answer = http.Response(status, text.encode(), None, None)
    monkeypatch.setattr(http, "ask", lambda *_: answer)
    assert matrix.database({"port": 8008, "timeout": 1.0}, system).status == verdict


@pytest.mark.parametrize(("status", "verdict"), [(404, "pass"), (200, "fail"), (403, "fail")])
def test_what_other_servers_ask_for_must_not_be_there(
    monkeypatch: pytest.MonkeyPatch, system: System, status: int, verdict: str
) -> None:
    monkeypatch.setattr(http, "get", lambda *_: http.Response(status, b"", None, None))
    found = matrix.federation({"port": 8008, "timeout": 1.0}, system)
    assert found.status == verdict
    assert verdict == "pass" or all(path in found.detail for path in matrix.FEDERATION)


class FakeSystem:
    """A machine whose one unit is down."""

    def units(self, names: list[str]) -> dict[str, dict[str, str]]:
        down = {"LoadState": "loaded", "ActiveState": "inactive", "SubState": "dead"}
        return dict.fromkeys(names, down)

    def forget_units(self) -> None:
        """Nothing is remembered."""


@pytest.fixture
def system() -> Any:
    return FakeSystem()


@pytest.mark.parametrize(("waits", "installed"), [(True, False), (True, True), (False, False)])
def test_a_unit_that_waits_for_secrets_may_be_down_as_long_as_there_are_none(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, system: System, waits: bool, installed: bool
) -> None:
    monkeypatch.setattr(catalog, "SECRETS", str(tmp_path / "secrets"))
    if installed:
        (tmp_path / "secrets").mkdir()
    arguments = {"units": ["matrix-synapse.service"]} | ({"waits": True} if waits else {})
    found = catalog.units(arguments, system)
    assert found.status == ("skip" if waits and not installed else "fail")
