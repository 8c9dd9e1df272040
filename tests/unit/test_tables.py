"""Tables on terminals of any width: nothing is cut off, and what fits is aligned."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from rave_cli import tables, text
from rave_cli.tables import cell_width, layout

WORDS = st.text(st.characters(categories=("L", "N", "P", "S", "Mn", "Zs")), max_size=60).map(
    lambda said: " ".join(text.cell(said).split())
)


@st.composite
def made(draw: st.DrawFn) -> tuple[list[str], list[list[str]]]:
    count = draw(st.integers(1, 6))
    columns = draw(st.lists(WORDS, min_size=count, max_size=count))
    rows = draw(st.lists(st.lists(WORDS, min_size=count, max_size=count), max_size=5))
    return columns, rows


@given(made(), st.integers(1, 200))
def test_every_word_of_every_cell_is_there(
    table: tuple[list[str], list[list[str]]], width: int
) -> None:
    _, lines = layout(*table, width)
    shown = "\n".join(lines)
    assert [
        word for row in table[1] for cell in row for word in cell.split() if word not in shown
    ] == []


@given(made())
def test_what_fits_is_aligned_on_one_line_each(table: tuple[list[str], list[list[str]]]) -> None:
    columns, rows = table
    head, lines = layout(columns, rows, 1000)
    assert len(lines) == len(rows)
    assert (head is None) == (not any(columns))
    for row, line in zip(rows, lines, strict=True):
        assert re.split(r"\s{2,}", line.strip()) == [cell for cell in row if cell] or not any(row)


def test_a_sentence_in_the_last_column_is_wrapped_below_itself() -> None:
    rows = [["disk", "it is nearly full and soon nothing can be written to it any more"]]
    assert layout(["check", "finding"], rows, 40) == (
        "check  finding",
        [
            "disk   it is nearly full and soon",
            "       nothing can be written to it any",
            "       more",
        ],
    )


def test_on_a_narrow_terminal_each_cell_has_a_line() -> None:
    rows = [["demo", "running", ""], ["web", "stopped", "a detail"]]
    assert layout(["name", "state", "detail"], rows, 20) == (
        None,
        ["name: demo", "state: running", "", "name: web", "state: stopped", "detail: a detail"],
    )
    assert layout(["", ""], [["name", "demo"], ["directory", "/home/me/a/long/way"]], 20) == (
        None,
        ["name: demo", "directory: /home/me/a/long/way"],
    )


def test_what_is_a_little_too_wide_is_left_to_the_terminal() -> None:
    rows = [["a-name-of-some-length" * 3, "/a/path/that/nobody/wants/to/be/broken"]]
    assert layout(["secret", "place"], rows, 80)[1] == ["  ".join(rows[0])]


def test_wide_letters_and_colours_count_as_they_are_seen() -> None:
    assert cell_width("機械") == 4
    assert cell_width("e\u0301") == 1
    assert cell_width("\x1b[31mfail\x1b[0m") == 4
    assert tables.layout(["", "x"], [["機", "a"], ["ab", "b"]], 80)[1] == ["機  a", "ab  b"]
