"""Payloads of GitHub, and of Gitea and Forgejo, which speak as it does.

https://docs.github.com/webhooks/webhook-events-and-payloads, https://docs.gitea.com/usage/webhooks
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rave_platform.domain.events import EventFacts, EventKind
from rave_platform.domain.payloads import reading
from rave_platform.domain.payloads.reading import LONG, first, number, text

if TYPE_CHECKING:
    from collections.abc import Mapping

HEADERS = ("x-forgejo-event", "x-gitea-event", "x-github-event")

# The name in the header, and where in the payload lies what it is about.
KINDS = {
    "push": (EventKind.PUSH, ""),
    "create": (EventKind.PUSH, ""),
    "delete": (EventKind.PUSH, ""),
    "pull_request": (EventKind.MERGE_REQUEST, "pull_request"),
    "pull_request_review": (EventKind.MERGE_REQUEST, "pull_request"),
    "issues": (EventKind.ISSUE, "issue"),
    "issue_comment": (EventKind.NOTE, "issue"),
    "pull_request_comment": (EventKind.NOTE, "pull_request"),
    "pull_request_review_comment": (EventKind.NOTE, "pull_request"),
    "workflow_run": (EventKind.PIPELINE, "workflow_run"),
    "check_suite": (EventKind.PIPELINE, "check_suite"),
    "status": (EventKind.PIPELINE, ""),
}


def facts(headers: Mapping[str, str], payload: Mapping[str, Any]) -> EventFacts:
    """Return what a payload says; its kind stands in a header alone."""
    named = reading.clean(first(*(headers.get(name, "") for name in HEADERS)))
    kind, about = KINDS.get(named, (EventKind.OTHER, ""))
    return EventFacts(
        kind=kind,
        action=_action(kind, named, about, payload),
        project=text(payload, "repository", "full_name"),
        actor=first(text(payload, "sender", "login"), text(payload, "sender", "username")),
        ref=reading.branch(
            first(
                text(payload, "ref"), text(payload, about, "head", "ref"),
                text(payload, about, "head_branch"),
            )
        ),
        commit=first(
            text(payload, "after"), text(payload, about, "head", "sha"),
            text(payload, about, "head_sha"), text(payload, "sha"),
        ),
        number=number(payload, about, "id" if kind is EventKind.PIPELINE else "number"),
        title=text(payload, about, "title"),
        text=text(payload, "comment", "body", most=LONG),
        url=first(
            text(payload, "comment", "html_url", most=LONG),
            text(payload, about, "html_url", most=LONG),
            text(payload, "compare", most=LONG), text(payload, "compare_url", most=LONG),
            text(payload, "target_url", most=LONG),
        ),
    )  # fmt: skip


def _action(kind: EventKind, named: str, about: str, payload: Mapping[str, Any]) -> str:
    if named in {"create", "delete"}:
        return named
    if kind is EventKind.PUSH:
        return reading.pushed(text(payload, "before"), text(payload, "after"))
    if kind is EventKind.PIPELINE:
        return first(
            text(payload, about, "conclusion"), text(payload, about, "status"),
            text(payload, "state"),
        )  # fmt: skip
    if reading.at(payload, about, "merged") is True and text(payload, "action") == "closed":
        return "merge"
    return reading.action(first(text(payload, "action"), named))
