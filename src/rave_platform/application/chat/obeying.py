"""Decides on what was heard: each once, and all that comes of it in one transaction."""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from rave_platform.application.ports import StreamUnavailableError, UnavailableError
from rave_platform.application.rounds import Rounds
from rave_platform.application.tracing import Tracer
from rave_platform.domain.chat import conversation, grammar
from rave_platform.domain.chat.commands import (
    AgentsCommand,
    ApproveCommand,
    CancelCommand,
    CreateProjectCommand,
    RejectCommand,
    RunCommand,
    StatusCommand,
    verb_of,
)
from rave_platform.domain.chat.conversation import ChatOutcome, HeardKind, KnownToChat
from rave_platform.domain.chat.grammar import NotUnderstood
from rave_platform.domain.tracing import SpanKind

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from collections.abc import Set as AbstractSet

    from rave_platform.application.chat.ports import ConversationStore, Directory, TaskReader
    from rave_platform.application.ports import Blocking
    from rave_platform.domain.chat.commands import ChatCommand, Verb
    from rave_platform.domain.chat.conversation import HeardMessage
    from rave_platform.domain.chat.permissions import ChatPermissions
    from rave_platform.domain.tasks import AgentHeartbeat

LOG = logging.getLogger(__name__)

MOST_AT_ONCE = 64

# What a command came to, for figures: a verb, or one of these.
OTHER = "not-understood"


class Obeying:
    """Decides while `run` runs; `decided` is told of each command and what it came to."""

    def __init__(
        self,
        store: ConversationStore,
        blocking: Blocking[Any],
        permissions: ChatPermissions,
        *,
        directory: Directory,
        agents: TaskReader,
        rooms: Callable[[], AbstractSet[str] | None] = frozenset,
        decided: Callable[[HeardMessage, str, str], None] = lambda _heard, _command, _result: None,
        wall: Callable[[], float] = time.time,
        tracer: Tracer | None = None,
    ) -> None:
        self._store = store
        self._blocking = blocking
        self._permitted = permissions
        self._rooms = rooms
        self._directory = directory
        self._agents = agents
        self._decided = decided
        self._wall = wall
        self._tracer = tracer or Tracer()
        self._began: float | None = None
        self._rounds = Rounds(self.obey, "commands wait")
        self._after: list[Callable[[], None]] = []

    @property
    def _permissions(self) -> ChatPermissions:
        own = self._rooms()
        if own is None:
            # What was heard before a restart would count as said in a room of others.
            raise UnavailableError("which rooms are the bridge's own is not known yet")
        return replace(self._permitted, rooms=self._permitted.rooms | own)

    def wake(self) -> None:
        """Say that something was heard."""
        self._rounds.wake()

    def then(self, call: Callable[[], None]) -> None:
        """Have something called whenever something was decided."""
        self._after.append(call)

    async def run(self) -> None:
        """Decide, until cancelled."""
        await self._rounds.run()

    async def obey(self) -> int:
        """Decide on some of what was heard; return on how much.

        Raises:
            UnavailableError: if something is not there now; what was decided stays so.
        """
        now = self._wall()
        if self._began is None or self._began > now:
            self._began = await self._blocking(partial(self._store.began, now))
        waiting = await self._blocking(lambda: self._store.undecided(MOST_AT_ONCE))
        for number, heard in waiting:
            began = self._tracer.now()
            outcome = self._traced(heard, await self._outcome(heard), began)
            await self._blocking(partial(self._store.decide, number, outcome))
            for call in self._after:
                call()
        return len(waiting)

    async def _outcome(self, heard: HeardMessage) -> ChatOutcome:
        match heard.kind:
            case HeardKind.INVITATION:
                groups = await self._directory.groups(heard.account)
                return ChatOutcome(conversation.invited(heard, self._permissions, groups))
            # What was said before there was a bridge was said to nobody.
            case _ if heard.at < (self._began or 0.0):
                return ChatOutcome()
            case _ if heard.room not in self._permissions.rooms:
                return ChatOutcome()
            case HeardKind.UNREADABLE:
                return ChatOutcome(conversation.unreadable(heard))
            case HeardKind.MESSAGE:
                return await self._message(heard)

    async def _message(self, heard: HeardMessage) -> ChatOutcome:
        command = grammar.parse(heard.text)
        if command is None:
            return ChatOutcome()
        granted = self._permissions.verbs(await self._directory.groups(heard.account))
        if isinstance(command, NotUnderstood):
            return self._only(heard, conversation.misunderstood(command), OTHER, "not-understood")
        verb = verb_of(command)
        if verb not in granted:
            return self._only(heard, conversation.denied(verb, self._permissions), verb, "denied")
        if late := conversation.stale(heard, self._wall()):
            return self._only(heard, late, verb, "stale")
        known = await self._known(heard, command, granted)
        found = conversation.decide(heard, command, known)
        return replace(found, command=str(verb), result="answered")

    async def _known(
        self, heard: HeardMessage, command: ChatCommand, granted: frozenset[Verb]
    ) -> KnownToChat:
        match command:
            case (
                StatusCommand(task) | ApproveCommand(task) | RejectCommand(task)
                | CancelCommand(task)
            ):  # fmt: skip
                most = conversation.MOST_LISTED + 1
                tasks = await self._blocking(lambda: self._store.tasks(heard.room, task, most))
                return KnownToChat(granted, tasks=tasks)
            case AgentsCommand() | RunCommand() | CreateProjectCommand():
                return KnownToChat(granted, agents=await self._living())
            case _:
                return KnownToChat(granted)

    async def _living(self) -> Sequence[AgentHeartbeat] | None:
        try:
            return await self._agents.agents()
        except StreamUnavailableError:
            return None

    def _only(self, heard: HeardMessage, text: str, command: str, result: str) -> ChatOutcome:
        deed = conversation.answered(heard, text)
        return ChatOutcome(deed, command=str(command), result=result)

    def _traced(self, heard: HeardMessage, outcome: ChatOutcome, began: int) -> ChatOutcome:
        """Tell of a command; return what comes of it, with the span that it comes of."""
        if not outcome.command or outcome.deed is None:
            return outcome
        context = conversation.command_span(heard, outcome)
        self._decided(heard, outcome.command, outcome.result)
        self._tracer.over(
            context, f"command {outcome.command}", began, kind=SpanKind.SERVER,
            attributes={
                "messaging.message.id": heard.event_id, "rave.result": outcome.result,
                **({"rave.task": str(outcome.task.task.task_id)} if outcome.task else {}),
            },
        )  # fmt: skip
        LOG.info(
            "command",
            extra={
                "command": outcome.command, "reason": outcome.result, "account": heard.account,
                "event_id": heard.event_id, "trace_id": context.trace_id,
            },
        )  # fmt: skip
        return replace(outcome, deed=replace(outcome.deed, traceparent=context.header))
