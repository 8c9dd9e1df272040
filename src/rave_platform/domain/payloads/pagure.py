"""Pagure's payloads: pagure/lib/notify.py and git.py, wrapped by `call_web_hooks`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rave_platform.domain.events import EventFacts, EventKind
from rave_platform.domain.payloads import reading
from rave_platform.domain.payloads.reading import LONG, first, number, text

if TYPE_CHECKING:
    from collections.abc import Mapping

# Topics, the longest first: what begins so is of the kind.
TOPICS = (
    ("pull-request.comment", EventKind.NOTE),
    ("pull-request.flag", EventKind.PIPELINE),
    ("issue.comment", EventKind.NOTE),
    ("pull-request", EventKind.MERGE_REQUEST),
    ("issue", EventKind.ISSUE),
    ("git.receive", EventKind.PUSH),
    ("git.branch", EventKind.PUSH),
    ("git.tag", EventKind.PUSH),
)


def facts(_headers: Mapping[str, str], payload: Mapping[str, Any]) -> EventFacts:
    """Return what a payload says; its topic stands in it, where it is signed."""
    topic = text(payload, "topic")
    kind = next((kind for name, kind in TOPICS if _is(topic, name)), EventKind.OTHER)
    said = reading.at(payload, "msg")
    msg: Mapping[str, Any] = said if isinstance(said, dict) else {}
    about = "pullrequest" if "pullrequest" in msg else "issue"
    return EventFacts(
        kind=kind,
        action=_action(kind, topic, msg),
        project=first(
            text(msg, "project_fullname"), text(msg, "repo", "fullname"),
            text(msg, "project", "fullname"),
        ),
        actor=text(msg, "agent"),
        ref=reading.branch(first(text(msg, "branch"), text(msg, about, "branch_from"))),
        commit=first(text(msg, "end_commit"), text(msg, about, "commit_stop"), text(msg, "rev")),
        number=number(msg, about, "id"),
        title=text(msg, about, "title"),
        text=_comment(msg, about),
        url=text(msg, about, "full_url", most=LONG),
    )  # fmt: skip


def delivery_id(payload: Mapping[str, Any]) -> str:
    """Return the sender's name for a delivery, which Pagure writes into what it signs."""
    return text(payload, "msg_id", most=200)


def _is(topic: str, name: str) -> bool:
    return topic == name or topic.startswith(f"{name}.")


def _action(kind: EventKind, topic: str, msg: Mapping[str, Any]) -> str:
    if kind is EventKind.PUSH:
        word = topic.rpartition(".")[2]
        return {"creation": "create", "deletion": "delete"}.get(word, "update")
    if kind is EventKind.PIPELINE:
        return text(msg, "flag", "status")
    if topic == "pull-request.closed" and _merged(msg):
        return "merge"
    return reading.action(topic.rpartition(".")[2])


def _merged(msg: Mapping[str, Any]) -> bool:
    return msg.get("merged") is True or text(msg, "pullrequest", "status") == "Merged"


def _comment(msg: Mapping[str, Any], about: str) -> str:
    """Return the last comment: Pagure sends all there are."""
    comments = reading.at(msg, about, "comments")
    last = comments[-1] if isinstance(comments, list) and comments else {}
    return text(last, "comment", most=LONG) if isinstance(last, dict) else ""
