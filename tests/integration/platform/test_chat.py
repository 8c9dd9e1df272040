"""Real chats: what a channel promises before each, and the real bridge before a real Synapse."""

from __future__ import annotations

import asyncio
import json
import random
import signal
import socket
import sqlite3
import sys
import threading
import time
from collections import Counter
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest

from rave_platform.application.chat.ports import ChatRefusedError, ChatUnavailableError
from rave_platform.application.ports import StoreUnavailableError
from rave_platform.domain import tasks
from rave_platform.domain.chat.conversation import ChatDeed, DeedKind, HeardKind
from rave_platform.domain.tasks import AgentHeartbeat, AgentKind, AgentTask, completed, started
from tests import kills, sets
from tests.integration.platform.channels import MatrixWorld, MattermostWorld, listening
from tests.integration.platform.homeserver import OWN, SERVER, US, at, chat
from tests.unit.platform.chat.talk import MOMENT
from tests.waiting import CEILING, until

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Sequence
    from pathlib import Path

    from rave_platform.domain.chat.conversation import HeardMessage
    from tests.integration.platform.channels import ChatWorld
    from tests.integration.platform.homeserver import Chat, Person

pytestmark = pytest.mark.integration

# MiB that the bridge may take.
MEMORY = 60
ALL = ["help", "create project", "status", "agents", "run", "approve", "reject", "cancel"]


def run_synapse(place: Path) -> list[str]:
    """Return what runs Synapse: from its locked set, as the guest does."""
    sets.fill("matrix", place / "set")
    return [sys.executable, "-IS", str(place / "set"), "synapse.app.homeserver"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chat]:
    """Synapse and NATS, which run; the bridge does not."""
    found = chat(tmp_path_factory.mktemp("chat"), run_synapse)
    try:
        found.nats.start()
        found.start_synapse()
        yield found
    finally:
        found.close()


@pytest.fixture(scope="module")
def alice(server: Chat) -> Person:
    return server.person("alice")


@pytest.fixture(scope="module")
def bob(server: Chat) -> Person:
    return server.person("bob")


@pytest.fixture
def room(server: Chat, alice: Person) -> str:
    """A new room, into which the bridge is invited; a new store, and alice in staff."""
    if server.bridge.process is not None and server.bridge.process.poll() is None:
        server.bridge.end()
    for place in server.place.glob("bridge.db*"):
        place.unlink()
    found = alice.create_room(US)
    server.allow(found, staff=ALL, guests=["help"])
    server.groups(staff=["alice"], guests=["bob"])
    return found


@pytest.fixture
def talking(server: Chat, alice: Person, room: str) -> str:
    """A room in which the bridge is."""
    server.bridge.start()
    until(lambda: US in alice.members(room), pause=0.05)
    return room


# --- what every channel promises


@pytest.fixture(params=["matrix", "mattermost"])
def world(request: pytest.FixtureRequest) -> ChatWorld:
    if request.param == "mattermost":
        return MattermostWorld()
    server, alice = request.getfixturevalue("server"), request.getfixturevalue("alice")
    found = MatrixWorld(server, alice, request.getfixturevalue("room"))

    async def join() -> None:
        channel = found.channel()
        async with listening(channel, server.bridge.port, _nobody):
            await _until(lambda: channel.connected)
            await channel.act(ChatDeed("join", DeedKind.JOIN, found.room))

    asyncio.run(join())
    return found


async def _nobody(_heard: Sequence[HeardMessage], _position: str) -> None:
    """Hear nothing."""


async def _until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(CEILING):
        while not condition():
            await asyncio.sleep(0.02)


class Ears:
    """Keeps what is heard; refuses as often as it is told to."""

    def __init__(self, refusals: int = 0) -> None:
        self.heard: dict[str, HeardMessage] = {}
        self.position = ""
        self.refusals = refusals

    async def __call__(self, heard: Sequence[HeardMessage], position: str) -> None:
        if heard and self.refusals:
            self.refusals -= 1
            raise StoreUnavailableError("full")
        self.heard |= {message.event_id: message for message in heard}
        self.position = position or self.position

    def texts(self) -> list[str]:
        return [m.text for m in self.heard.values() if m.kind is HeardKind.MESSAGE]


def listen(world: ChatWorld, ears: Ears, work: Callable[[Any], Awaitable[Any]]) -> None:
    port = world.chat.bridge.port if isinstance(world, MatrixWorld) else 0

    async def both() -> None:
        channel = world.channel()
        async with listening(channel, port, ears, ears.position):
            await _until(lambda: channel.connected)
            # A server reads from when it was first asked.
            await _until(lambda: ears.position or port)
            await work(channel)

    asyncio.run(both())


def test_what_people_say_is_heard_and_what_programs_say_is_not(world: ChatWorld) -> None:
    ears, before = Ears(), time.time()

    async def work(_channel: Any) -> None:
        world.noise()
        first = world.say("!rave \u202ehelp")
        second = world.say("!rave status", first)
        await _until(lambda: second in ears.heard)
        found, threaded = ears.heard[first], ears.heard[second]
        assert (found.room, found.account, found.thread) == (world.room, "alice", "")
        assert (found.text, found.kind) == ("!rave \u202ehelp", HeardKind.MESSAGE)
        assert abs(found.at - before) < CEILING
        assert threaded.thread == first

    listen(world, ears, work)
    assert "!rave help" not in ears.texts()


def test_what_could_not_be_kept_is_brought_again_and_nothing_is_missed_between(
    world: ChatWorld,
) -> None:
    ears = Ears(refusals=1)

    async def first(_channel: Any) -> None:
        said = world.say("one")
        await _until(lambda: said in ears.heard)

    listen(world, ears, first)
    said = world.say("two")

    async def second(_channel: Any) -> None:
        await _until(lambda: said in ears.heard)

    listen(world, ears, second)
    assert [text for text in ears.texts() if text in {"one", "two"}] == ["one", "two"]


def test_what_is_said_stands_in_its_thread_once_without_markup_and_is_found_again(
    world: ChatWorld,
) -> None:
    text = "<b>*no* [markup](x)</b> ``` @room ~~x~~\nand a line"

    async def work(channel: Any) -> None:
        root = world.say("!rave help")
        deed = ChatDeed("answer:1", DeedKind.SAY, world.room, root, root, text)
        assert not await channel.acted(deed)
        await channel.act(deed)
        await channel.act(deed)
        assert await channel.acted(deed)
        assert not await channel.acted(replace(deed, key="answer:2"))
        assert world.said() == [(root, text)]

    listen(world, Ears(), work)


def test_what_will_never_be_done_is_told_from_what_may_be_later(world: ChatWorld) -> None:
    async def work(channel: Any) -> None:
        root = world.say("x")
        deed = ChatDeed("answer:1", DeedKind.SAY, f"!nowhere:{SERVER}", root, root, "x")
        with pytest.raises(ChatRefusedError):
            await channel.act(deed)
        await channel.close()

    listen(world, Ears(), work)
    if isinstance(world, MattermostWorld):

        async def trouble() -> None:
            channel = world.channel()
            for status, headers, wait in (
                (429, {"x-ratelimit-reset": "7"}, 7.0), (503, {}, 0.0), (401, {}, 0.0),
            ):  # fmt: skip
                world.stub.trouble = [(status, headers)]
                with pytest.raises(ChatUnavailableError) as caught:
                    await channel.acted(ChatDeed("x", DeedKind.SAY, world.room, "root"))
                assert caught.value.retry_after == wait
            await channel.close()

        asyncio.run(trouble())


# --- the bridge before Synapse


def test_a_command_is_answered_in_its_thread(server: Chat, alice: Person, talking: str) -> None:
    command = alice.say(talking, "!rave help")
    assert "You may command:" in alice.answer(talking, command)
    (content,) = alice.answers(talking, command)
    assert content["m.relates_to"] == {
        "rel_type": "m.thread", "event_id": command, "is_falling_back": True,
        "m.in_reply_to": {"event_id": command},
    }  # fmt: skip
    assert "Did you mean" in alice.answer(talking, alice.say(talking, "!rave statsu"))
    metrics = server.metrics()
    assert 'rave_bridge_commands_total{command="help",result="answered"} 1.0' in metrics
    assert 'rave_bridge_answer_duration_seconds_count{command="help"} 1.0' in metrics


def test_a_sentence_becomes_a_task_and_what_becomes_of_it_is_said(
    server: Chat, alice: Person, talking: str
) -> None:
    command = alice.say(talking, "!rave run ai-engineer shop Say hello, @room")
    assert "is accepted" in alice.answer(talking, command)
    server.settle()
    ((subject, name, document),) = [
        found for found in server.stream("rave.tasks.v1.asked.>") if found[2]["project"] == "shop"
    ]
    task = AgentTask.model_validate(document)
    assert (subject, name) == (tasks.asked_subject(task), str(task.task_id))
    assert task.instruction == "Say hello, @room"
    running = started(task, MOMENT)
    done = completed(running, MOMENT, "https://forge/merge/3 @room")
    beat = AgentHeartbeat(agent=AgentKind.AI_ENGINEER, instance="one", at=MOMENT)
    for stands in (running, done):
        server.publish((tasks.told_subject(stands), stands.model_dump_json().encode()))
    short = task.task_id.hex[:8]
    until(lambda: "completed" in alice.answers(talking)[-1]["body"], pause=0.05)
    told = alice.answers(talking)[-2:]
    assert [content["body"].rpartition("): ")[2] for content in told] == [
        "running", "completed. https://forge/merge/3 (at)room",
    ]  # fmt: skip
    assert {content["m.relates_to"]["event_id"] for content in told} == {command}
    approval = alice.say(talking, f"!rave approve {short}")
    assert "approved by alice" in alice.answer(talking, approval)
    server.settle()
    ((_, _, decision),) = server.stream(f"rave.tasks.v1.decided.{task.task_id}.*")
    assert (decision["decision"], decision["by"]) == ("approve", "alice")
    assert decision["trace_id"] == task.trace_id
    assert "No agent" in alice.answer(talking, alice.say(talking, "!rave agents"))
    living = beat.model_copy(update={"at": beat.at.fromtimestamp(time.time(), beat.at.tzinfo)})
    server.publish((tasks.heartbeat_subject(living), living.model_dump_json().encode()))
    answer = alice.answer(talking, alice.say(talking, "!rave agents"))
    assert answer == "ai-engineer one: waits for a task"


def test_everybody_may_come_into_the_room_that_is_the_bridges_own(
    server: Chat, bob: Person, talking: str
) -> None:
    alias = quote(f"#{OWN}:{SERVER}", safe="")
    found = bob.ask("POST", f"/join/{alias}", {})["room_id"]
    assert found != talking
    assert "You may command:" in bob.answer(found, bob.say(found, "!rave help"))
    # Encrypted, it would be of no use: nobody else can have it so.
    place = f"/_matrix/client/v3{at(found)}/state/m.room.encryption"
    refused = bob.http.put(place, json={"algorithm": "m.megolm.v1.aes-sha2"})
    assert refused.status_code == 403
    server.bridge.end()
    server.bridge.start()
    assert "You may command:" in bob.answer(found, bob.say(found, "!rave help"))
    assert bob.ask("GET", f"/directory/room/{alias}")["room_id"] == found


def test_only_who_may_is_obeyed_and_old_commands_and_encrypted_ones_are_not(
    server: Chat, alice: Person, bob: Person, room: str
) -> None:
    old = alice.say(room, "!rave help")
    elsewhere = bob.create_room(US)
    server.bridge.start()
    until(lambda: US in alice.members(room), pause=0.05)
    alice.ask("POST", f"/rooms/{room}/invite", {"user_id": bob.user})
    bob.ask("POST", f"/join/{room}", {})
    denied = bob.say(room, "!rave agents")
    assert bob.answer(room, denied) == "You may not command agents. Who is in staff may."
    hidden = [alice.say(room, "", type_="m.room.encrypted", algorithm="x") for _ in range(3)]
    last = alice.say(room, "!rave help")
    alice.answer(room, last)
    server.groups(staff=["bob"])
    assert "may not" in alice.answer(room, alice.say(room, "!rave help"))
    server.settle()
    encrypted = [c for c in alice.answers(room) if "encrypted" in c["body"]]
    assert len(encrypted) == 1
    assert encrypted[0]["m.relates_to"]["event_id"] == hidden[0]
    assert alice.answers(room, old) == []
    until(lambda: "leave" in str(bob.ask("GET", f"/rooms/{elsewhere}/members")), pause=0.05)


def test_whatever_is_said_is_answered_and_its_memory_stays_within_what_it_is_given(
    server: Chat, alice: Person, talking: str
) -> None:
    for number in range(30):
        alice.say(talking, f"!rave run ai-engineer shop {number} " + "x" * 55_000)
    long = alice.say(talking, "!rave " + "y" * 55_000)
    hidden = alice.say(talking, "!rave run ai-engineer shop \u202e\u200b\x07")
    assert "Not understood" in alice.answer(talking, long)
    assert "nobody sees" in alice.answer(talking, hidden)
    server.settle()
    assert len(alice.answers(talking)) == 32
    assert server.peak() <= MEMORY


def test_it_ends_when_told_and_says_when_it_is_ready(server: Chat, room: str) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(server.place / "notify"))
        server.bridge.environment["NOTIFY_SOCKET"] = str(server.place / "notify")
        try:
            server.bridge.start()
            assert systemd.recv(100) == b"FDSTORE=1\nFDNAME=http"
            assert systemd.recv(100) == b"READY=1"
        finally:
            del server.bridge.environment["NOTIFY_SOCKET"]
    assert server.bridge.end(signal.SIGTERM) == 0
    lines = server.bridge.log.read_text().splitlines()
    assert all(json.loads(line)["level"] in {"info", "warning"} for line in lines)


def test_an_answer_is_not_said_again_after_everything_has_forgotten_it(
    server: Chat, alice: Person, talking: str
) -> None:
    command = alice.say(talking, "!rave agents")
    alice.answer(talking, command)
    server.settle()
    server.bridge.end()
    # A power cut takes back what was not synced, and Synapse knows no transaction id any more.
    with closing(sqlite3.connect(server.place / "bridge.db")) as store, store:
        store.execute("UPDATE deeds SET state = 'accepted' WHERE deed LIKE '%agent%'")
    server.synapse.end()
    server.start_synapse()
    server.bridge.start()
    server.settle()
    assert len(alice.answers(talking, command)) == 1


# At how many moments something is killed, how many commands come around each, and the seconds
# within which the kill falls after the first.
POINTS = max(8, 60 // kills.STRIDE)
EACH = 4
WITHIN = 0.4


def test_no_kill_loses_a_command_or_has_one_answered_or_done_twice(
    server: Chat, alice: Person, talking: str
) -> None:
    chance = random.Random(20261126)  # noqa: S311 - the same moments each time
    said: list[str] = []

    def talk(point: int) -> None:
        for number in range(EACH):
            text = f"!rave run ai-engineer killed {point}-{number}"
            said.append(alice.say(talking, text))

    for point in range(POINTS):
        (victim,) = chance.choices([server.bridge, server.nats, server.synapse], [7, 2, 1])
        talker = threading.Thread(target=talk, args=(point,))
        talker.start()
        time.sleep(chance.uniform(0, WITHIN))
        victim.end()
        kills.count()
        if victim is server.synapse:
            server.start_synapse()
        else:
            victim.start()
        talker.join()
    until(lambda: len({c["rave.deed"] for c in alice.answers(talking)}) == len(said), pause=0.2)
    server.settle()
    answered = Counter(content["rave.deed"] for content in alice.answers(talking))
    assert answered == {f"answer:{event}": 1 for event in said}
    assert len(said) == POINTS * EACH
    found = [
        document["instruction"] for _, _, document in server.stream("rave.tasks.v1.asked.>")
        if document["project"] == "killed"
    ]  # fmt: skip
    assert sorted(found) == sorted(f"{p}-{n}" for p in range(POINTS) for n in range(EACH))
