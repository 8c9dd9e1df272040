"""What is heard in a chat, and what is decided on it: one answer, and perhaps a task or decision.

Everything follows from the message and what is known at the moment; the names of what comes of it
follow from the message alone, so that deciding twice comes to the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING
from uuid import UUID, uuid5

from rave_platform.domain import tracing
from rave_platform.domain.chat import characters
from rave_platform.domain.chat.commands import (
    FORMS,
    AgentsCommand,
    ApproveCommand,
    CancelCommand,
    CreateProjectCommand,
    HelpCommand,
    RejectCommand,
    RunCommand,
    StatusCommand,
    Verb,
    form,
)
from rave_platform.domain.events import NAMESPACE
from rave_platform.domain.tasks import (
    FOLLOWING,
    AgentKind,
    AgentTask,
    DecisionKind,
    TaskDecision,
    TaskKind,
    TaskStatus,
    span_of,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from collections.abc import Set as AbstractSet

    from rave_platform.domain.chat.commands import ChatCommand
    from rave_platform.domain.chat.grammar import NotUnderstood
    from rave_platform.domain.chat.permissions import ChatPermissions
    from rave_platform.domain.tasks import AgentHeartbeat
    from rave_platform.domain.tracing import TraceContext

# Seconds after which a command that was not heard in time is no longer obeyed: whoever gave it no
# longer waits for it.
STALE = 3600.0
# Tasks in one answer, and characters of an instruction in it.
MOST_LISTED = 20
BRIEF = 80


class HeardKind(StrEnum):
    """What was heard."""

    MESSAGE = "message"
    INVITATION = "invitation"
    UNREADABLE = "unreadable"  # it is encrypted


@dataclass(frozen=True)
class HeardMessage:
    """Something that was said to us, or to a room in which we are."""

    event_id: str
    kind: HeardKind
    room: str
    sender: str  # as the chat knows who it was
    account: str  # its name with the identity provider; empty if it has none
    thread: str  # the message that began the thread in which it was said; empty outside of one
    text: str
    at: float  # seconds since 1970, by the chat's clock


class DeedKind(StrEnum):
    """What we do in a chat."""

    SAY = "say"
    JOIN = "join"
    LEAVE = "leave"


@dataclass(frozen=True)
class ChatDeed:
    """Something to do in a chat, once: `key` is its name, and stands in what is said."""

    key: str
    kind: DeedKind
    room: str
    thread: str = ""
    to: str = ""  # the message that it answers
    text: str = ""
    traceparent: str = ""  # the span that it comes of


class Judgement(StrEnum):
    """What people have said of a task."""

    NONE = ""
    APPROVED = "approved"
    REJECTED = "rejected"
    CANCELLED = "cancelled"


@dataclass(frozen=True)
class ChatTask:
    """A task that was asked for in a chat."""

    task: AgentTask
    room: str
    thread: str
    asked_by: str
    judgement: Judgement = Judgement.NONE
    judged_by: str = ""


@dataclass(frozen=True)
class ChatOutcome:
    """What is decided on something that was heard; all of it happens, or nothing."""

    deed: ChatDeed | None = None
    task: ChatTask | None = None
    decision: TaskDecision | None = None
    # What was commanded, and what it came to: a verb, and a word for it; empty for no command.
    command: str = ""
    result: str = ""


@dataclass(frozen=True)
class KnownToChat:
    """What deciding needs to know besides the message."""

    granted: frozenset[Verb]
    tasks: Sequence[ChatTask] = ()  # that the command may mean, or all that have not ended
    agents: Sequence[AgentHeartbeat] | None = ()  # None if they cannot be asked


def name_of(heard: HeardMessage, what: str) -> UUID:
    """Return the id of what comes of a message: the same whenever it is decided."""
    return uuid5(NAMESPACE, f"chat\n{heard.room}\n{heard.event_id}\n{what}")


def trace_of(heard: HeardMessage) -> str:
    """Return the trace id of everything that comes of a message."""
    return name_of(heard, "trace").hex


def command_span(heard: HeardMessage, outcome: ChatOutcome) -> TraceContext:
    """Return the span of a command: in the trace of the task that it decides on, if it does."""
    if outcome.decision:
        return span_of(outcome.decision)
    if outcome.task:
        return span_of(outcome.task.task)
    return tracing.named(trace_of(heard), heard.event_id)


def short(task_id: UUID) -> str:
    """Return a task's id as people write it."""
    return task_id.hex[:8]


def answered(heard: HeardMessage, text: str) -> ChatDeed:
    """Return the answer to a message, in its thread."""
    return ChatDeed(
        f"answer:{heard.event_id}", DeedKind.SAY, heard.room, heard.thread or heard.event_id,
        heard.event_id, characters.plain(text),
    )  # fmt: skip


def invited(
    heard: HeardMessage, permissions: ChatPermissions, groups: AbstractSet[str]
) -> ChatDeed:
    """Return what is done about an invitation: only who may command something may bring us."""
    welcome = heard.room in permissions.rooms and permissions.verbs(groups)
    kind = DeedKind.JOIN if welcome else DeedKind.LEAVE
    return ChatDeed(f"{kind}:{heard.event_id}", kind, heard.room)


def unreadable(heard: HeardMessage) -> ChatDeed:
    """Return what is said once in a room whose messages are encrypted."""
    return ChatDeed(
        f"unreadable:{heard.room}", DeedKind.SAY, heard.room, heard.event_id, heard.event_id,
        "Messages in this room are encrypted, and I cannot read them. Talk to me in a room without"
        " encryption.",
    )  # fmt: skip


def denied(verb: Verb, permissions: ChatPermissions) -> str:
    """Return the answer to a command that its sender may not give."""
    groups = permissions.groups(verb)
    who = f"Who is in {' or '.join(groups)} may." if groups else "Nobody may."
    return f"You may not command {verb.value}. {who}"


def misunderstood(found: NotUnderstood) -> str:
    """Return the answer to what is no command."""
    meant = f' Did you mean "{found.nearest}"?' if found.nearest else ""
    return f"Not understood: {found.why}.{meant}\nExpected: {found.expected}"


def stale(heard: HeardMessage, now: float) -> str:
    """Return the answer to a command that was heard too late; nothing if it was not."""
    hours = (now - heard.at) / 3600
    if now - heard.at < STALE:
        return ""
    return f"I was away when you said this, {hours:.0f} h ago. Say it again if you still want it."


def decide(heard: HeardMessage, command: ChatCommand, known: KnownToChat) -> ChatOutcome:
    """Return what comes of a command that its sender may give."""
    match command:
        case RunCommand(agent, project, instruction):
            work = _asked(heard, TaskKind.WORK, AgentKind(agent), project, instruction)
            return _ask(heard, work, known)
        case CreateProjectCommand(name, about):
            # Each kind of agent can; a project has none yet that would know better.
            kind, who = TaskKind.CREATE_PROJECT, AgentKind.BACKEND_ARCHITECT
            return _ask(heard, _asked(heard, kind, who, name, about or name), known)
        case ApproveCommand(task, reason):
            return _judge(heard, task, reason, DecisionKind.APPROVE, known.tasks)
        case RejectCommand(task, reason):
            return _judge(heard, task, reason, DecisionKind.REJECT, known.tasks)
        case CancelCommand(task, reason):
            return _judge(heard, task, reason, DecisionKind.CANCEL, known.tasks)
        case _:
            return _only(heard, _said(command, known))


def told(before: ChatTask, task: AgentTask) -> ChatDeed | None:
    """Return what is said when a task stands otherwise; nothing where that is no news."""
    old = before.task
    same = (task.status, task.attempt) == (old.status, old.attempt)
    if same or task.attempt < old.attempt or not FOLLOWING[old.status]:
        return None
    text = f"Task {short(task.task_id)} ({task.agent}, {task.project}): {_standing(task)}"
    return ChatDeed(
        f"told:{task.task_id}:{task.status}:{task.attempt}", DeedKind.SAY, before.room,
        before.thread, "", characters.plain(text),
    )  # fmt: skip


def _said(command: HelpCommand | StatusCommand | AgentsCommand, known: KnownToChat) -> str:
    match command:
        case HelpCommand():
            return _help(command, known.granted)
        case AgentsCommand():
            return _agents(known.agents)
        case StatusCommand():
            return _status(command, known.tasks)


def _help(command: HelpCommand, granted: frozenset[Verb]) -> str:
    if command.command:
        found = form(Verb(command.command))
        return f"{found.usage}\n{found.about}\nFor example: {found.example}"
    lines = [f"{found.usage}: {found.about}" for found in FORMS if found.verb in granted]
    return "\n".join(["You may command:", *lines])


def _agents(found: Sequence[AgentHeartbeat] | None) -> str:
    if found is None:
        return "The agents cannot be asked now: the stream is away. Try again in a minute."
    if not found:
        return "No agent is there."
    lines = sorted(
        f"{beat.agent} {beat.instance}: "
        + (f"works on {short(beat.task_id)}" if beat.task_id else "waits for a task")
        for beat in found
    )
    return "\n".join(lines)


def _status(command: StatusCommand, tasks: Sequence[ChatTask]) -> str:
    if command.task:
        found = _the_one(command.task, tasks)
        return found if isinstance(found, str) else _line(found)
    if not tasks:
        return "No task waits or runs."
    lines = [_line(task) for task in tasks[:MOST_LISTED]]
    more = ["… and more"] if len(tasks) > MOST_LISTED else []
    return "\n".join([*lines, *more])


def _asked(
    heard: HeardMessage, kind: TaskKind, agent: AgentKind, project: str, instruction: str
) -> AgentTask:
    return AgentTask(
        task_id=name_of(heard, "task"), trace_id=trace_of(heard), kind=kind, agent=agent,
        project=project, instruction=instruction, created_at=_moment(heard),
    )  # fmt: skip


def _ask(heard: HeardMessage, task: AgentTask, known: KnownToChat) -> ChatOutcome:
    living = known.agents
    absent = living is not None and task.agent not in {beat.agent for beat in living}
    waits = f" No {task.agent} is there now: it waits for one." if absent else ""
    what = {
        TaskKind.WORK: f"is accepted for {task.agent} in {task.project}.",
        TaskKind.CREATE_PROJECT: f"is accepted: the project {task.project}.",
    }[task.kind]
    text = f"Task {short(task.task_id)} {what} What becomes of it is said in this thread.{waits}"
    asked = ChatTask(task, heard.room, heard.thread or heard.event_id, heard.account)
    return ChatOutcome(answered(heard, text), task=asked)


# What has to be so before people decide on a task, and what they have then decided.
_JUDGED = {
    DecisionKind.APPROVE: (frozenset({TaskStatus.COMPLETED}), Judgement.APPROVED),
    DecisionKind.REJECT: (frozenset({TaskStatus.COMPLETED}), Judgement.REJECTED),
    DecisionKind.CANCEL: (frozenset({TaskStatus.PENDING, TaskStatus.RUNNING}), Judgement.CANCELLED),
}


def _judge(
    heard: HeardMessage, said: str, reason: str, kind: DecisionKind, tasks: Sequence[ChatTask]
) -> ChatOutcome:
    found = _the_one(said, tasks)
    if isinstance(found, str):
        return _only(heard, found)
    task, (before, judgement) = found.task, _JUDGED[kind]
    name = f"Task {short(task.task_id)}"
    if found.judgement:
        return _only(heard, f"{name} was {found.judgement} by {found.judged_by} already.")
    if task.status not in before:
        wanted = " or ".join(sorted(before))
        return _only(heard, f"{name} is {task.status}; only one that is {wanted} can be.")
    decision = TaskDecision(
        decision_uuid=name_of(heard, "decision"), task_id=task.task_id, trace_id=task.trace_id,
        decision=kind, by=heard.account, reason=reason[:4096], decided_at=_moment(heard),
    )  # fmt: skip
    judged = ChatTask(task, found.room, found.thread, found.asked_by, judgement, heard.account)
    after = " Its agent is told." if kind is DecisionKind.CANCEL else ""
    return ChatOutcome(
        answered(heard, f"{name} is {judgement} by {heard.account}.{after}"), judged, decision
    )


def _only(heard: HeardMessage, text: str) -> ChatOutcome:
    return ChatOutcome(answered(heard, text))


def _the_one(said: str, tasks: Sequence[ChatTask]) -> ChatTask | str:
    """Return the task that is meant, or the answer if it is none or not the only one."""
    if not tasks:
        return f"There is no task {said}."
    if len(tasks) > 1:
        names = ", ".join(str(task.task.task_id) for task in tasks[:MOST_LISTED])
        return f"Several tasks begin with {said}: {names}"
    return tasks[0]


def _line(found: ChatTask) -> str:
    task = found.task
    instruction = " ".join(task.instruction.split())
    brief = instruction if len(instruction) <= BRIEF else instruction[:BRIEF] + "…"
    judged = f", {found.judgement} by {found.judged_by}" if found.judgement else ""
    return (
        f"{short(task.task_id)} {task.agent} {task.project}: {_standing(task)}{judged}"
        f" ({found.asked_by}: {brief})"
    )


def _standing(task: AgentTask) -> str:
    match task.status:
        case TaskStatus.RUNNING:
            again = f", attempt {task.attempt}" if task.attempt > 1 else ""
            return f"running{again}"
        case TaskStatus.COMPLETED:
            return f"completed. {task.result}" if task.result else "completed"
        case TaskStatus.FAILED:
            return f"failed: {task.error}"
        case TaskStatus.PENDING:
            return "pending, put back" if task.attempt else "pending"


def _moment(heard: HeardMessage) -> datetime:
    return datetime.fromtimestamp(heard.at, UTC)
