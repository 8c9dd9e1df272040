"""The verb events: what it takes, who carries it out, and what is written down."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rave_guest import events, registry
from rave_guest.refusal import Refused
from rave_guest.services import webhook_dispatcher

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

ONE = "5f0c4c0e-6a51-5f0e-9d0a-0d7c1f6f2a11"
TWO = "5f0c4c0e-6a51-5f0e-9d0a-0d7c1f6f2a12"


def refused(action: object, wanted: object) -> Refused:
    with pytest.raises(Refused) as caught:
        events.check(action, wanted)
    return caught.value


def test_what_the_commands_send_is_taken() -> None:
    events.check("list", {})
    events.check("list", {"state": "dead", "source": "gitlab", "most": 1000})
    events.check("show", {"event": ONE})
    events.check("replay", {"events": [ONE, TWO]})
    events.check("replay-dead", {})


@pytest.mark.parametrize(
    ("action", "wanted"),
    [("list", {"state": "gone"}), ("list", {"source": "--dead"}), ("list", {"source": "a" * 33}),
     ("list", {"most": 0}), ("list", {"most": 1001}), ("list", {"most": True}),
     ("list", {"most": "9"}), ("show", {"event": "--help"}), ("show", {"event": ONE.upper()}),
     ("show", {"event": None}), ("replay", {"events": []}), ("replay", {"events": "dead"}),
     ("replay", {"events": [ONE, "--dead"]}), ("replay", {"events": [ONE] * 1001})],
)  # fmt: skip
def test_a_value_that_is_none_is_refused(action: str, wanted: object) -> None:
    assert refused(action, wanted).stage == "input"


@pytest.mark.parametrize(
    ("action", "wanted"),
    [("delete", {}), (None, {}), ("list", []), ("list", {"user": "alice"}), ("show", {}),
     ("replay", {}), ("replay-dead", {"events": [ONE]}), ("show", {"event": ONE, "most": 1})],
)  # fmt: skip
def test_a_request_that_is_none_is_refused(action: object, wanted: object) -> None:
    assert refused(action, wanted).stage == "request"


@given(st.text(min_size=1))
def test_what_is_taken_is_no_option_of_the_program(text: str) -> None:
    for action, wanted in (("list", {"source": text}), ("show", {"event": text})):
        try:
            events.check(action, wanted)
        except Refused:
            continue
        assert not text.startswith("-")
        assert text.isascii()


def test_the_service_that_fulfils_the_contract_carries_it_out() -> None:
    services = {"redis": {"provides": []}, "webhook-dispatcher": {"provides": ["events"]}}
    found = events.CONTRACT.provider({"services": services})
    assert found is registry.service("webhook-dispatcher").events  # type: ignore[union-attr]
    with pytest.raises(Refused, match="no service that takes webhooks"):
        events.CONTRACT.provider({"services": {"redis": {"provides": []}}})


@pytest.mark.parametrize("by", ["", "x" * 201, None])
def test_whoever_asks_says_who_it_is(by: object) -> None:
    with pytest.raises(Refused, match="not said who asks"):
        events.CONTRACT.verb({"action": "list", "by": by, "arguments": {}})
    with pytest.raises(Refused, match="has an action"):
        events.CONTRACT.verb({"action": "list", "arguments": {}})


def test_a_replay_is_written_down_and_a_look_is_not(tmp_path: Path) -> None:
    log = tmp_path / "rave/events.log"

    def provide(action: str, _wanted: Mapping[str, Any]) -> dict[str, Any]:
        if action == "replay":
            raise Refused("absent", f"there is no event {ONE}")
        return {"replayed": 3}

    events.CONTRACT.carry_out("list", {}, "me@here", provide, str(log))
    assert not log.exists()
    events.CONTRACT.carry_out("replay-dead", {}, "me@here", provide, str(log))
    with pytest.raises(Refused):
        events.CONTRACT.carry_out("replay", {"events": [ONE]}, "me@here", provide, str(log))
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line | {"time": ""} for line in lines] == [
        {"time": "", "action": "replay-dead", "by": "me@here", "result": "3 replayed"},
        {"time": "", "action": "replay", "by": "me@here", "events": [ONE],
         "result": f"refused (absent): there is no event {ONE}"},
    ]  # fmt: skip


def program(code: str) -> list[str]:
    return [sys.executable, "-IS", "-c", code]


@pytest.mark.parametrize(
    ("code", "stage", "why"),
    [
        ("raise SystemExit('there is no event x')", "absent", "there is no event x"),
        ("raise SystemExit('the store cannot be used')", "provider", "the store cannot be used"),
        ("raise SystemExit(1)", "provider", "it says nothing"),
        ("print('no JSON')", "provider", "does not answer"),
        (f"print(' ' * {(7 << 20) + 1})", "input", "ask for fewer"),
    ],
)
def test_a_program_that_cannot_answer_is_a_no_with_its_reason(
    code: str, stage: str, why: str
) -> None:
    with pytest.raises(Refused, match=why) as caught:
        webhook_dispatcher.events("list", {}, program(code))
    assert caught.value.stage == stage


def test_a_program_that_is_not_there_is_a_no(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="does not answer"):
        webhook_dispatcher.events("list", {}, [str(tmp_path / "none")])
