"""Text of a guest, a file or a program: what a terminal would act on does not survive."""

from __future__ import annotations

import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rave_cli import text

BIDI = set("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")

# Anything, and often what matters.
NASTY = st.text(
    st.one_of(st.characters(), st.sampled_from("\x1b\x9b\x9d\x90[]();0mH\\\x07\n\t\u202e"))
)


def acts(character: str) -> bool:
    """Return whether a terminal takes a character for more than text."""
    category = unicodedata.category(character)
    return category in ("Cc", "Cs", "Zl", "Zp") or character in BIDI


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("plain ü\ttext", "plain ü\ttext"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("title\x1b]0;owned\x07 and more", "title and more"),
        ("link \x1b]8;;http://x\x1b\\here\x1b]8;;\x1b\\", "link here"),
        ("open \x1b]0;never closed", "open 0;never closed"),
        ("\x9b31mred \x9d0;owned\x9c\x90q\x9cdone", "red done"),
        ("\x1b(0lqk\x1b(B\x1bc\x1b7", "lqk"),
        ("a\x08b\x00c\x7fd\r", "abcd"),
        ("safe\u202egnp.exe\u2069", "safegnp.exe"),
        ("half \x1b", "half "),
        ("not UTF-8: \udcff", "not UTF-8: \ufffd"),
    ],
)
def test_nothing_that_paints_a_terminal_survives(said: str, shown: str) -> None:
    assert text.clean(said) == shown


@given(NASTY)
def test_no_control_character_survives(said: str) -> None:
    assert [c for c in text.clean(said) if acts(c) and c not in "\t\n"] == []
    assert [c for c in text.line(said) if acts(c) and c != "\t"] == []
    assert [c for c in text.cell(said) if acts(c)] == []


@given(NASTY)
def test_cleaning_twice_changes_nothing(said: str) -> None:
    assert text.clean(text.clean(said)) == text.clean(said)


@given(st.text(st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp", "Cf"))))
def test_plain_text_stays_as_it_is(said: str) -> None:
    assert text.cell(said) == said


@given(NASTY, st.booleans())
def test_json_keeps_everything_and_paints_nothing(said: str, ascii_only: bool) -> None:
    shown = text.dump({"said": [said]}, ascii_only=ascii_only)
    assert [c for c in shown if acts(c) and c != "\n"] == []
    assert json.loads(shown) == {"said": [said]}
    assert not ascii_only or shown.isascii()


def test_a_long_line_of_beginnings_takes_no_long_time() -> None:
    """Every one of them may begin a sequence that never ends."""
    for beginning in ("\x1b]", "\x9d", "\x1b[0;", "\x90x"):
        assert len(text.clean(beginning * 200_000)) <= 800_000
