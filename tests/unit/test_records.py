"""Records: older ones become today's, newer and damaged ones are named, and nothing is written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, ValidationError

from rave_cli.errors import RaveError
from rave_cli.images.carried import CARRIED
from rave_cli.images.manifest import MANIFEST
from rave_cli.machines.qemu.accelerator import ANSWER
from rave_cli.machines.store import MACHINE
from rave_cli.records import (
    DamagedRecordError,
    NewerRecordError,
    RecordFormat,
    Versions,
    amend,
    faults,
)
from rave_cli.secrets.ages import AGES
from rave_cli.secrets.ledger import LEDGER
from rave_cli.settings import CONFIG

if TYPE_CHECKING:
    from collections.abc import Callable

RELEASED = Path(__file__).parents[1] / "fixtures" / "released-0.1.0"
PLACE = Path("/somewhere/cup.json")

FORMATS: list[RecordFormat[Any]] = [AGES, ANSWER, CARRIED, LEDGER, MACHINE, MANIFEST]
VERSIONS: list[Versions] = [CONFIG, *FORMATS]


class Cup(BaseModel):
    model_config = ConfigDict(extra="forbid")

    colour: str
    handles: int


# In version 1 a cup had no handles; in version 2 its colour was called paint.
CUPS = RecordFormat(
    title="the record of a cup",
    shape=Cup,
    version=3,
    upgrades={
        1: lambda cup: cup | {"handles": 1},
        2: lambda cup: {"colour": cup["paint"], "handles": cup["handles"]},
    },
)


def parse(document: object) -> Cup:
    return CUPS.parse(json.dumps(document).encode(), PLACE, hint="wash it")


@pytest.mark.parametrize(
    "document",
    [
        {"version": 1, "paint": "blue"},
        {"version": 2, "paint": "blue", "handles": 1},
        {"version": 3, "colour": "blue", "handles": 1},
    ],
)
def test_a_record_of_every_version_is_read_as_today_s(document: dict[str, Any]) -> None:
    assert parse(document) == Cup(colour="blue", handles=1)


def test_a_record_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    CUPS.write(tmp_path / "cup.json", Cup(colour="red", handles=2), mode=0o600)
    assert (tmp_path / "cup.json").stat().st_mode & 0o777 == 0o600
    assert CUPS.read(tmp_path / "cup.json", hint="") == Cup(colour="red", handles=2)


def test_a_newer_record_is_named_with_both_versions() -> None:
    with pytest.raises(NewerRecordError) as caught:
        parse({"version": 4, "colour": {}})
    assert caught.value.message == (
        "the record of a cup in /somewhere/cup.json was made by a newer rave (record version 4,"
        " this rave knows 3)"
    )
    assert str(caught.value.hint).startswith("update rave")


@pytest.mark.parametrize(
    ("document", "why"),
    [
        ({"version": 3, "colour": "blue"}, "handles is missing"),
        ({"version": 3, "colour": "blue", "handles": 1, "lid": 1}, "lid is unknown"),
        ({"version": 3, "colour": "blue", "handles": "two"}, "handles: Input should be"),
        ({"version": 2, "colour": "blue", "handles": 1}, "cannot be read as version 2"),
        ({"version": "3", "colour": "blue", "handles": 1}, "version is '3'"),
        ({"version": 3, "a\x1b[2J": 1, "colour": "", "handles": 1}, r"'a\\x1b\[2J' is unknown"),
    ],
)
def test_a_damaged_record_is_told_with_the_member_at_fault(
    document: dict[str, Any], why: str
) -> None:
    with pytest.raises(DamagedRecordError, match=why) as caught:
        parse(document)
    assert caught.value.hint == "wash it"
    caught.value.message.encode()


def test_several_faults_of_one_record_are_all_told() -> None:
    with pytest.raises(DamagedRecordError) as caught:
        parse({"version": 3, "lid": 1})
    assert caught.value.message.endswith("is damaged: colour is missing")
    assert caught.value.detail == ("handles is missing", "lid is unknown")


def test_a_record_that_may_not_be_read_is_the_system_s_fault(tmp_path: Path) -> None:
    with pytest.raises(RaveError, match="is not a file"):
        CUPS.read(tmp_path, hint="")


@pytest.mark.parametrize("kind", VERSIONS, ids=lambda kind: kind.title)
def test_every_version_that_there_was_has_its_upgrade(kind: Versions) -> None:
    known = sorted(kind.upgrades)
    assert known == list(range(known[0] if known else kind.version, kind.version))


def test_a_member_is_added_only_where_its_parents_are() -> None:
    assert amend({"a": {"b": 1}}, "a.c", 2) == {"a": {"b": 1, "c": 2}}
    assert amend({"a": {"c": 1}}, "a.c", 2) == {"a": {"c": 1}}
    for left_alone in ({}, {"a": None}, {"a": [1]}):
        assert amend(left_alone, "a.c", 2) == left_alone


def test_the_place_of_a_fault_is_a_path() -> None:
    class Rack(BaseModel):
        cups: list[Cup]

    with pytest.raises(ValidationError) as caught:
        Rack.model_validate({"cups": [{"colour": "", "handles": 1}, {"colour": ""}]})
    assert faults(caught.value) == ("cups.1.handles is missing",)


# What a file may hold: any JSON, today's and the released records with parts exchanged, and bytes.
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
released = [json.loads(path.read_text()) for path in sorted(RELEASED.glob("*.json"))]


def places(value: object, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return where something stands in a document, outside in."""
    if isinstance(value, dict):
        return [at, *(place for key, inner in value.items() for place in places(inner, (*at, key)))]
    if isinstance(value, list):
        return [at, *(p for n, inner in enumerate(value[:3]) for p in places(inner, (*at, n)))]
    return [at]


def exchanged(value: Any, place: tuple[Any, ...], other: object) -> Any:
    """Return a document with another value in one place."""
    if not place:
        return other
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[place[0]] = exchanged(value[place[0]], place[1:], other)
    return copy


@st.composite
def altered(draw: st.DrawFn) -> Any:
    """Draw a released record in which one place holds something else."""
    document = draw(st.sampled_from(released))
    place = draw(st.sampled_from(places(document)))
    return exchanged(document, place, draw(json_values))


documents = (
    json_values
    | altered()
    | st.builds(
        lambda version, inner: {"version": version, "schema_version": version, "machine": inner},
        st.integers(-1, 4),
        json_values,
    )
)


def outcome(read: Callable[[], object]) -> str:
    """Return what came of a reading; anything but a record or a told fault fails the test."""
    try:
        read()
    except RaveError as error:
        told = "\n".join((error.message, str(error.hint), *error.detail))
        assert told.encode().decode().strip()
        assert "rm " not in told
        return "told"
    return "read"


@given(document=documents)
def test_no_document_gives_a_traceback(document: object) -> None:
    for kind in FORMATS:
        data = json.dumps(document).encode()
        outcome(lambda kind=kind, data=data: kind.parse(data, PLACE, hint="h"))  # type: ignore[misc]
    outcome(lambda: CONFIG.upgraded(document, PLACE, hint="h"))


@given(data=st.binary() | st.text().map(str.encode))
def test_no_bytes_give_a_traceback(data: bytes) -> None:
    for kind in FORMATS:
        outcome(lambda kind=kind: kind.parse(data, PLACE, hint="h"))  # type: ignore[misc]


def test_json_that_is_nested_without_end_is_told() -> None:
    assert outcome(lambda: MACHINE.parse(b"[" * 100_000, PLACE, hint="h")) == "told"


@pytest.mark.parametrize("spoil", ["file", "directory"])
def test_one_that_somebody_else_may_have_written_is_refused(tmp_path: Path, spoil: str) -> None:
    """It steers us: which disk a machine has, which version of the secrets was seen last."""
    place = tmp_path / "cup.json"
    CUPS.write(place, Cup(colour="blue", handles=1))
    assert CUPS.read(place, hint="wash it").colour == "blue"
    (place if spoil == "file" else tmp_path).chmod(0o777)
    with pytest.raises(RaveError, match="can be changed by anybody") as caught:
        CUPS.read(place, hint="wash it")
    assert str(caught.value.hint).startswith("chmod go-w ")
