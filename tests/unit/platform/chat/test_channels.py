"""The bridge's sides to the world, where nothing real is needed: what is refused, and why."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import time
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nats.errors import ConnectionClosedError
from starlette.applications import Starlette

from rave_platform import bridge
from rave_platform.adapters.chat import matrix_events, settings
from rave_platform.adapters.chat.conversations import SqliteConversations
from rave_platform.adapters.chat.directory import FileDirectory, SocketDirectory
from rave_platform.adapters.chat.http import ChatHttp
from rave_platform.adapters.chat.matrix import MatrixChannel, MatrixSettings
from rave_platform.adapters.chat.matrix_events import MatrixAccount
from rave_platform.adapters.chat.mattermost import MattermostChannel, MattermostSettings, fenced
from rave_platform.adapters.chat.metrics import MOST_TIMED, BridgeMetrics
from rave_platform.adapters.chat.tasks import NatsTaskReader
from rave_platform.adapters.chat.web import BridgeWeb
from rave_platform.adapters.configuration import SettingsError
from rave_platform.application.chat.ports import (
    ChatFigures,
    ChatRefusedError,
    ChatUnavailableError,
    DirectoryUnavailableError,
    QueueFigures,
)
from rave_platform.application.ports import StoreUnavailableError, StreamUnavailableError
from rave_platform.domain.chat import conversation
from rave_platform.domain.chat.commands import Verb
from rave_platform.domain.chat.conversation import ChatDeed, DeedKind, HeardKind
from rave_platform.domain.handover import TakenIn, TurnedDown
from tests.unit.platform.chat.talk import NOW, ROOM, said

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from rave_platform.application.chat.ports import Directory
    from rave_platform.domain.chat.conversation import HeardMessage

US = MatrixAccount("rave", "rave.test")
BOTH = {"authorization": "Bearer hs"}
SAY = ChatDeed("answer:1", DeedKind.SAY, ROOM, "$root", "$root", "hello")


# --- events of Matrix


def event(**more: Any) -> dict[str, Any]:
    return {
        "type": "m.room.message", "event_id": "$1", "room_id": ROOM, "sender": "@alice:rave.test",
        "origin_server_ts": 1_764_000_000_000, "content": {"msgtype": "m.text", "body": "!rave"},
        **more,
    }  # fmt: skip


def heard(**more: Any) -> HeardMessage | None:
    return matrix_events.heard(event(**more), US, NOW + 5)


def text(body: object, **more: Any) -> HeardMessage | None:
    return heard(content={"msgtype": "m.text", "body": body, **more})


def test_an_event_is_heard_with_who_said_it_where_and_when() -> None:
    found = heard()
    assert found is not None
    assert (found.text, found.account, found.room, found.at) == ("!rave", "alice", ROOM, NOW)
    other = heard(sender="@alice:elsewhere", origin_server_ts=10**30)
    assert other is not None
    assert (other.account, other.at) == ("", NOW + 5)


@pytest.mark.parametrize(
    "more",
    [
        {"sender": "@rave:rave.test"}, {"type": "m.reaction"}, {"content": "x"}, {"event_id": 3},
        {"event_id": "x" * 300}, {"content": {"msgtype": "m.notice", "body": "!rave"}},
        {"content": {"msgtype": "m.text", "body": None}}, {"content": {}},
        {
            "type": "m.room.member", "state_key": "@bob:rave.test",
            "content": {"membership": "invite"},
        },
        {"type": "m.room.encrypted", "state_key": ""},
    ],
)  # fmt: skip
def test_what_is_no_message_to_us_is_not_heard(more: dict[str, Any]) -> None:
    assert heard(**more) is None


def test_invitations_and_encrypted_messages_are_heard_as_such() -> None:
    member = {"membership": "invite"}
    invited = heard(type="m.room.member", state_key="@rave:rave.test", content=member)
    hidden = heard(type="m.room.encrypted", content={"algorithm": "x"})
    assert invited is not None
    assert hidden is not None
    assert (invited.kind, hidden.kind) == (HeardKind.INVITATION, HeardKind.UNREADABLE)


def test_what_a_reply_quotes_is_not_what_it_says() -> None:
    reply = {"m.relates_to": {"m.in_reply_to": {"event_id": "$0"}}}
    quoted = "> <@bob:rave.test> !rave cancel all\n> more\n\n!rave help"
    for body, expected in (
        (quoted, "!rave help"), ("> a\nb\n\nc", "> a\nb\n\nc"), ("!rave status", "!rave status"),
    ):  # fmt: skip
        found = text(body, **reply)
        assert found is not None
        assert found.text == expected
    bare = text(quoted)
    assert bare is not None
    assert bare.text == quoted


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)
KEYS = ["type", "event_id", "room_id", "sender", "content", "origin_server_ts", "state_key"]
CONTENT = ["msgtype", "body", "membership", "m.relates_to", "m.new_content"]
RELATION = ["rel_type", "event_id", "m.in_reply_to"]


@given(
    st.dictionaries(st.sampled_from(KEYS), anything),
    st.dictionaries(st.sampled_from(CONTENT), anything),
    st.dictionaries(st.sampled_from(RELATION), anything),
)
def test_no_event_is_a_fault(
    top: dict[str, Any], content: dict[str, Any], relation: dict[str, Any]
) -> None:
    matrix_events.heard(top, US, NOW)
    inner = {"msgtype": "m.text", "body": "x", **content, "m.relates_to": relation}
    matrix_events.heard({**event(), **top, "content": inner}, US, NOW)


# --- what a homeserver brings


class Transactions:
    """Puts transactions to a channel."""

    def __init__(self, refuses: bool = False) -> None:
        self.refuses = refuses
        self.heard: list[HeardMessage] = []

    async def hear(self, found: Sequence[HeardMessage], _position: str) -> None:
        if self.refuses:
            raise StoreUnavailableError("full")
        self.heard += found

    def put(
        self, content: bytes, headers: dict[str, str] | None = None, *,
        listening: bool = True, known: bool = True,
    ) -> int:  # fmt: skip
        async def work() -> int:
            channel = matrix(httpx.MockTransport(introduced if known else unreachable))
            task = asyncio.create_task(channel.listen(self.hear, ""))
            await asyncio.sleep(0)
            if known:
                await channel._introduce()
            if not listening:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
            transport = httpx.ASGITransport(Starlette(routes=channel.routes()))
            async with httpx.AsyncClient(transport=transport, base_url="http://us") as client:
                answer = await client.put(
                    "/_matrix/app/v1/transactions/1", content=content,
                    headers=BOTH if headers is None else headers,
                )  # fmt: skip
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await channel.close()
            return answer.status_code

        return asyncio.run(work())


def introduced(request: httpx.Request) -> httpx.Response:
    """Answer as a homeserver that knows us and has nothing to say."""
    whoami = request.url.path.endswith("/whoami")
    return httpx.Response(200, json={"user_id": US.user} if whoami else {})


def unreachable(_request: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError("no")


def body(*events: object) -> bytes:
    return json.dumps({"events": events}).encode()


def test_a_transaction_is_answered_once_what_is_in_it_is_kept() -> None:
    found = Transactions()
    assert found.put(body(event(), "x", None, event(type="m.other"))) == 200
    assert [message.event_id for message in found.heard] == ["$1"]
    half = b'{"events": [' + body(event())[12:-2].replace(b'"!rave"', b'"\\ud800"') + b"]}"
    assert found.put(half) == 200
    assert found.heard[-1].text == "?"


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"{}", b'{"events": 3}', b"[" * 100_000, b"\xff"]
)
def test_what_is_no_transaction_is_refused(content: bytes) -> None:
    assert Transactions().put(content) == 400


def test_nobody_but_the_homeserver_brings_anything() -> None:
    found = Transactions()
    for headers in ({}, {"authorization": "Bearer as"}, {"authorization": "Bearer "}):
        assert found.put(body(event()), headers) == 403
    assert found.heard == []


def test_what_cannot_be_kept_is_to_be_brought_again(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Transactions(refuses=True).put(body(event())) == 503
    assert Transactions().put(body(event()), listening=False) == 503
    # Before it is known who we are, what is said would be heard by nobody.
    assert Transactions().put(body(event()), known=False) == 503
    monkeypatch.setattr("rave_platform.adapters.chat.matrix.LARGEST", 10)
    assert Transactions().put(body(event())) == 413


def test_what_was_said_and_never_brought_is_heard_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Synapse keeps what is said while it comes to the end of bringing what had waited."""
    monkeypatch.setattr("rave_platform.adapters.chat.matrix.PINGED", 0.01)
    milliseconds = int(time.time() * 1000)
    said = [
        event(event_id="$new", origin_server_ts=milliseconds),
        event(event_id="$old", origin_server_ts=milliseconds - 7_200_000),
        event(event_id="$own", sender=US.user, origin_server_ts=milliseconds),
    ]
    looked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        looked.append(request.url.path)
        if request.url.path.endswith("/joined_rooms"):
            return httpx.Response(200, json={"joined_rooms": ["!gone:x", "!a:x"]})
        if request.url.path.endswith("/messages"):
            gone = "gone" in request.url.path
            return httpx.Response(403 if gone else 200, json={"chunk": [] if gone else said})
        return introduced(request)

    found = Transactions(refuses=True)

    async def work() -> None:
        channel = matrix(httpx.MockTransport(answer))
        task = asyncio.create_task(channel.listen(found.hear, ""))
        rounds = 0
        while looked.count("/_matrix/client/v3/joined_rooms") < 6:
            rounds = max(rounds, looked.count("/_matrix/client/v3/joined_rooms"))
            # The disk is full until the second look.
            found.refuses = rounds < 2
            await asyncio.sleep(0.001)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await channel.close()

    asyncio.run(asyncio.wait_for(work(), 60))
    assert [(message.event_id, message.room) for message in found.heard] == [("$new", "!a:x")]


def test_a_room_is_looked_through_from_the_look_before_the_last_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All of the last hour costs the homeserver as much as it takes to answer a command."""
    monkeypatch.setattr("rave_platform.adapters.chat.matrix.PINGED", 0.001)
    milliseconds = int(time.time() * 1000)
    asked: list[str | None] = []
    enough = asyncio.Event()
    found = Transactions()

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/joined_rooms"):
            return httpx.Response(200, json={"joined_rooms": ["!a:x"]})
        if not request.url.path.endswith("/messages"):
            return introduced(request)
        asked.append(request.url.params.get("to"))
        number = len(asked)
        if number == 8:
            enough.set()
        # In the third the disk is full, and in the sixth we are not in the room.
        found.refuses = number == 3
        said = event(event_id=f"${number}", origin_server_ts=milliseconds)
        return httpx.Response(
            403 if number == 6 else 200, json={"chunk": [said], "start": f"t{number}"}
        )

    async def work() -> None:
        channel = matrix(httpx.MockTransport(answer))
        task = asyncio.create_task(channel.listen(found.hear, ""))
        await enough.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await channel.close()

    asyncio.run(asyncio.wait_for(work(), 60))
    assert asked[:8] == [None, None, "t1", "t1", "t2", "t4", None, None]


def test_a_homeserver_that_asks_about_others_is_told_that_there_are_none() -> None:
    async def work() -> list[int]:
        channel = MatrixChannel(MatrixSettings("http://hs", "rave", "as", "hs"))
        transport = httpx.ASGITransport(Starlette(routes=channel.routes()))
        async with httpx.AsyncClient(transport=transport, base_url="http://us") as client:
            found = [
                (await client.request(method, f"/_matrix/app/v1/{where}", headers=headers))
                for method, where in (("GET", "users/x"), ("GET", "rooms/x"), ("POST", "ping"))
                for headers in (BOTH, {})
            ]
        await channel.close()
        return [answer.status_code for answer in found]

    assert asyncio.run(work()) == [404, 403, 404, 403, 200, 403]


@pytest.mark.parametrize("there", [True, False])
def test_our_own_room_is_made_once(there: bool) -> None:
    made: list[dict[str, Any]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        where = request.url.path.removeprefix("/_matrix/client/v3/")
        if where == "directory/room/#rave:rave.test":
            if there or made:
                return httpx.Response(200, json={"room_id": "!own:rave.test"})
            return httpx.Response(404, json={"errcode": "M_NOT_FOUND"})
        if where == "createRoom":
            made.append(json.loads(request.content))
            # Somebody was there first: a bridge that was killed before it heard of it.
            return httpx.Response(400, json={"errcode": "M_ROOM_IN_USE"})
        return introduced(request)

    async def work() -> Any:
        settings = MatrixSettings("http://hs", "rave", "as", "hs", ("rave",))
        channel = MatrixChannel(settings, httpx.MockTransport(answer))
        assert channel.rooms is None
        us = await channel._introduce()
        await channel.close()
        return us, channel.rooms

    assert asyncio.run(work()) == (US, {"!own:rave.test"})
    assert [body["room_alias_name"] for body in made] == ([] if there else ["rave"])


# --- what is asked of a homeserver


def ask(channel: Callable[[httpx.MockTransport], Any], *script: httpx.Response | Exception) -> Any:
    """Carry out SAY with a channel whose server answers so; return what came, and the requests."""
    answers, requests = list(script), []

    def answer(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        found = answers.pop(0)
        if isinstance(found, Exception):
            raise found
        return found

    async def work() -> Any:
        opened = channel(httpx.MockTransport(answer))
        try:
            return await opened.act(SAY)
        except (ChatRefusedError, ChatUnavailableError) as fault:
            return fault
        finally:
            await opened.close()

    return asyncio.run(work()), requests


def matrix(transport: httpx.MockTransport) -> MatrixChannel:
    return MatrixChannel(MatrixSettings("http://hs", "rave", "as", "hs"), transport)


@pytest.mark.parametrize(
    ("answer", "wait"),
    [
        (httpx.Response(429, json={"retry_after_ms": 2500}), 2.5),
        (httpx.Response(429, json={"retry_after_ms": 1e12}), 60.0),
        (httpx.Response(429, json={}, headers={"retry-after": "7"}), 7.0),
        (httpx.Response(429, json=[], headers={"retry-after": "soon"}), 0.0),
        (httpx.Response(500, json={}), 0.0),
        (httpx.Response(401, json={"errcode": "M_UNKNOWN_TOKEN"}), 0.0),
        (httpx.Response(200, content=b"<html>"), 0.0),
        (httpx.ConnectError("no"), 0.0),
        (httpx.ReadTimeout("no"), 0.0),
    ],
)
def test_what_may_be_answered_later_is_asked_again(
    answer: httpx.Response | Exception, wait: float
) -> None:
    fault, _ = ask(matrix, answer)
    assert isinstance(fault, ChatUnavailableError)
    assert fault.retry_after == wait


def test_what_is_refused_for_good_says_why() -> None:
    fault, (request,) = ask(matrix, httpx.Response(403, json={"errcode": "M_FORBIDDEN"}))
    assert isinstance(fault, ChatRefusedError)
    assert (str(fault), fault.code) == ("403 M_FORBIDDEN", "M_FORBIDDEN")
    assert request.headers["authorization"] == "Bearer as"
    # Whatever a room is called, it is one part of the path.
    raw = request.url.raw_path.decode()
    assert raw.startswith("/_matrix/client/v3/rooms/%21room%3Arave.test/send/m.room.message/")


def test_a_server_that_moves_us_elsewhere_is_not_followed() -> None:
    fault, _ = ask(matrix, httpx.Response(302, headers={"location": "http://elsewhere/"}))
    assert isinstance(fault, ChatRefusedError)


def test_a_token_of_mattermost_that_is_unknown_is_waited_for() -> None:
    def mattermost(transport: httpx.MockTransport) -> MattermostChannel:
        part = MattermostSettings("http://mm", (ROOM,), "token")
        return MattermostChannel(part, transport)

    fault, _ = ask(mattermost, httpx.Response(403, json={"id": "x"}))
    assert isinstance(fault, ChatUnavailableError)


def test_a_fence_is_longer_than_what_it_holds() -> None:
    assert fenced("a") == "```\na\n```"
    assert fenced("a ```` b") == "`````\na ```` b\n`````"


def test_nobody_sees_a_token() -> None:
    part = MatrixSettings("http://hs", "rave", "secret-as", "secret-hs")
    assert "secret" not in repr(part)
    assert "secret" not in repr(MattermostSettings("http://mm", (), "secret"))
    assert "secret" not in repr(ChatHttp("http://hs", "secret"))


# --- groups


def groups(directory: Directory, account: str) -> frozenset[str]:
    return asyncio.run(directory.groups(account))


def test_groups_are_read_again_when_they_changed_and_not_from_a_file_of_others(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    place = tmp_path / "groups.json"
    found = FileDirectory(place, {"admin": frozenset({"root"})})
    assert groups(found, "root") == {"admin"}
    assert groups(found, "alice") == frozenset()
    place.write_text('{"staff": ["alice"], "admin": ["alice"]}')
    place.chmod(0o644)
    assert groups(found, "alice") == {"staff", "admin"}
    assert groups(found, "") == frozenset()
    place.write_text('{"staff": ["bobby"]}')
    os.utime(place, (1, 1))
    assert groups(found, "alice") == frozenset()
    assert groups(found, "bobby") == {"staff"}
    with caplog.at_level(logging.WARNING):
        for spoil in (lambda: place.chmod(0o666), lambda: place.write_text("{"), place.unlink):
            spoil()
            assert groups(found, "bobby") == frozenset()
    assert "no groups can be read" in caplog.text


class Accounts:
    """Whoever answers for the identity provider, once for each answer of the script."""

    def __init__(self, *script: bytes) -> None:
        self.script, self.asked = list(script), list[bytes]()

    async def groups(self, place: Path) -> list[frozenset[str] | str]:
        """Ask as often; return what came, or why nothing did."""
        directory = SocketDirectory(place, {"admin": frozenset({"alice"})})
        found: list[frozenset[str] | str] = []
        async with await asyncio.start_unix_server(self._answer, place):
            while self.script:
                try:
                    found.append(await directory.groups("alice"))
                except DirectoryUnavailableError as fault:
                    found.append(str(fault))
        return found

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.asked.append(await reader.read())
        writer.write(self.script.pop(0))
        writer.close()


def test_groups_are_asked_for_each_time(tmp_path: Path) -> None:
    accounts = Accounts(
        b'{"ok": true, "answer": {"groups": ["staff"]}}', b'{"ok": true, "answer": {"groups": []}}',
        b'{"ok": false, "reason": "absent", "error": "there is no account alice"}',
    )  # fmt: skip
    found = asyncio.run(accounts.groups(tmp_path / "s"))
    assert found == [{"staff", "admin"}, {"admin"}, frozenset()]
    assert accounts.asked == [b'{"action": "groups-of", "arguments": {"user": "alice"}}'] * 3


def test_whoever_cannot_say_has_commands_wait(tmp_path: Path) -> None:
    long = b'{"ok": true, "answer": {"groups": ["' + b"a" * (64 << 10) + b'"]}}'
    accounts = Accounts(
        b"", b"{", b"[]", b'{"ok": false, "reason": "system"}', b'{"ok": true}', long
    )
    assert asyncio.run(accounts.groups(tmp_path / "s")) == [
        *["the accounts: ValidationError"] * 3, "the accounts: system",
        "the accounts: no answer", "the accounts: ValidationError",
    ]  # fmt: skip
    with pytest.raises(DirectoryUnavailableError, match="FileNotFoundError"):
        groups(SocketDirectory(tmp_path / "none", {}), "alice")
    assert groups(SocketDirectory(tmp_path / "none", {}), "") == frozenset()


# --- settings


@pytest.fixture(autouse=True)
def _credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))


def write(tmp_path: Path, words: str) -> Path:
    place = tmp_path / "settings.toml"
    place.write_text(f'store = "{tmp_path}/bridge.db"\n{words}')
    place.chmod(0o644)
    return place


MATRIX = '[matrix]\nas_token_file = "as"\nhs_token_file = "hs"'
MATTERMOST = '[mattermost]\nurl = "http://mm"\ntoken_file = "as"'


def test_settings_of_both_chats_are_read(tmp_path: Path) -> None:
    for name in ("as", "hs"):
        (tmp_path / name).write_text(name)
        (tmp_path / name).chmod(0o400)
    words = f'rooms = ["{ROOM}"]\n[permissions]\nstaff = ["run", "create project"]\n'
    found = settings.read(write(tmp_path, words + MATRIX))
    assert settings.permissions(found).verbs(frozenset({"staff"})) == {
        Verb.RUN, Verb.CREATE_PROJECT,
    }  # fmt: skip
    assert groups(settings.directory(found), "alice") == frozenset()
    assert (found.retention_days, found.nats.max_mib) == (7, 64)
    assert isinstance(settings.channel(found), MatrixChannel)
    found = settings.read(write(tmp_path, words + MATTERMOST))
    assert isinstance(settings.channel(found), MattermostChannel)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("", "either matrix or mattermost"),
        (f"{MATRIX}\n{MATTERMOST}", "either matrix or mattermost"),
        (f'[permissions]\nstaff = ["rum"]\n{MATRIX}', "permissions"),
        (f"port = 70000\n{MATRIX}", "port"),
        (f"unknown = 1\n{MATRIX}", "unknown"),
        (f'{MATRIX}\nserver = "rave.test"', "server"),
        (f'groups_socket = "/a"\ngroups_file = "/b"\n{MATRIX}', "groups_socket or groups_file"),
    ],
)
def test_settings_that_say_something_else_are_refused(
    tmp_path: Path, words: str, says: str
) -> None:
    with pytest.raises(SettingsError, match=says):
        settings.read(write(tmp_path, words))


def test_a_token_that_is_not_there_or_none_is_said(tmp_path: Path) -> None:
    found = settings.read(write(tmp_path, MATRIX))
    with pytest.raises(SettingsError, match="as is not there"):
        settings.channel(found)
    (tmp_path / "as").write_bytes(b"\xff")
    (tmp_path / "as").chmod(0o400)
    with pytest.raises(SettingsError, match="as is no token"):
        settings.channel(found)


@pytest.fixture
def _own_logs() -> Iterator[None]:
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    yield
    root.handlers[:] = before
    root.setLevel(level)


@pytest.mark.usefixtures("_own_logs")
def test_wrong_words_and_wrong_settings_end_it_with_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bridge.main([]) == 2
    assert bridge.main([str(write(tmp_path, ""))]) == 1
    lines = capsys.readouterr().err
    assert "either matrix or mattermost" in lines
    assert "Traceback" not in lines


# --- figures and health


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


# --- what agents say


class Gone:
    """A message of a server that is gone by the time it is to hear that it was taken in."""

    data, headers = b"{}", None

    async def ack(self) -> None:
        raise ConnectionClosedError


def test_a_server_that_is_gone_before_it_hears_that_something_was_taken_is_away() -> None:
    class Reading:
        async def fetch(self, _most: int, timeout: float) -> list[Gone]:
            assert timeout
            return [Gone()]

    async def work() -> None:
        reader = NatsTaskReader(SimpleNamespace(connection=1, jetstream=lambda: None))  # type: ignore[arg-type]
        reader._reader._reading, reader._reader._connection = Reading(), 1  # type: ignore[assignment]
        (found,) = await reader.told()
        with pytest.raises(StreamUnavailableError, match="ConnectionClosedError"):
            await found.taken()

    asyncio.run(work())
