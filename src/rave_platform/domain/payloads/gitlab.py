"""GitLab's payloads: https://docs.gitlab.com/user/project/integrations/webhook_events/."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rave_platform.domain.events import EventFacts, EventKind
from rave_platform.domain.payloads import reading
from rave_platform.domain.payloads.reading import LONG, first, number, text

if TYPE_CHECKING:
    from collections.abc import Mapping

KINDS = {
    "push": EventKind.PUSH,
    "tag_push": EventKind.PUSH,
    "merge_request": EventKind.MERGE_REQUEST,
    "issue": EventKind.ISSUE,
    "work_item": EventKind.ISSUE,
    "note": EventKind.NOTE,
    "pipeline": EventKind.PIPELINE,
}


def facts(_headers: Mapping[str, str], payload: Mapping[str, Any]) -> EventFacts:
    """Return what a payload says; its kind stands in it, the header says the same."""
    named = text(payload, "object_kind")
    kind = KINDS.get(named, EventKind.OTHER)
    about = "object_attributes"
    subject = _subject(payload) if kind is EventKind.NOTE else about
    return EventFacts(
        kind=kind,
        action=_action(kind, payload, named),
        project=text(payload, "project", "path_with_namespace"),
        actor=first(text(payload, "user", "username"), text(payload, "user_username")),
        ref=reading.branch(
            first(
                text(payload, "ref"), text(payload, subject, "source_branch"),
                text(payload, about, "ref"),
            )
        ),
        commit=first(
            text(payload, "after"), text(payload, subject, "last_commit", "id"),
            text(payload, about, "sha"), text(payload, "commit", "id"),
        ),
        # A pipeline is known by its id; iid counts within the project.
        number=number(payload, subject, "id" if kind is EventKind.PIPELINE else "iid"),
        title=text(payload, subject, "title"),
        text=text(payload, about, "note", most=LONG),
        url=text(payload, about, "url", most=LONG),
    )  # fmt: skip


def _subject(payload: Mapping[str, Any]) -> str:
    """Return the name of what a note is about."""
    return "merge_request" if "merge_request" in payload else "issue"


def _action(kind: EventKind, payload: Mapping[str, Any], named: str) -> str:
    if kind is EventKind.PUSH:
        return reading.pushed(text(payload, "before"), text(payload, "after"))
    if kind is EventKind.PIPELINE:
        return text(payload, "object_attributes", "status")
    if kind is EventKind.NOTE:
        return reading.action(first(text(payload, "object_attributes", "action"), "create"))
    return reading.action(first(text(payload, "object_attributes", "action"), named))
