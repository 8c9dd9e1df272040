"""The door into the guest: what is sent, and answers that cannot be trusted; guests of all ages."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rave_cli.errors import ExitCode, RaveError
from rave_cli.machines.guest import door, door_v1
from rave_cli.machines.guest.door import Door, UnusableAnswerError, VerbRefusedError
from rave_cli.process import Completed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

OF_V1 = Path(__file__).parents[2] / "fixtures/door_v1"
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


class Guest:
    """Prints `text` and ends with a status; keeps what it was told."""

    def __init__(self, text: bytes | str, returncode: int = 0) -> None:
        self.text = text if isinstance(text, bytes) else text.encode()
        self.returncode = returncode
        self.argv: tuple[str, ...] = ()
        self.sent: Any = None
        self.sudo = False

    def run(
        self, argv: Sequence[str], *, stdin: bytes = b"", timeout: float, sudo: bool = False,
        on_error: Callable[[bytes], None] = lambda _: None,
    ) -> Completed:  # fmt: skip
        self.argv, self.sent, self.sudo = tuple(argv), json.loads(stdin), sudo
        on_error(b"last words\n")
        return Completed(self.argv, self.returncode, self.text, b"last words\n")


def ask(guest: Guest, version: int = 2, verb: str = "probe", **arguments: Any) -> dict[str, Any]:
    return Door(guest, "demo", version).call(verb, arguments, timeout=9)


def test_one_request_one_answer_as_root() -> None:
    guest = Guest('{"v": 2, "ok": true, "answer": {"a": 1}}')
    assert ask(guest, checks=[]) == {"a": 1}
    assert guest.sent == {"v": 2, "verb": "probe", "arguments": {"checks": []}}
    assert guest.argv == door.ARGV
    assert guest.sudo


def test_arguments_are_on_standard_input_alone_and_shown_nowhere() -> None:
    call = door_v1.VERBS["secrets-install"]({"identity": "AGE-SECRET", "file": "x"})
    assert "AGE-SECRET" not in repr(call)
    assert b"AGE-SECRET" in call.stdin


def test_a_refusal_says_at_which_step_and_why() -> None:
    guest = Guest('{"v": 2, "ok": false, "stage": "prove", "error": "redis: deaf"}', 1)
    with pytest.raises(VerbRefusedError) as caught:
        ask(guest)
    assert (caught.value.stage, caught.value.why) == ("prove", "redis: deaf")
    assert caught.value.exit_code == ExitCode.NOT_READY


@pytest.mark.parametrize(
    "text",
    [
        "",
        "sudo: command not found",
        "[]",
        "{}",
        "7",
        '{"v": 1, "ok": true, "answer": {}}',
        '{"v": 2, "ok": true}',
        '{"v": 2, "ok": "yes", "answer": {}}',
        '{"v": 2, "ok": true, "answer": []}',
        '{"v": 2, "ok": false}',
        "[" * 100_000,
        b"\xff\xfe",
    ],
)
def test_what_is_no_answer_is_none(text: str | bytes) -> None:
    with pytest.raises(UnusableAnswerError, match="machine demo gave no usable answer to probe"):
        ask(Guest(text))


def test_a_program_that_fails_shows_its_last_words() -> None:
    with pytest.raises(UnusableAnswerError, match="exit status 3") as caught:
        ask(Guest('{"v": 2, "ok": true, "answer": {}}', 3))
    assert caught.value.detail == ("last words",)


def test_an_endless_answer_is_refused_unread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "MOST_ANSWER", 20)
    with pytest.raises(UnusableAnswerError):
        ask(Guest('{"v": 2, "ok": true, "answer": {}}'))


@given(JSON)
def test_any_json_is_an_answer_a_refusal_or_none(document: Any) -> None:
    for version in (1, 2):
        try:
            found = ask(Guest(json.dumps(document)), version, checks=[])
        except (VerbRefusedError, UnusableAnswerError):
            continue
        assert isinstance(found, dict)


def test_a_guest_of_a_newer_rave_is_not_guessed_at() -> None:
    with pytest.raises(RaveError, match="made by a newer rave") as caught:
        ask(Guest("{}"), version=3)
    assert caught.value.exit_code == ExitCode.HOST


# --- guests of the first release ------------------------------------------------------------------


def check(id_: str, kind: str, *needs: str, **arguments: Any) -> dict[str, Any]:
    return {
        "id": id_, "kind": kind, "timeout": 5.0, "retry_for": 0.0, "needs": list(needs),
        "arguments": arguments,
    }  # fmt: skip


def recorded(name: str) -> str:
    return (OF_V1 / name).read_text()


def test_the_first_release_is_asked_in_its_own_words() -> None:
    guest = Guest(recorded("probe.json"))
    kernel = check("boot.kernel", "checks.boot.kernel")
    ping = check("b", "checks.catalog.tcp", "boot.kernel", port=6379)
    ask(guest, version=1, checks=[kernel, ping])
    assert guest.argv == ("/usr/lib/rave/rave-guest", "probe")
    assert guest.sent == {
        "v": 1,
        "checks": [
            {"id": "boot.kernel", "kind": "kernel", "timeout": 5.0, "retry_for": 0.0, "needs": []},
            {"id": "b", "kind": "tcp", "timeout": 5.0, "retry_for": 0.0, "needs": ["boot.kernel"],
             "port": 6379},
        ],
    }  # fmt: skip


def test_its_answer_is_read_as_one_of_today() -> None:
    found = ask(Guest(recorded("probe.json")), version=1, checks=[])
    assert [entry["id"] for entry in found["results"]] == [
        "boot.kernel", "redis.units", "redis.ping",
    ]  # fmt: skip
    assert found["facts"]["memory_mib"] == 1979


def test_what_it_does_not_know_is_skipped_with_all_that_needs_it() -> None:
    guest = Guest('{"v": 1, "results": [], "facts": {}}')
    checks = [check("a", "telepathy"), check("b", "checks.boot.kernel", "a")]
    checks.append(check("c", "checks.security.sysctl", "b"))
    found = ask(guest, version=1, checks=checks)
    assert guest.sent["checks"] == []
    assert [(e["id"], e["status"]) for e in found["results"]] == [
        ("a", "skip"), ("b", "skip"), ("c", "skip"),
    ]  # fmt: skip
    assert all("made by an older rave" in entry["detail"] for entry in found["results"])


def test_its_installation_of_secrets_is_read_as_one_of_today() -> None:
    guest = Guest(recorded("installed.json"))
    found = ask(guest, version=1, verb="secrets-install", identity="i", file="f")
    assert guest.argv == ("/usr/lib/rave/rave-guest", "secrets-install")
    assert guest.sent == {"identity": "i", "file": "f"}
    assert found["proofs"][0]["service"] == "redis"
    assert "ok" not in found


def test_its_refusal_is_read_as_one_of_today() -> None:
    with pytest.raises(VerbRefusedError) as caught:
        ask(Guest(recorded("refused.json"), 1), version=1, verb="secrets-install")
    assert caught.value.stage == "request"


def test_a_verb_it_does_not_have_is_refused_here() -> None:
    with pytest.raises(VerbRefusedError, match="made by an older rave"):
        ask(Guest("{}"), version=1, verb="backup")


def test_every_kind_it_knew_is_one_that_it_is_asked() -> None:
    known = json.loads(recorded("kinds.json"))
    assert set(door_v1.KINDS.values()) <= set(known)
