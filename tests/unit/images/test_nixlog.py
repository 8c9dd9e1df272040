"""Nix's log as events: what is understood, and that nothing can break the reader."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from rave_cli.images.nixlog import (
    BuildLine,
    BuildPhase,
    BuildsProgress,
    BuildStarted,
    LogReader,
    Message,
    NixEvent,
    Stopped,
)

DRV = "/nix/store/iqvw2lzf6mnmk3c1rfr0npfcysc7csvr-rave-debian-base.drv"

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
records = st.dictionaries(
    st.sampled_from(["action", "id", "type", "fields", "level", "msg", "text", "parent"]),
    json_values
    | st.sampled_from(["start", "stop", "result", "msg"])
    | st.sampled_from([100, 101, 102, 104, 105, 106]),
)


def say(**record: Any) -> str:
    return "@nix " + json.dumps(record) + "\n"


def read(*lines: str) -> list[NixEvent | None]:
    reader = LogReader()
    return [reader.read(line) for line in lines]


def test_a_build_from_start_to_end() -> None:
    assert read(
        say(action="start", id=7, level=0, text="", type=104),
        say(action="start", id=8, level=3, text="building", type=105, fields=[DRV, "", 1, 1]),
        say(action="result", id=8, type=104, fields=["installing packages"]),
        say(action="result", id=8, type=101, fields=["\x1b[1mSetting up libc6\x1b[0m"]),
        say(action="result", id=7, type=105, fields=[1, 2, 1, 0]),
        say(action="stop", id=8),
    ) == [
        None,
        BuildStarted(8, "rave-debian-base"),
        BuildPhase(8, "installing packages"),
        BuildLine(8, "Setting up libc6"),
        BuildsProgress(1, 2),
        Stopped(8),
    ]


def test_progress_of_anything_but_builds_is_not_the_builds() -> None:
    assert read(say(action="result", id=9, type=105, fields=[5, 9, 0, 0])) == [None]


def test_messages_keep_their_level_and_lose_their_colours() -> None:
    assert read(say(action="msg", level=0, msg="\x1b[31;1merror:\x1b[0m no")) == [
        Message(0, "error: no")
    ]


def test_text_that_is_not_of_nix_counts_as_an_error_message() -> None:
    assert read("bash: nix: cannot execute\n", "\n") == [
        Message(0, "bash: nix: cannot execute"),
        None,
    ]


@given(st.text())
def test_no_line_breaks_the_reader(line: str) -> None:
    reader = LogReader()
    reader.read(line)
    reader.read("@nix " + line)


@given(st.lists(records, max_size=6))
def test_no_record_breaks_the_reader(found: list[dict[str, Any]]) -> None:
    reader = LogReader()
    for record in found:
        event = reader.read("@nix " + json.dumps(record))
        if isinstance(event, BuildsProgress):
            assert isinstance(event.done, int)
            assert isinstance(event.total, int)


@given(st.text(st.characters(exclude_characters="\x1b", exclude_categories=["Cs"])))
def test_a_builders_line_arrives_as_it_was_written(text: str) -> None:
    line = say(action="result", id=1, type=101, fields=[text])
    assert LogReader().read(line) == BuildLine(1, text)
