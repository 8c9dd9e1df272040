"""The strict YAML reader: what it reads, and the surprises it refuses."""

from __future__ import annotations

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from rave_cli.secrets import tree

KEYS = st.text("abcdefgh-_.:/", min_size=1, max_size=8)
TEXTS = st.text(max_size=20)
TREES = st.dictionaries(
    KEYS, st.recursive(TEXTS, lambda inner: st.dictionaries(KEYS, inner, max_size=3), max_leaves=6)
)


def plain(node: tree.Node) -> object:
    if isinstance(node, tree.Map):
        return {key: plain(child) for key, child in node.entries.items()}
    if isinstance(node, tree.Sequence):
        return [plain(item) for item in node.items]
    return node.text


@given(TREES)
def test_reads_what_a_quoting_writer_writes(document: dict[str, object]) -> None:
    text = yaml.safe_dump(document, default_style='"', allow_unicode=True).encode()
    assert plain(tree.parse(text)) == document


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        found = tree.parse(data)
    except tree.TreeError:
        return
    assert isinstance(found, tree.Map)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("a: 1\na: 2\n", "line 2: the key 'a' is there twice"),
        ("a: &x 1\nb: *x\n", "line 1: anchors and aliases are refused"),
        ("a: !!str 1\n", "line 1: tags are refused"),
        ("a: 1\n---\nb: 2\n", "line 2: a second document begins"),
        ("- a\n", "its top level is not a map"),
        ("", "its top level is not a map"),
        ("text", "its top level is not a map"),
        ("? [a]\n: b\n", "line 1: a key is not text"),
        ("a: [1, 2\n", "line"),
        ("a:\n  b:\n   c: {" + "d: {" * 8 + "}" * 9, "nested deeper than 8 levels"),
    ],
)
def test_surprises_are_refused(text: str, why: str) -> None:
    with pytest.raises(tree.TreeError) as caught:
        tree.parse(text.encode())
    assert why in str(caught.value)


def test_a_large_file_is_refused_before_it_is_parsed() -> None:
    with pytest.raises(tree.TreeError, match="larger than 4 MiB"):
        tree.parse(b"a" * (tree.MAX_BYTES + 1))


def test_bytes_that_are_no_text() -> None:
    with pytest.raises(tree.TreeError, match="byte 3 is not UTF-8"):
        tree.parse(b"a: \xff")


@pytest.mark.parametrize("text", ["a: ''", 'a: ""', "a:", "a: null", "a: ~"])
def test_empty_values(text: str) -> None:
    node = tree.parse(text.encode()).entries["a"]
    assert isinstance(node, tree.Scalar)
    assert node.empty


def test_a_quoted_null_is_text() -> None:
    node = tree.parse(b"a: 'null'").entries["a"]
    assert isinstance(node, tree.Scalar)
    assert not node.empty


def test_leaves_have_paths_and_lines() -> None:
    top = tree.parse(b"a:\n  b: 1\n  c: []\nd: {}\n")
    found = [("/".join(path), node.line) for path, node in tree.leaves(top)]
    assert found == [("a/b", 2), ("a/c", 3), ("d", 4)]
