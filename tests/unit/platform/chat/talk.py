"""Messages, tasks, a channel and whose groups are asked for: for tests."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from rave_platform.adapters.chat.matrix import MatrixChannel, MatrixSettings
from rave_platform.domain.chat.commands import Verb
from rave_platform.domain.chat.conversation import ChatTask, HeardKind, HeardMessage, name_of
from rave_platform.domain.chat.permissions import ChatPermissions
from rave_platform.domain.tasks import AgentKind, AgentTask

if TYPE_CHECKING:
    import httpx

    from rave_platform.application.chat.ports import Directory

NOW = 1_764_000_000.0
MOMENT = datetime.fromtimestamp(NOW, UTC)
ROOM = "!room:rave.test"

PERMISSIONS = ChatPermissions(
    frozenset({ROOM}),
    {"staff": frozenset(Verb), "guests": frozenset({Verb.HELP, Verb.STATUS})},
)


def said(
    text: str, number: int = 1, *, at: float = NOW, account: str = "alice", room: str = ROOM,
    kind: HeardKind = HeardKind.MESSAGE, thread: str = "",
) -> HeardMessage:  # fmt: skip
    sender = f"@{account or 'somebody'}:rave.test"
    return HeardMessage(f"$event-{number}", kind, room, sender, account, thread, text, at)


def matrix(transport: httpx.MockTransport) -> MatrixChannel:
    """Return a channel to a homeserver that answers so."""
    return MatrixChannel(MatrixSettings("http://hs", "rave", "as", "hs"), transport)


def groups(directory: Directory, account: str) -> frozenset[str]:
    """Return the groups that somebody is in."""
    return asyncio.run(directory.groups(account))


def task(number: int = 1, **changes: object) -> AgentTask:
    """Return the task that message `number` asked for."""
    heard = said("", number)
    found = AgentTask(
        task_id=name_of(heard, "task"), trace_id="a" * 32, agent=AgentKind.AI_ENGINEER,
        project="shop", instruction="do it", created_at=MOMENT,
    )  # fmt: skip
    return AgentTask.model_validate({**found.model_dump(), **changes})


def asked(found: AgentTask, room: str = ROOM) -> ChatTask:
    return ChatTask(found, room, "$event-1", "alice")


def at(heard: HeardMessage, when: float) -> HeardMessage:
    return replace(heard, at=when)
