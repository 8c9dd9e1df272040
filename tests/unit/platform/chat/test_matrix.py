"""Matrix: what its events say to us, and what a homeserver brings; nothing real is needed."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette

from rave_platform.adapters.chat import matrix_events
from rave_platform.adapters.chat.matrix import MatrixChannel, MatrixSettings
from rave_platform.adapters.chat.matrix_events import MatrixAccount
from rave_platform.application.chat.ports import ChatUnavailableError
from rave_platform.application.ports import StoreUnavailableError
from rave_platform.domain.chat.conversation import HeardKind
from tests.unit.platform.chat.talk import NOW, ROOM, matrix

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rave_platform.domain.chat.conversation import HeardMessage

US = MatrixAccount("rave", "rave.test")
BOTH = {"authorization": "Bearer hs"}


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


# --- who we are
class Slow:
    """A homeserver that answers each question the second time it is asked, after a while."""

    def __init__(self, times: int) -> None:
        self.asked: Counter[str] = Counter()
        self.times = times

    async def answer(self, request: httpx.Request) -> httpx.Response:
        place = request.url.path.rpartition("/")[2]
        self.asked[place] += 1
        await asyncio.sleep(0)
        if self.asked[place] < self.times:
            raise httpx.ReadTimeout("too slow")
        return httpx.Response(200, json={"user_id": US.user, "room_id": ROOM})


async def introductions(slow: Slow, at_once: int, attempts: int) -> list[object]:
    settings = MatrixSettings("http://hs", "rave", "as", "hs", own_rooms=("one", "two"))
    channel = MatrixChannel(settings, httpx.MockTransport(slow.answer))
    found: list[object] = []
    for _ in range(attempts):
        every = [channel._introduce() for _ in range(at_once)]
        found += await asyncio.gather(*every, return_exceptions=True)
    await channel.close()
    return found


def test_several_that_want_to_know_who_we_are_have_it_asked_once() -> None:
    slow = Slow(times=1)
    assert asyncio.run(introductions(slow, at_once=4, attempts=1)) == [US] * 4
    assert set(slow.asked.values()) == {1}


def test_what_a_slow_homeserver_has_answered_of_it_is_not_asked_again() -> None:
    """Under load it answered each question in time now and then, but never all of them in turn."""
    slow = Slow(times=2)
    found = asyncio.run(introductions(slow, at_once=1, attempts=5))
    assert found[-1] == US
    assert all(isinstance(one, ChatUnavailableError) for one in found[:-1])
    assert set(slow.asked.values()) == {2}
