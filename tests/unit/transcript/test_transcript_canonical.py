"""Canonical JSON: one form is written, and nothing but that form is read."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rave_cli.transcript.canonical import (
    DamagedError,
    document_bytes,
    line_bytes,
    parse,
    parse_document,
    parse_line,
    to_json,
)

ANY_TEXT = st.text(st.characters(codec=None), max_size=20)  # lone surrogates included
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | ANY_TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(ANY_TEXT, inner, max_size=4),
    max_leaves=12,
)
OBJECTS = st.dictionaries(ANY_TEXT, VALUES, max_size=5)


@given(OBJECTS)
def test_what_is_written_is_read_back(value: dict[str, Any]) -> None:
    plain = to_json(value)
    assert parse_document(document_bytes(plain)) == plain
    assert parse_line(line_bytes(plain)) == plain


@given(OBJECTS)
def test_a_line_is_one_line_of_ascii(value: dict[str, Any]) -> None:
    line = line_bytes(to_json(value))
    assert line.isascii()
    assert line.count(b"\n") == 1
    assert b"\r" not in line


@given(OBJECTS, st.data())
def test_other_spellings_of_the_same_value_are_refused(value: Any, data: st.DataObject) -> None:
    line = line_bytes(to_json(value))
    at = data.draw(st.integers(0, len(line)))
    with pytest.raises(DamagedError):
        parse_line(line[:at] + data.draw(st.sampled_from([b"\r", b"\n", b"\t"])) + line[at:])


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b'{"a":1,"a":2}\n', "'a' appears twice"),
        (b'{"a":NaN}\n', "NaN is not a number"),
        (b'{"a":-Infinity}\n', "not a number"),
        (b'{"a":1e999}\n', "out of range"),
        (b'{"a":' + b"1" * 5000 + b"}\n", "too long"),
        (b'{"a":1} {}\n', "not JSON"),
        (b'{"a":1', "not JSON"),
        (b"", "not JSON"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"a":"\xc3\xa4"}\n', "byte 6 is not ASCII"),
        (b"\xef\xbb\xbf{}\n", "byte 0 is not ASCII"),
        (b"[1]\n", "not a JSON object"),
        (b'{"a": 1}\n', "canonical"),
        (b'{"a":"\\u0041"}\n', "canonical"),
        (b'{"a":1.0e0}\n', "canonical"),
        (b'{"a":1}', "canonical"),
    ],
)
def test_what_is_refused(raw: bytes, why: str) -> None:
    with pytest.raises(DamagedError, match=why):
        parse_line(raw)


def test_nesting_that_only_the_writer_cannot_follow_is_refused() -> None:
    deep = b'{"a":' + b"[" * 900 + b"]" * 900 + b"}\n"
    assert parse(deep)
    with pytest.raises(DamagedError):
        parse_document(deep)


def test_numbers_that_are_none_become_null() -> None:
    assert to_json({"a": math.nan, "b": (math.inf, 1.5)}) == {"a": None, "b": [None, 1.5]}


def test_a_lone_surrogate_becomes_the_replacement_character() -> None:
    assert to_json("a\ud800b") == "a\ufffdb"
    assert to_json("\ud83d\ude00") == "\U0001f600"


@pytest.mark.parametrize("value", [b"bytes", Path("/"), {1, 2}, object()])
def test_what_has_no_json_form_is_a_programming_error(value: object) -> None:
    with pytest.raises(TypeError, match="no JSON form"):
        to_json({"a": [value]})


def test_a_document_is_indented_by_two_and_ends_with_a_newline() -> None:
    assert document_bytes({"a": [1], "ä": ""}) == (
        b'{\n  "a": [\n    1\n  ],\n  "\\u00e4": ""\n}\n'
    )
    assert json.loads(document_bytes({"ä": ""})) == {"ä": ""}
