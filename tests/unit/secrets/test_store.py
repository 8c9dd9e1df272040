"""Names and documents: `a/b` is key b in map a, in both directions."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rave_cli.errors import ExitCode, RaveError
from rave_cli.secrets import store, tree

if TYPE_CHECKING:
    from pathlib import Path

PARTS = st.from_regex(r"[a-z0-9-]{1,6}", fullmatch=True)
NAMES = st.lists(PARTS, min_size=1, max_size=3).map("/".join)


@given(st.dictionaries(NAMES, st.text(), max_size=8))
def test_names_become_a_document_and_come_back(values: dict[str, str]) -> None:
    try:
        document = store.nest(values)
    except RaveError as error:
        # Only because one name goes through another.
        assert any(b.startswith(f"{a}/") for a in values for b in values)
        assert error.exit_code is ExitCode.SECRETS  # noqa: PT017 - both outcomes are right
        return
    assert store.names_of(json.dumps(document).encode()) == values


@pytest.mark.parametrize("value", ["1", "1.5", "true", "null", "[]"])
def test_a_value_that_is_no_text(value: str) -> None:
    with pytest.raises(RaveError) as caught:
        store.names_of(f'{{"a": {{"b": {value}}}}}'.encode())
    assert caught.value.message.startswith("the secret a/b is ")
    assert caught.value.exit_code is ExitCode.SECRETS


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("a:\n  b: ''\n", "line 2: a/b has no text"),
        ("a:\n  b: null\n", "line 2: a/b has no text"),
        ("a: []\n", "line 1: a has no text"),
        ("{}", "line 1: the document has no text"),
        ("sops:\n  b: x\n", "the key 'sops' is reserved"),
        ("a: 1\na: 2\n", "there twice"),
    ],
)
def test_an_edited_text_that_cannot_be_used(text: str, why: str) -> None:
    with pytest.raises(tree.TreeError) as caught:
        store.document_names(text.encode())
    assert why in str(caught.value)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(RaveError, match="there is no secrets file") as caught:
        store.read(tmp_path / "x")
    assert caught.value.exit_code is ExitCode.SECRETS
    assert caught.value.hint == "rave secrets init"


def test_two_writers_at_once(home: Path) -> None:
    with (
        store.locked(home / "x"),
        pytest.raises(RaveError, match="another rave command is changing"),
        store.locked(home / "x"),
    ):
        pass
