"""From what is heard to what is said: with the real store, and a chat that fails when told to."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from rave_platform.adapters.chat import conversations
from rave_platform.adapters.chat.conversations import SqliteConversations
from rave_platform.adapters.handovers import HandoverTable
from rave_platform.adapters.outgoing import SqliteOutgoing
from rave_platform.application.chat.following import Following
from rave_platform.application.chat.obeying import Obeying
from rave_platform.application.chat.ports import (
    ChatRefusedError,
    ChatUnavailableError,
    ToldTask,
)
from rave_platform.application.chat.speaking import Speaking
from rave_platform.application.ports import (
    StoreUnavailableError,
    StreamIdentity,
    StreamUnavailableError,
    UnavailableError,
)
from rave_platform.domain.chat.conversation import STALE, DeedKind, HeardKind
from rave_platform.domain.handover import TakenIn
from rave_platform.domain.tasks import (
    AgentHeartbeat,
    AgentKind,
    AgentTask,
    DecisionKind,
    DecisionOutcome,
    TaskKind,
)
from tests.unit.platform.chat.talk import MOMENT, NOW, PERMISSIONS, ROOM, said, task
from tests.unit.platform.deliveries import in_memory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from rave_platform.domain.chat.conversation import ChatDeed, HeardMessage

LONG_AGO = 1.0
RUNNING: dict[str, Any] = {"status": "running", "attempt": 1, "started_at": MOMENT}
COMPLETED: dict[str, Any] = {
    "status": "completed",
    "attempt": 1,
    "ended_at": MOMENT,
    "result": "here",
}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteConversations]:
    with SqliteConversations(tmp_path / "bridge.db", 7) as opened:
        opened.began(LONG_AGO)
        yield opened


async def blocking(call: Callable[[], Any]) -> Any:
    return call()


class Groups:
    """A directory: what a name begins with is its group."""

    async def groups(self, account: str) -> frozenset[str]:
        return {"alice": frozenset({"staff"}), "gus": frozenset({"guests"})}.get(
            account, frozenset()
        )


class Agents:
    """What agents say."""

    def __init__(self) -> None:
        self.script: list[bytes] = []
        self.taken = 0
        self.away = False

    async def told(self) -> list[ToldTask]:
        async def taken() -> None:
            self.taken += 1

        found, self.script = [ToldTask(data, taken) for data in self.script], []
        return found

    async def agents(self) -> list[AgentHeartbeat]:
        if self.away:
            raise StreamUnavailableError("away")
        return [AgentHeartbeat(agent=AgentKind.AI_ENGINEER, instance="one", at=MOMENT)]


class MemoryChat:
    """A chat that forgets at once what it was sent under which name, as one that was restarted."""

    def __init__(self, *script: str) -> None:
        # "lost": it never comes there; "unanswered": it does; "refused"; anything else: it does.
        self.script = list(script)
        self.said: list[ChatDeed] = []
        self.connected = True
        self.looked = 0

    rooms: frozenset[str] = frozenset()

    def routes(self) -> list[Any]:
        return []

    async def listen(self, hear: object, position: str) -> None:
        raise NotImplementedError

    async def close(self) -> None:
        raise NotImplementedError

    async def act(self, deed: ChatDeed) -> None:
        match self.script.pop(0) if self.script else "":
            case "lost":
                raise ChatUnavailableError("away", retry_after=3.0)
            case "refused":
                raise ChatRefusedError("403 M_FORBIDDEN", "M_FORBIDDEN")
            case "unanswered":
                self.said.append(deed)
                raise ChatUnavailableError("no answer")
        self.said.append(deed)

    async def acted(self, deed: ChatDeed) -> bool:
        self.looked += 1
        return any(known.key == deed.key for known in self.said)

    @property
    def texts(self) -> list[str]:
        return [deed.text for deed in self.said]


def obeying(
    store: SqliteConversations, *, now: float = NOW, agents: Agents | None = None
) -> Obeying:
    return Obeying(
        store, blocking, PERMISSIONS, directory=Groups(), agents=agents or Agents(),
        wall=lambda: now,
    )  # fmt: skip


def obey(store: SqliteConversations, *heard: HeardMessage, **more: Any) -> list[str]:
    """Hear and decide; return what is to be said or done."""
    before = store.last_deed()
    store.hear(heard, "")
    asyncio.run(obeying(store, **more).obey())
    assert store.undecided(9) == []
    deeds = [pending for pending in store.deeds(99) if pending.number > before]
    return [pending.deed.text or pending.deed.kind for pending in deeds]


def speak(store: SqliteConversations, chat: MemoryChat, *, times: int = 1) -> None:
    """Speak in a new process, as often as that."""

    async def work() -> None:
        speaking = Speaking(store, chat, blocking)
        for _ in range(times):
            try:
                await speaking.speak()
            except ChatUnavailableError:
                continue

    asyncio.run(work())


# --- hearing


def test_what_is_heard_twice_is_decided_once(store: SqliteConversations) -> None:
    assert len(obey(store, said("!rave help", 1), said("!rave help", 1))) == 1
    assert obey(store, said("!rave help", 1)) == []
    assert len(obey(store, said("!rave help", 2))) == 1


def test_the_position_is_kept_with_what_was_heard(store: SqliteConversations) -> None:
    assert store.position() == ""
    store.hear([said("hello")], "here")
    store.hear([], "there")
    assert store.position() == "there"
    store.hear([said("hello", 2)], "")
    assert store.position() == "there"


def test_too_much_that_waits_is_refused_whole(
    store: SqliteConversations, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conversations, "MOST_UNDECIDED", 1)
    with pytest.raises(StoreUnavailableError, match="waits"):
        store.hear([said("a", 1), said("b", 2)], "there")
    assert (store.undecided(9), store.position()) == ([], "")


def test_what_was_said_before_the_first_start_is_not_obeyed(tmp_path: Path) -> None:
    with SqliteConversations(tmp_path / "bridge.db", 7) as store:
        old = said("!rave help", 1, at=NOW - 1)
        invitation = said("", 3, at=NOW - 1, kind=HeardKind.INVITATION)
        assert len(obey(store, old, said("!rave help", 2, at=NOW + 1), invitation)) == 2
    with SqliteConversations(tmp_path / "bridge.db", 7) as store:
        assert store.began(NOW + 100) == NOW


def test_a_clock_that_was_wrong_at_the_first_start_makes_nobody_deaf(tmp_path: Path) -> None:
    with SqliteConversations(tmp_path / "bridge.db", 7) as store:
        assert store.began(NOW + 10 * 365 * 86400.0) > NOW
        assert obey(store, said("!rave help", 1, at=NOW - 1), now=NOW) == []
        assert len(obey(store, said("!rave help", 2, at=NOW + 1), now=NOW + 2)) == 1
        assert store.began(NOW + 9) == NOW


# --- obeying


def test_only_commands_of_people_in_rooms_that_are_named_are_answered(
    store: SqliteConversations,
) -> None:
    assert obey(store, said("hello"), said("!rave help", 2, room="!other:rave.test")) == []
    (denied,) = obey(store, said("!rave agents", 3, account="gus"))
    assert denied == "You may not command agents. Who is in staff may."
    assert "You may not" in obey(store, said("!rave help", 4, account=""))[0]
    assert "Not understood" in obey(store, said("!rave hlp", 5, account=""))[0]


def test_what_was_heard_before_a_restart_waits_until_the_rooms_are_known(
    store: SqliteConversations,
) -> None:
    """A bridge that was killed before it had decided dropped the command: the new one knew nothing
    of its own rooms yet, and took it for a word in a room of others.
    """
    own: list[frozenset[str] | None] = [None]
    store.hear([said("!rave help", room="!own:rave.test")], "")
    bridge = Obeying(
        store, blocking, PERMISSIONS, directory=Groups(), agents=Agents(), wall=lambda: NOW,
        rooms=lambda: own[0],
    )  # fmt: skip
    with pytest.raises(UnavailableError):
        asyncio.run(bridge.obey())
    assert len(store.undecided(9)) == 1
    own[0] = frozenset({"!own:rave.test"})
    asyncio.run(bridge.obey())
    assert store.undecided(9) == []
    assert len(store.deeds(9)) == 1


def test_an_invitation_is_taken_or_turned_down(store: SqliteConversations) -> None:
    invitation = HeardKind.INVITATION
    found = obey(
        store, said("", 1, kind=invitation), said("", 2, kind=invitation, account="mallory")
    )
    assert found == [DeedKind.JOIN, DeedKind.LEAVE]


def test_an_encrypted_room_is_told_once(store: SqliteConversations) -> None:
    hidden = [said("", number, kind=HeardKind.UNREADABLE) for number in range(3)]
    (text,) = obey(store, *hidden)
    assert "encrypted" in text


def test_a_command_that_waited_too_long_is_not_obeyed(store: SqliteConversations) -> None:
    (text,) = obey(store, said("!rave run ai-engineer shop x"), now=NOW + STALE)
    assert "Say it again" in text
    assert store.outgoing.due(9) == []


def test_a_task_is_handed_over_with_its_answer_and_its_decision_after_it(
    store: SqliteConversations,
) -> None:
    (text,) = obey(store, said("!rave run ai-engineer shop do it"))
    (outgoing,) = store.outgoing.due(9)
    found = task()
    assert (outgoing.message_id, outgoing.alone) == (str(found.task_id), True)
    assert outgoing.subject == f"rave.tasks.v1.asked.ai-engineer.{found.task_id}"
    short = found.task_id.hex[:8]
    assert short in text
    assert "pending" in obey(store, said("!rave status", 2))[0]
    assert "pending" in obey(store, said(f"!rave status {short}", 3))[0]
    assert "is cancelled by alice" in obey(store, said(f"!rave cancel {short} no", 4))[0]
    assert "already" in obey(store, said(f"!rave cancel {short}", 5))[0]
    subjects = [event.subject for event in store.outgoing.due(9)]
    assert len(subjects) == 2
    assert subjects[1].startswith(f"rave.tasks.v1.decided.{found.task_id}.")


def test_tasks_of_another_room_are_not_shown(store: SqliteConversations) -> None:
    obey(store, said("!rave run ai-engineer shop do it"))
    short = task().task_id.hex[:8]
    assert store.tasks("!other:rave.test", short, 9) == []
    assert store.tasks("!other:rave.test", "", 9) == []
    assert len(store.tasks(ROOM, str(task().task_id), 9)) == 1


def test_a_project_is_a_task_of_its_own(store: SqliteConversations) -> None:
    (text,) = obey(store, said('!rave create project shop "Sells things"'))
    found = task()
    short = found.task_id.hex[:8]
    assert text == (
        f"Task {short} is accepted: the project shop. What becomes of it is said in this thread."
        " No backend-architect is there now: it waits for one."
    )
    (outgoing,) = store.outgoing.due(9)
    asked = AgentTask.model_validate_json(outgoing.data)
    assert (asked.task_id, asked.kind) == (found.task_id, TaskKind.CREATE_PROJECT)
    assert (asked.project, asked.instruction) == ("shop", "Sells things")


def test_who_asks_for_an_agent_hears_whether_there_is_one(store: SqliteConversations) -> None:
    agents = Agents()
    (there,) = obey(store, said("!rave run ai-engineer shop x"), agents=agents)
    (none,) = obey(store, said("!rave run backend-architect shop x", 2), agents=agents)
    agents.away = True
    (unknown,) = obey(store, said("!rave run backend-architect shop x", 3), agents=agents)
    assert [text.endswith("waits for one.") for text in (there, none, unknown)] == [
        False, True, False,
    ]  # fmt: skip


def test_agents_are_asked_when_they_are_wanted(store: SqliteConversations) -> None:
    agents = Agents()
    assert obey(store, said("!rave agents"), agents=agents) == ["ai-engineer one: waits for a task"]
    agents.away = True
    assert "stream is away" in obey(store, said("!rave agents", 2), agents=agents)[0]


def test_deciding_again_changes_nothing(store: SqliteConversations) -> None:
    store.hear([said("!rave run ai-engineer shop do it")], "")
    ((number, _),) = store.undecided(9)
    asyncio.run(obeying(store).obey())
    outgoing, deeds = store.outgoing.due(9), store.deeds(9)
    from rave_platform.domain.chat.conversation import ChatOutcome

    store.decide(number, ChatOutcome())
    assert (store.outgoing.due(9), store.deeds(9)) == (outgoing, deeds)


# --- speaking


def test_an_answer_that_may_have_arrived_is_looked_for_before_it_is_sent_again(
    store: SqliteConversations,
) -> None:
    obey(store, said("!rave agents", 1), said("!rave agents", 2))
    chat = MemoryChat("unanswered", "lost")
    speak(store, chat, times=4)
    assert [deed.to for deed in chat.said] == ["$event-1", "$event-2"]
    assert store.deeds(9) == []


def test_what_a_process_before_this_one_decided_is_looked_for(store: SqliteConversations) -> None:
    obey(store, said("!rave agents"))
    chat = MemoryChat()
    chat.said.append(store.deeds(9)[0].deed)
    speak(store, chat)
    assert len(chat.said) == 1
    assert store.deeds(9) == []


def test_what_is_new_is_not_looked_for(store: SqliteConversations) -> None:
    chat = MemoryChat()

    async def work() -> None:
        speaking = Speaking(store, chat, blocking)
        await speaking.speak()
        store.hear([said("!rave agents")], "")
        await obeying(store).obey()
        await speaking.speak()

    asyncio.run(work())
    assert (len(chat.said), chat.looked) == (1, 0)


def test_what_the_chat_refuses_is_put_aside_and_stops_nobody(
    store: SqliteConversations, caplog: pytest.LogCaptureFixture
) -> None:
    obey(store, said("!rave agents", 1), said("!rave agents", 2))
    chat = MemoryChat("refused")
    with caplog.at_level(logging.WARNING):
        speak(store, chat)
    assert "turned a deed down" in caplog.text
    assert len(chat.said) == 1
    assert (store.figures().dead_deeds, store.figures().deeds) == (1, 0)


def test_whoever_says_when_to_come_again_is_heeded(store: SqliteConversations) -> None:
    obey(store, said("!rave agents"))
    with pytest.raises(ChatUnavailableError) as caught:
        asyncio.run(Speaking(store, MemoryChat("lost"), blocking).speak())
    assert caught.value.retry_after == 3.0


# --- following


def follow(store: SqliteConversations, *told: AgentTask | DecisionOutcome | bytes) -> Agents:
    agents = Agents()
    agents.script = [
        found if isinstance(found, bytes) else found.model_dump_json().encode() for found in told
    ]
    asyncio.run(Following(store, agents, blocking).follow())
    assert agents.taken == len(told)
    return agents


def texts(store: SqliteConversations) -> list[str]:
    return [pending.deed.text for pending in store.deeds(99)]


def test_what_becomes_of_a_task_is_said_once_in_its_thread(store: SqliteConversations) -> None:
    obey(store, said("!rave run ai-engineer shop do it", thread="$root"))
    running, completed = task(**RUNNING), task(**COMPLETED)
    follow(store, running, running, b"{}", b"\xff", task(99), completed)
    # The server did not hear that it was taken, and brings it again.
    follow(store, running, completed)
    assert [text.rpartition("): ")[2] for text in texts(store)[1:]] == [
        "running", "completed. here",
    ]  # fmt: skip
    assert {pending.deed.thread for pending in store.deeds(9)} == {"$root"}
    assert store.tasks(ROOM, "", 9) == []
    short = task().task_id.hex[:8]
    assert "is approved by alice" in obey(store, said(f"!rave approve {short}", 3))[0]


def outcome(*, done: bool, text: str) -> DecisionOutcome:
    return DecisionOutcome(
        decision_uuid=task(7).task_id, task_id=task().task_id, trace_id="a" * 32,
        decision=DecisionKind.APPROVE, done=done, text=text, at=MOMENT,
    )  # fmt: skip


def test_what_came_of_a_decision_is_said_once_and_one_that_failed_may_be_repeated(
    store: SqliteConversations,
) -> None:
    obey(store, said("!rave run ai-engineer shop do it", thread="$root"))
    follow(store, task(**RUNNING), task(**COMPLETED))
    short = task().task_id.hex[:8]
    obey(store, said(f"!rave approve {short}", 3))
    follow(store, outcome(done=False, text="it was not done: @all conflict"))
    assert texts(store)[-1] == (
        f"Task {short}: it was not done: (at)all conflict. Say !rave approve {short} again to"
        " retry."
    )
    assert "is approved by alice" in obey(store, said(f"!rave approve {short}", 4))[0]
    again = outcome(done=True, text="merged: here")
    again = again.model_copy(update={"decision_uuid": task(8).task_id})
    unknown = again.model_copy(update={"task_id": task(99).task_id})
    follow(store, again, again, unknown)
    assert [text for text in texts(store) if "merged" in text] == [f"Task {short}: merged: here."]
    assert "already" in obey(store, said(f"!rave approve {short}", 5))[0]


# --- upkeep


def test_what_is_done_is_kept_as_long_as_the_mode_says(store: SqliteConversations) -> None:
    obey(store, said("!rave run ai-engineer shop do it"))
    speak(store, MemoryChat())
    old = NOW + 8 * 86400.0
    # The task waits for the stream, and has not ended.
    assert store.prune(old) == 2
    (outgoing,) = store.outgoing.due(9)
    store.outgoing.record([(outgoing.number, TakenIn(1))])
    follow(store, task(**COMPLETED))
    speak(store, MemoryChat())
    assert store.prune(NOW) == 0
    assert store.prune(old) == 3
    assert store.task(task().task_id) is None


def test_a_stream_that_lost_tasks_is_given_them_again(store: SqliteConversations) -> None:
    obey(store, said("!rave run ai-engineer shop do it"))
    (outgoing,) = store.outgoing.due(9)
    assert store.outgoing.agree(StreamIdentity("one", 10)) == 0
    store.outgoing.record([(outgoing.number, TakenIn(5))])
    assert store.outgoing.due(9) == []
    assert store.outgoing.agree(StreamIdentity("one", 4)) == 1
    assert store.outgoing.due(9) == [outgoing]


class Conversation(RuleBasedStateMachine):
    """Whatever fails, and however often it starts anew: one answer, one task, for each command."""

    def __init__(self) -> None:
        super().__init__()
        file = in_memory(conversations.SCHEMA, conversations.VERSION)
        self.store = SqliteConversations.__new__(SqliteConversations)
        self.store._file, self.store._retention = file, 7 * 86400.0
        self.store._deeds = HandoverTable(file, "deeds")
        self.store.outgoing = SqliteOutgoing(file, alone=True)
        self.store.began(LONG_AGO)
        self.chat = MemoryChat()
        self.heard: set[int] = set()
        self.speaking = Speaking(self.store, self.chat, blocking)

    @rule(numbers=st.lists(st.integers(1, 8), max_size=4))
    def hears(self, numbers: list[int]) -> None:
        heard = [said(f"!rave run ai-engineer shop {number}", number) for number in numbers]
        self.store.hear(heard, "")
        self.heard |= set(numbers)

    @rule()
    def decides(self) -> None:
        asyncio.run(obeying(self.store).obey())

    @rule(script=st.lists(st.sampled_from(["lost", "unanswered", "ok"]), max_size=4))
    def speaks(self, script: list[str]) -> None:
        self.chat.script = script
        try:
            asyncio.run(self.speaking.speak())
        except ChatUnavailableError:
            return

    @rule()
    def starts_anew(self) -> None:
        self.speaking = Speaking(self.store, self.chat, blocking)

    @invariant()
    def nothing_is_said_twice(self) -> None:
        keys = [deed.key for deed in self.chat.said]
        assert len(keys) == len(set(keys))

    def teardown(self) -> None:
        self.chat.script = []
        asyncio.run(obeying(self.store).obey())
        asyncio.run(self.speaking.speak())
        assert {deed.to for deed in self.chat.said} == {f"$event-{n}" for n in self.heard}
        assert len(self.store.outgoing.due(99)) == len(self.heard)
        self.store._file.close()


TestConversation = Conversation.TestCase
TestConversation.settings = settings(max_examples=30, stateful_step_count=15, deadline=None)
