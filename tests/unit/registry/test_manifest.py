"""A manifest of a registry's is a manifest, or it is refused: whatever it is made of."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rave_cli.errors import ExitCode, RaveError
from rave_cli.registry.content import Content, Descriptor, of_bytes
from rave_cli.registry.manifest import (
    INDEX,
    LARGEST,
    MANIFEST,
    Manifest,
    index_data,
    parse,
    parse_index,
)

from .scripted import fault_of

digests = st.from_regex(r"sha256:[0-9a-f]{64}", fullmatch=True)
texts = st.text(max_size=8)
descriptors = st.builds(
    Descriptor,
    texts,
    digests,
    st.integers(0, (1 << 63) - 1),
    st.dictionaries(texts, texts, max_size=2),
    st.none() | texts.filter(bool),
)
manifests = st.builds(
    Manifest,
    descriptors,
    st.lists(descriptors, max_size=3).map(tuple),
    st.none() | texts.filter(bool),
    st.none() | descriptors,
    st.dictionaries(texts, texts, max_size=2),
)
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)
ONE = Descriptor("a/b", "sha256:" + "0" * 64, 3)
GOOD = json.loads(Manifest(ONE, (ONE,), "x/y").data())


@settings(max_examples=40)
@given(manifests)
def test_each_is_read_as_it_is_written(manifest: Manifest) -> None:
    assert parse(manifest.data(), "x") == manifest


@settings(max_examples=30)
@given(st.lists(descriptors, max_size=4))
def test_an_index_is_read_as_it_is_written(entries: list[Descriptor]) -> None:
    assert parse_index(index_data(entries), "x") == entries


@given(
    st.sampled_from(sorted(GOOD)) | st.just("subject") | st.just("annotations"),
    anything,
)
def test_whatever_a_member_is_it_is_read_or_refused(member: str, value: Any) -> None:
    fault = fault_of(lambda: parse(json.dumps(GOOD | {member: value}).encode(), "x"))
    assert fault is None or fault.exit_code is ExitCode.VERIFICATION


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b"[" * 1_000_000,
        b'{"a":' * 100_000,
        b" " * (LARGEST + 1),
        b"\xff",
        json.dumps(GOOD | {"schemaVersion": 1}).encode(),
        json.dumps(GOOD | {"mediaType": INDEX}).encode(),
        json.dumps(GOOD | {"layers": [ONE.document() | {"size": -1}]}).encode(),
        json.dumps(GOOD | {"layers": [ONE.document() | {"size": 1 << 63}]}).encode(),
        json.dumps(GOOD | {"layers": [ONE.document() | {"size": True}]}).encode(),
        json.dumps(GOOD | {"layers": [ONE.document() | {"digest": "sha256:../../x"}]}).encode(),
        json.dumps(GOOD | {"annotations": {"a": 1}}).encode(),
    ],
    ids=range(15),
)  # fmt: skip
def test_what_is_none_is_refused(raw: bytes) -> None:
    with pytest.raises(RaveError, match="refused") as caught:
        parse(raw, "it")
    assert caught.value.exit_code is ExitCode.VERIFICATION


def test_one_that_registries_need_not_take_is_not_made() -> None:
    layers = tuple(Descriptor("a/b", ONE.digest, 1, {"title": "x" * 1024}) for _ in range(5000))
    with pytest.raises(RaveError, match="would have"):
        Manifest(ONE, layers).data()
    assert GOOD["mediaType"] == MANIFEST


@given(st.lists(st.binary(max_size=9), max_size=5), st.integers(0, 30), st.integers(0, 30))
def test_content_is_read_from_any_place_on(parts: list[bytes], start: int, length: int) -> None:
    whole = b"".join(parts)
    content = Content(tuple(parts))
    assert content.size == len(whole)
    start = min(start, len(whole))
    length = min(length, len(whole) - start)
    assert b"".join(content.pieces(start, length)) == whole[start : start + length]
    assert content.digest() == of_bytes(whole).digest()
