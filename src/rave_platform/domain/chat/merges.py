"""What is said in a task's thread of what became of its merge request.

That it was merged is said once: by the agent that carried out an approval, or by the forge, where
somebody merged it there.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import UUID

from rave_platform.domain.agents import wording
from rave_platform.domain.chat import characters
from rave_platform.domain.chat.conversation import ChatDeed, DeedKind, short
from rave_platform.domain.events import EventKind
from rave_platform.domain.tasks import DecisionKind, TaskKind, span_of

if TYPE_CHECKING:
    from rave_platform.domain.chat.conversation import ChatTask
    from rave_platform.domain.events import WebhookEvent
    from rave_platform.domain.tasks import DecisionOutcome

# How wording.branch ends.
BRANCH = re.compile(r"rave/.+-([0-9a-f]{32})")


@dataclass(frozen=True)
class AgentsForge:
    """The forge in which agents work: the source of its webhooks, and where projects are in it that
    are named without a namespace.
    """

    source: str
    namespace: str = ""


def merged_key(task_id: UUID) -> str:
    """Return the key of what is said of a merge, whoever it is that says it: it is said once."""
    return f"merged:{task_id}"


def carried_out(before: ChatTask, outcome: DecisionOutcome) -> ChatDeed:
    """Return what is said when a decision was carried out, or could not be."""
    verb = outcome.decision.value
    again = "" if outcome.done else f" Say !rave {verb} {short(outcome.task_id)} again to retry."
    merged = outcome.done and outcome.decision is DecisionKind.APPROVE
    key = merged_key(outcome.task_id) if merged else f"told:{outcome.decision_uuid}"
    return ChatDeed(
        key, DeedKind.SAY, before.room, before.thread, "",
        characters.plain(f"Task {short(outcome.task_id)}: {outcome.text}.{again}"),
    )  # fmt: skip


def task_merged(event: WebhookEvent, forge: AgentsForge) -> UUID | None:
    """Return the task of which an event says that it was merged, if it says so of any."""
    merged = event.kind is EventKind.MERGE_REQUEST and event.action == "merge"
    found = BRANCH.fullmatch(event.ref) if merged and event.source == forge.source else None
    return UUID(found[1]) if found else None


def told(before: ChatTask, event: WebhookEvent, forge: AgentsForge) -> ChatDeed | None:
    """Return what is said of a merge; nothing where it is that of another project or branch.

    Who may write to some project can call a branch there as they like.
    """
    task = before.task
    where = task.project
    if "/" not in where and forge.namespace:
        where = f"{forge.namespace}/{where}"
    if task.kind is not TaskKind.WORK or (event.project, event.ref) != (
        where,
        wording.branch(task),
    ):
        return None
    place = f": {event.url}" if event.url else ""
    text = f"Task {short(task.task_id)}: merged in the forge by {event.actor or 'somebody'}{place}."
    return ChatDeed(
        merged_key(task.task_id), DeedKind.SAY, before.room, before.thread, "",
        characters.plain(text), span_of(task).header,
    )  # fmt: skip
