"""What the guest does beside a backup: marks that are looked for later, and what the host tells."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rave_guest import backups, vitals
from rave_guest.refusal import Refused
from rave_guest.state import files, marks, program

if TYPE_CHECKING:
    from pathlib import Path

PLAN: dict[str, Any] = {"services": {}}


@given(
    st.one_of(
        st.none(), st.text(max_size=20), st.lists(st.integers(), max_size=2),
        st.dictionaries(
            st.sampled_from(["put", "read", "remove"]),
            st.one_of(st.booleans(), st.text(max_size=18), st.integers()), max_size=2,
        ),
    )
)  # fmt: skip
def test_what_is_no_request_for_marks_is_refused(wanted: object) -> None:
    good = wanted in ({"read": True}, {"remove": True}) or (
        isinstance(wanted, dict)
        and set(wanted) == {"put"}
        and bool(marks.WORD.fullmatch(str(wanted["put"])))
    )
    if good:
        assert marks.carried_out(PLAN, wanted) == {}
        return
    with pytest.raises(Refused) as caught:
        marks.carried_out(PLAN, wanted)
    assert caught.value.stage == "request"


def test_a_mark_in_a_directory_is_whole_owned_as_that_is_and_goes_again(tmp_path: Path) -> None:
    lines = ["a-000", "a-001"]
    assert files.marks(str(tmp_path), None) == []
    assert files.marks(str(tmp_path), lines) == lines
    (place,) = tmp_path.iterdir()
    assert (place.stat().st_uid, place.name) == (os.getuid(), files.MARKS)
    assert files.marks(str(tmp_path), ["b"]) == files.marks(str(tmp_path), None) == ["b"]
    assert files.marks(str(tmp_path), []) == []
    assert list(tmp_path.iterdir()) == []


def test_the_verb_notes_what_the_host_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backups, "PLACE", str(tmp_path / "backups.json"))
    assert program.verb({"kept": {"at": 1764129600, "due": 1764223200}}) == {"kept": True}
    assert backups.of("at")() == 1764129600
    assert backups.of("due")() == 1764223200
    assert backups.of("restored")() is None


@pytest.mark.parametrize(
    "kept", [None, [], {"who": 1}, {"at": "1"}, {"at": True}, {"at": -1}, {"at": 1 << 50}]
)
def test_what_the_host_does_not_say_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: object
) -> None:
    monkeypatch.setattr(backups, "PLACE", str(tmp_path / "backups.json"))
    with pytest.raises(Refused):
        backups.note(kept)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ["", "{", "[]", '{"at": "x"}'])
def test_a_note_that_is_damaged_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    place = tmp_path / "backups.json"
    place.write_text(text)
    monkeypatch.setattr(backups, "PLACE", str(place))
    assert backups.of("at")() is None


def test_prometheus_is_told_what_the_host_said() -> None:
    names = {name for name, _, _ in vitals.METRICS}
    assert {f"rave_backup_{name}_seconds" for name in backups.NAMES} <= names
