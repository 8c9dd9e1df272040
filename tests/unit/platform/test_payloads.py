"""What five senders say becomes one event; the examples have the form of their documentation."""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rave_platform.domain import events, normalisation
from rave_platform.domain.events import EventFacts, EventKind, EventMessage, Provider, WebhookEvent
from rave_platform.domain.payloads.reading import MalformedPayloadError, clean, parse
from rave_platform.domain.signatures import Authentic, Proven, WebhookRequest

ZEROS, OLD, NEW = "0" * 40, "a" * 40, "b" * 40
GITLAB: dict[str, Any] = {
    "project": {"path_with_namespace": "group/web"},
    "user": {"username": "ada"},
}
GITHUB: dict[str, Any] = {"repository": {"full_name": "group/web"}, "sender": {"login": "ada"}}
PULL: dict[str, Any] = {
    "number": 7, "title": "Add a page", "html_url": "https://f/7", "merged": False,
    "head": {"ref": "page", "sha": NEW},
}  # fmt: skip
PAGURE_PULL: dict[str, Any] = {
    "id": 7, "title": "Add a page", "branch_from": "page", "commit_stop": NEW,
    "full_url": "https://p/7", "comments": [{"comment": "first"}, {"comment": "LGTM"}],
}  # fmt: skip


def pagure(topic: str, **msg: Any) -> dict[str, Any]:
    said = {"agent": "ada", "project_fullname": "group/web", **msg}
    return {"topic": topic, "msg": said, "msg_id": "2026-1", "timestamp": 1, "i": 1}


MERGE_REQUEST = {
    "iid": 7, "action": "open", "title": "Add a page", "url": "https://g/7",
    "source_branch": "page", "last_commit": {"id": NEW},
}  # fmt: skip

CASES: list[tuple[Provider, dict[str, str], dict[str, Any], dict[str, Any]]] = [
    (
        Provider.GITLAB, {},
        {"object_kind": "push", "ref": "refs/heads/main", "before": OLD, "after": NEW,
         "user_username": "ada", "project": {"path_with_namespace": "group/web"}},
        {"kind": "push", "action": "update", "ref": "main", "commit": NEW},
    ),
    (
        Provider.GITLAB, {},
        {**GITLAB, "object_kind": "tag_push", "ref": "refs/tags/v1", "before": ZEROS, "after": NEW},
        {"kind": "push", "action": "create", "ref": "v1", "commit": NEW},
    ),
    (
        Provider.GITLAB, {}, {**GITLAB, "object_kind": "merge_request",
                              "object_attributes": MERGE_REQUEST},
        {"kind": "merge_request", "action": "open", "number": 7, "title": "Add a page",
         "ref": "page", "commit": NEW, "url": "https://g/7"},
    ),
    (
        Provider.GITLAB, {},
        {**GITLAB, "object_kind": "note", "merge_request": MERGE_REQUEST,
         "object_attributes": {"note": "LGTM", "url": "https://g/7#1"}},
        {"kind": "note", "action": "create", "number": 7, "title": "Add a page", "text": "LGTM",
         "ref": "page", "commit": NEW, "url": "https://g/7#1"},
    ),
    (
        Provider.GITLAB, {},
        {**GITLAB, "object_kind": "issue",
         "object_attributes": {"iid": 3, "action": "close", "title": "It fails"}},
        {"kind": "issue", "action": "close", "number": 3, "title": "It fails"},
    ),
    (
        Provider.GITLAB, {},
        {**GITLAB, "object_kind": "pipeline",
         "object_attributes": {"id": 31, "iid": 2, "ref": "main", "sha": NEW, "status": "failed"}},
        {"kind": "pipeline", "action": "failed", "number": 31, "ref": "main", "commit": NEW},
    ),
    (
        Provider.GITHUB, {"x-github-event": "push"},
        {**GITHUB, "ref": "refs/heads/main", "before": OLD, "after": ZEROS},
        {"kind": "push", "action": "delete", "ref": "main", "commit": ZEROS},
    ),
    (
        Provider.GITHUB, {"x-github-event": "pull_request"},
        {**GITHUB, "action": "closed", "pull_request": {**PULL, "merged": True}},
        {"kind": "merge_request", "action": "merge", "number": 7, "title": "Add a page",
         "ref": "page", "commit": NEW, "url": "https://f/7"},
    ),
    (
        Provider.GITHUB, {"x-github-event": "issue_comment"},
        {**GITHUB, "action": "created", "issue": {"number": 3, "title": "It fails"},
         "comment": {"body": "why?", "html_url": "https://f/3#1"}},
        {"kind": "note", "action": "create", "number": 3, "title": "It fails", "text": "why?",
         "url": "https://f/3#1"},
    ),
    (
        Provider.GITHUB, {"x-github-event": "workflow_run"},
        {**GITHUB, "action": "completed",
         "workflow_run": {"id": 9, "head_branch": "page", "head_sha": NEW, "status": "completed",
                          "conclusion": "success"}},
        {"kind": "pipeline", "action": "success", "number": 9, "ref": "page", "commit": NEW},
    ),
    (
        Provider.GITHUB, {"x-github-event": "star"}, {**GITHUB, "action": "created"},
        {"kind": "other", "action": "create"},
    ),
    (
        Provider.GITEA, {"x-gitea-event": "pull_request", "x-github-event": "pull_request"},
        {**GITHUB, "action": "synchronized", "pull_request": PULL},
        {"kind": "merge_request", "action": "update", "number": 7, "title": "Add a page",
         "ref": "page", "commit": NEW, "url": "https://f/7"},
    ),
    (
        Provider.GITEA, {"x-forgejo-event": "issues"},
        {**GITHUB, "action": "reopened", "issue": {"number": 3, "title": "It fails"}},
        {"kind": "issue", "action": "reopen", "number": 3, "title": "It fails"},
    ),
    (
        Provider.PAGURE, {},
        pagure("git.receive", branch="refs/heads/main", start_commit=OLD, end_commit=NEW),
        {"kind": "push", "action": "update", "ref": "main", "commit": NEW},
    ),
    (
        Provider.PAGURE, {}, pagure("pull-request.new", pullrequest=PAGURE_PULL),
        {"kind": "merge_request", "action": "open", "number": 7, "title": "Add a page",
         "ref": "page", "commit": NEW, "url": "https://p/7", "text": "LGTM"},
    ),
    (
        Provider.PAGURE, {}, pagure("pull-request.closed", pullrequest=PAGURE_PULL, merged=True),
        {"kind": "merge_request", "action": "merge", "number": 7, "title": "Add a page",
         "ref": "page", "commit": NEW, "url": "https://p/7", "text": "LGTM"},
    ),
    (
        Provider.PAGURE, {}, pagure("pull-request.comment.added", pullrequest=PAGURE_PULL),
        {"kind": "note", "action": "create", "number": 7, "title": "Add a page",
         "ref": "page", "commit": NEW, "url": "https://p/7", "text": "LGTM"},
    ),
    (
        Provider.PAGURE, {},
        pagure("pull-request.flag.added", pullrequest={"id": 7}, flag={"status": "success"}),
        {"kind": "pipeline", "action": "success", "number": 7},
    ),
    (
        Provider.PAGURE, {}, pagure("issue.new", issue={"id": 3, "title": "It fails"}),
        {"kind": "issue", "action": "open", "number": 3, "title": "It fails"},
    ),
]  # fmt: skip


@pytest.mark.parametrize(
    ("provider", "headers", "payload", "expected"), CASES,
    ids=[f"{c[0]}-{c[3]['kind']}-{c[3]['action']}" for c in CASES],
)  # fmt: skip
def test_a_payload_says_this(
    provider: Provider, headers: dict[str, str], payload: dict[str, Any], expected: dict[str, Any]
) -> None:
    found = normalisation.facts(provider, headers, payload)
    assert found == EventFacts(**{"project": "group/web", "actor": "ada", **expected})


def test_every_sender_says_every_kind_that_it_has() -> None:
    said = {(case[0], case[3]["kind"]) for case in CASES}
    for provider in (Provider.GITLAB, Provider.GITHUB, Provider.PAGURE):
        kinds = {kind for by, kind in said if by is provider}
        assert kinds >= {"push", "merge_request", "note", "pipeline"}


def test_a_standard_webhook_says_its_type() -> None:
    found = normalisation.facts(Provider.STANDARD, {}, {"type": "user.created", "data": {}})
    assert found == EventFacts(kind=EventKind.OTHER, action="user.created")


# --- whatever is in it

leaves = st.none() | st.booleans() | st.integers() | st.text() | st.just(2**70)
NAMES = [
    "object_kind", "object_attributes", "project", "user", "username", "action", "topic", "msg",
    "pullrequest", "issue", "pull_request", "repository", "number", "iid", "id", "comments",
    "comment", "head", "ref", "after", "last_commit", "title", "merge_request", "flag", "status",
]  # fmt: skip
keys = st.sampled_from(NAMES) | st.text(max_size=5)
WORDS = ["push", "note", "pipeline", "merge_request", "issue", "git.receive", "pull-request.closed"]
objects = st.dictionaries(
    keys,
    st.recursive(
        leaves | st.sampled_from(WORDS),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=4),
        max_leaves=12,
    ),
    max_size=8,
)
event_names = st.sampled_from(["push", "pull_request", "issues", "issue_comment", "status", "\x00"])


@given(st.sampled_from(Provider), event_names, objects)
def test_whatever_a_payload_holds_it_says_something(
    provider: Provider, named: str, payload: dict[str, Any]
) -> None:
    found = normalisation.facts(provider, {"x-github-event": named}, payload)
    for words in (found.action, found.project, found.actor, found.ref, found.title, found.text):
        assert all(c.isprintable() for c in words)


@given(st.binary())
def test_a_body_is_an_object_or_refused(body: bytes) -> None:
    with suppress(MalformedPayloadError):
        assert isinstance(parse(body), dict)


@pytest.mark.parametrize(
    "body",
    [
        b"", b"[]", b"1", b"null", b'"x"', b"{", b'{"a":NaN}', b"\xff{}",
        b'{"a":"\\ud800"}', b"payload=%7B%7D", '{"a":1}'.encode("utf-16"),
        b'{"a":' * 100_000 + b"1" + b"}" * 100_000, b'{"a":' + b"[" * 250 + b"]" * 250 + b"}",
    ],
    ids=lambda body: repr(body[:20]),
)  # fmt: skip
def test_what_nobody_could_read_is_refused(body: bytes) -> None:
    with pytest.raises(MalformedPayloadError):
        parse(body)


# --- the event


def delivery(body: bytes, **headers: str) -> normalisation.WebhookDelivery:
    return normalisation.delivery(
        "forge", Provider.GITLAB, WebhookRequest(headers, body), Authentic("d-1", Proven.SENDER),
        received=1_700_000_000.25, fresh_trace="f" * 32,
    )  # fmt: skip


def test_an_event_is_known_again_and_says_where_it_came_from() -> None:
    found = delivery(b'{"object_kind":"push"}').event
    assert found == delivery(b'{"object_kind":"push"}').event
    assert found.received_at == datetime.fromtimestamp(1_700_000_000.25, UTC)
    assert (found.source, found.delivery_id, found.processed) == ("forge", "d-1", False)
    assert events.subject(found) == "rave.events.v1.forge.push"


def test_a_trace_goes_on_and_one_that_is_malformed_does_not() -> None:
    trace = "0af7651916cd43dd8448eb211c80319c"
    good = f"00-{trace}-b7ad6b7169203331-01"
    assert delivery(b"{}", traceparent=good).event.trace_id == trace
    for bad in ("", good.upper(), good[:-1], f"ff{good[2:]}", good.replace(trace, "0" * 32),
                f"00-{trace}-{'0' * 16}-01"):  # fmt: skip
        assert delivery(b"{}", traceparent=bad).event.trace_id == "f" * 32


def test_pagure_s_own_name_for_a_delivery_is_the_one_that_it_signs() -> None:
    body = json.dumps(pagure("issue.new")).encode()
    found = normalisation.delivery(
        "forge", Provider.PAGURE, WebhookRequest({}, body), Authentic("", Proven.BODY),
        received=0.0, fresh_trace="f" * 32,
    )  # fmt: skip
    assert found.event.delivery_id == "2026-1"


def test_a_repetition_is_told_by_what_is_proven() -> None:
    def same(proven: Proven, one: tuple[str, str], two: tuple[str, str]) -> bool:
        return normalisation.identity(proven, *one) == normalisation.identity(proven, *two)

    # Recorded, and sent again under a name that is not signed.
    assert same(Proven.BODY, ("d-1", "x"), ("d-2", "x"))
    assert not same(Proven.BODY, ("d-1", "x"), ("d-1", "y"))
    # Sent again by its sender, who wrote the body anew.
    assert same(Proven.BODY_AND_ID, ("d-1", "x"), ("d-1", "y"))
    assert not same(Proven.BODY_AND_ID, ("d-1", "x"), ("d-2", "x"))
    # A branch that went back and forth: equal bodies, two events.
    assert not same(Proven.SENDER, ("d-1", "x"), ("d-2", "x"))
    assert same(Proven.SENDER, ("d-1", "x"), ("d-1", "x"))


@given(objects)
def test_what_the_stream_carries_reads_as_what_was_signed(payload: dict[str, Any]) -> None:
    body = b" " + json.dumps(payload).encode() + b"\n"
    event = delivery(body).event
    read = EventMessage.model_validate_json(events.message(event, body))
    assert read.payload == json.loads(body)
    assert WebhookEvent(**read.model_dump(exclude={"payload"})) == event
    assert body.strip() in events.message(event, body)


@given(st.text())
def test_a_text_of_others_is_one_line_that_can_be_printed(words: str) -> None:
    assert clean(words).isprintable()
    assert len(clean(words)) <= 512


def test_an_event_s_id_depends_on_its_source() -> None:
    assert events.event_uuid("a", "id:1") != events.event_uuid("b", "id:1")
    assert isinstance(events.event_uuid("a", "id:1"), UUID)
