"""Records as dataclasses: what fits comes back the same, what does not is named by its place."""

from __future__ import annotations

import json
from collections.abc import Mapping  # noqa: TC003 - the shape's annotations are read
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rave_cli.shapes import AtLeast, Matches, MisfitError, plain, read


@dataclass(frozen=True)
class Handle:
    side: Literal["left", "right"]
    bent: bool


@dataclass(frozen=True)
class Cup:
    name: Annotated[str, Matches("[a-z]+")]
    size: Annotated[int, AtLeast(0)]
    weight: float
    handle: Handle | None
    place: Path
    spare: Path | None
    colours: tuple[str, ...]
    corners: tuple[int, int]
    notes: Mapping[str, float | None]


GOOD: dict[str, Any] = {
    "name": "mug", "size": 3, "weight": 0.5, "handle": {"side": "left", "bent": False},
    "place": "/shelf", "spare": None, "colours": ["red", "blue"], "corners": [1, 2],
    "notes": {"a": 1.5, "b": None},
}  # fmt: skip


def test_what_fits_comes_back_as_it_was() -> None:
    found = read(Cup, GOOD)
    assert found.handle == Handle("left", bent=False)
    assert (found.place, found.colours, found.corners) == (Path("/shelf"), ("red", "blue"), (1, 2))
    assert json.loads(json.dumps(plain(found))) == GOOD
    assert read(Cup, plain(found)) == found


def test_a_whole_number_is_a_number() -> None:
    assert read(Cup, GOOD | {"weight": 2}).weight == 2


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"name": 7}, "name: it must be a string"),
        ({"name": "Mug"}, "name: it must match [a-z]+"),
        ({"name": "mug\n"}, "name: it must match [a-z]+"),
        ({"size": "3"}, "size: it must be a whole number"),
        ({"size": True}, "size: it must be a whole number"),
        ({"size": 3.0}, "size: it must be a whole number"),
        ({"size": -1}, "size: it must be at least 0"),
        ({"weight": "x"}, "weight: it must be a number"),
        ({"weight": True}, "weight: it must be a number"),
        ({"weight": None}, "weight: it must be a number"),
        ({"handle": []}, "handle: it must be an object"),
        (
            {"handle": {"side": "up", "bent": False}},
            "handle.side: it must be one of 'left', 'right'",
        ),
        ({"handle": {"side": "left", "bent": 0}}, "handle.bent: it must be true or false"),
        ({"handle": {"side": "left"}}, "handle.bent is missing"),
        ({"handle": {"side": "left", "bent": True, "x": 1}}, "handle.x is unknown"),
        ({"place": 1}, "place: it must be a path"),
        ({"spare": 1}, "spare: it must be a path"),
        ({"colours": "red"}, "colours: it must be a list"),
        ({"colours": ["red", 1]}, "colours.1: it must be a string"),
        ({"corners": [1]}, "corners: it must be a list of 2"),
        ({"corners": [1, "2"]}, "corners.1: it must be a whole number"),
        ({"notes": []}, "notes: it must be an object"),
        ({"notes": {"a": "b"}}, "notes.a: it must be a number"),
        ({"\x1b[2J": 1}, r"'\x1b[2J' is unknown"),
    ],
)
def test_what_does_not_fit_is_named(change: dict[str, Any], fault: str) -> None:
    with pytest.raises(MisfitError) as caught:
        read(Cup, GOOD | change)
    assert caught.value.faults == (fault,)


def test_every_fault_is_told() -> None:
    with pytest.raises(MisfitError) as caught:
        read(
            Cup,
            {name: value for name, value in GOOD.items() if name != "size"} | {"name": 1, "x": 2},
        )
    assert sorted(caught.value.faults) == [
        "name: it must be a string", "size is missing", "x is unknown",
    ]  # fmt: skip


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=8,
)


@example("place", "")
@example("place", "a/")
@given(st.sampled_from(sorted(GOOD)), JSON)
def test_whatever_stands_there_it_fits_or_is_a_misfit(name: str, value: object) -> None:
    document = GOOD | {name: value}
    with suppress(MisfitError):
        found = plain(read(Cup, document))
        if name == "place":
            # Two ways to write one path.
            assert Path(found.pop(name)) == Path(document.pop(name))
        assert found == document


@given(JSON)
def test_no_document_is_anything_else(document: object) -> None:
    with pytest.raises(MisfitError):
        read(Cup, document)
