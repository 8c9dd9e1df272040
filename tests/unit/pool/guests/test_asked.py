"""What a machine asks is read strictly, and whatever it is, it is read or refused."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rave_cli.pool.guests import asked
from rave_cli.pool.guests.asked import SandboxAsked, UnfitError, UnreadableError

HEAD = {"v": 1, "id": "0123456789abcdef"}

SCALARS = st.sampled_from([None, True, 0, -1, 1 << 70, 1.5, "", "a\0b", "0" * 64, "x" * 300])
JSON = (
    SCALARS
    | st.lists(SCALARS, max_size=2)
    | st.dictionaries(st.sampled_from(["command", "size", "sha256", "\x1b[2J"]), SCALARS)
)
MEMBERS = st.dictionaries(
    st.sampled_from(["work", "key", "given", "job", "attempt", "after", "at", "data", "more"]),
    JSON,
    max_size=4,
)


def line(**members: Any) -> bytes:
    return json.dumps(HEAD | members).encode()


@given(st.binary(max_size=200))
def test_any_bytes_are_a_question_or_none(data: bytes) -> None:
    with suppress(UnreadableError, UnfitError):
        asked.read(data)


@given(st.sampled_from(["terms", "give", "submit", "show", "cancel", "output", "list"]), MEMBERS)
def test_any_document_with_an_id_is_answered(ask: str, members: dict[str, Any]) -> None:
    try:
        found = asked.read(line(ask=ask, **members))
    except UnfitError as error:
        unfit = error
    else:
        assert found.id == HEAD["id"]
        return
    assert unfit.id == HEAD["id"]
    assert len(unfit.message) <= 400
    assert unfit.message.isprintable()


@pytest.mark.parametrize(
    "data",
    [b"[" * 100_000, b"{}", b'{"v": 1}', b'{"v": 1, "id": "../../etc"}', b"\xff\xfe", b'"\\ud800"'],
)
def test_what_is_no_question_is_none(data: bytes) -> None:
    with pytest.raises(UnreadableError):
        asked.read(data)


@pytest.mark.parametrize(
    ("members", "why"),
    [
        ({"ask": "scale", "agents": 64}, "tag"),
        ({"ask": "show", "job": "0123"}, "job"),
        ({"ask": "show", "job": "x" * 12}, "job"),
        ({"ask": "show", "job": "0" * 12, "more": 1}, "more is unknown"),
        ({"ask": "submit", "key": "a b", "work": {}}, "key"),
        ({"ask": "submit", "key": "k", "work": {"secrets": ["a"]}}, "secrets is unknown"),
        ({"ask": "submit", "key": "k", "work": {"allow": ["a:1"]}}, "allow is unknown"),
        ({"ask": "submit", "key": "k", "work": {"cache": "c"}}, "cache is unknown"),
        ({"ask": "submit", "key": "k", "work": {"artifacts": ["x"]}}, "artifacts is unknown"),
        ({"ask": "submit", "key": "k", "work": {"timeout": "1"}}, "timeout"),
        ({"ask": "submit", "key": "k", "work": {"most_disk": 1 << 40}}, "most_disk"),
        ({"ask": "give", "at": -1, "data": ""}, "at"),
        ({"ask": "give", "at": 0, "data": "x" * (asked.LONGEST_PIECE + 1)}, "data"),
    ],
)
def test_what_it_may_not_ask_is_named(members: dict[str, Any], why: str) -> None:
    with pytest.raises(UnfitError, match=why):
        asked.read(line(**members))


def test_another_version_is_told_which_there_is() -> None:
    with pytest.raises(UnfitError, match="version 1"):
        asked.read(line(v=2, ask="terms"))


def test_a_submission_is_read() -> None:
    found = asked.read(line(ask="submit", key="k", work={"command": ["id"], "timeout": 5}))
    assert isinstance(found, SandboxAsked)
    assert found.work.timeout == 5
