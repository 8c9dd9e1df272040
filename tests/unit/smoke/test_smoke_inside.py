"""Batches to the guest: what is sent, what is skipped, and answers that cannot be trusted."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rave_cli.errors import ExitCode, RaveError
from rave_cli.machines.guest.door import Door
from rave_cli.process import Completed
from rave_cli.smoke import inside
from rave_cli.smoke.model import Check
from tests.transcripts import make_check

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rave_cli.transcript.check import CheckResult, Status


class Guest:
    """Answers a request with `reply`; remembers what it was asked."""

    def __init__(self, reply: Callable[[list[dict[str, Any]]], Any], returncode: int = 0) -> None:
        self.reply, self.returncode = reply, returncode
        self.asked: list[list[str]] = []
        self.sudo = False
        self.timeout = 0.0

    def run(
        self, argv: Sequence[str], *, stdin: bytes = b"", timeout: float, sudo: bool = False
    ) -> Completed:
        request = json.loads(stdin)
        assert request["verb"] == "probe"
        checks = request["arguments"]["checks"]
        self.asked.append([check["id"] for check in checks])
        self.sudo, self.timeout = sudo, timeout
        answer = self.reply(checks)
        whole = json.dumps({"v": 2, "ok": True, "answer": answer}, default=str).encode()
        out = answer if isinstance(answer, bytes) else whole
        return Completed(tuple(argv), self.returncode, out, b"it broke\n")


def door(guest: Any) -> Door:
    return Door(guest, "m", 2)


def verdict(id_: str, status: str = "pass") -> dict[str, Any]:
    return {"id": id_, "status": status, "detail": "d", "seconds": 0.5, "attempts": 2, "data": {}}


def all_pass(checks: list[dict[str, Any]]) -> dict[str, Any]:
    return {"results": [verdict(c["id"]) for c in checks], "facts": {"kernel": "6.1"}}


def check(id_: str, *needs: str, **more: Any) -> Check:
    return Check(id_, "health", "t", kind="checks.boot.kernel", needs=needs, **more)


def known(id_: str, status: Status) -> dict[str, CheckResult]:
    return {id_: make_check(id_, status)}


def test_one_call_answers_a_batch() -> None:
    guest = Guest(all_pass)
    answer = inside.ask(door(guest), [check("a"), check("b", "a")], {}, most_seconds=99)
    assert guest.asked == [["a", "b"]]
    assert guest.sudo
    assert [(r.id, r.status, r.attempts) for r in answer.results] == [
        ("a", "pass", 2), ("b", "pass", 2),
    ]  # fmt: skip
    assert answer.facts == {"kernel": "6.1"}


def test_no_check_takes_longer_than_the_call_by_whatever_clock_the_guest_has() -> None:
    def reply(checks: list[dict[str, Any]]) -> dict[str, Any]:
        answer = all_pass(checks)
        answer["results"][0]["seconds"] = 1e9
        answer["results"][1]["seconds"] = 0.0
        return answer

    answer = inside.ask(door(Guest(reply)), [check("a"), check("b")], {}, most_seconds=99)
    assert 0 < answer.results[0].seconds < 99
    assert answer.results[1].seconds == 0


def test_results_that_the_guest_tells_meanwhile_are_passed_on_and_what_is_none_is_not() -> None:
    lines = [
        b"a warning of some program",
        json.dumps({"told": verdict("b", "fail")}).encode(),
        json.dumps({"told": verdict("b")}).encode(),
        json.dumps({"told": verdict("nobody asked")}).encode(),
        json.dumps({"told": {"id": "a", "status": "sure"}}).encode(),
        b"[" * 100_000,
        json.dumps({"told": verdict("a")}).encode(),
    ]
    said = b"\n".join(lines) + b"\n"

    class Telling(Guest):
        def run(self, *words: Any, **more: Any) -> Completed:
            for at in range(0, len(said), 997):
                more["on_error"](said[at : at + 997])
            return super().run(*words, stdin=more["stdin"], timeout=more["timeout"])

    told: list[CheckResult] = []
    batch = [check("a"), check("b")]
    answer = inside.ask(door(Telling(all_pass)), batch, {}, most_seconds=99, on_result=told.append)
    assert [(one.id, one.status) for one in told] == [("b", "fail"), ("a", "pass")]
    assert [one.status for one in answer.results] == ["pass", "pass"]


def test_what_is_blocked_already_is_skipped_link_by_link() -> None:
    guest = Guest(all_pass)
    batch = [check("a", "ssh"), check("b", "a"), check("c")]
    answer = inside.ask(door(guest), batch, known("ssh", "fail"), most_seconds=99)
    assert guest.asked == [["c"]]
    found = {r.id: r for r in answer.results}
    assert found["a"].detail == "ssh is a precondition, and its result is fail"
    assert found["b"].detail == "a is a precondition, and its result is skip"
    assert found["c"].status == "pass"


def test_nothing_is_sent_when_all_is_blocked() -> None:
    guest = Guest(all_pass)
    answer = inside.ask(door(guest), [check("a", "ssh")], known("ssh", "error"), most_seconds=99)
    assert guest.asked == []
    assert [r.status for r in answer.results] == ["skip"]


def test_without_a_way_in_what_is_not_blocked_is_a_fault_not_a_skip() -> None:
    answer = inside.ask(None, [check("a", "ssh")], known("ssh", "fail"), most_seconds=99)
    assert [r.status for r in answer.results] == ["skip"]
    with pytest.raises(RaveError, match="no connection to the guest"):
        inside.ask(None, [check("a")], {}, most_seconds=99)


def test_needs_outside_the_batch_are_not_sent() -> None:
    sent: list[dict[str, Any]] = []

    def reply(checks: list[dict[str, Any]]) -> dict[str, Any]:
        sent.extend(checks)
        return all_pass(checks)

    guest = Guest(reply)
    inside.ask(door(guest), [check("a", "ssh")], known("ssh", "pass"), most_seconds=99)
    assert sent[0]["needs"] == []


def test_the_call_may_not_take_longer_than_the_run_has() -> None:
    guest = Guest(all_pass)
    inside.ask(door(guest), [check("a", timeout=500)], {}, most_seconds=7)
    assert guest.timeout == 7


@pytest.mark.parametrize(
    "reply",
    [
        b"",
        b"not json",
        b"[]",
        {"results": []},
        {"results": [verdict("other")], "facts": {}},
        {"results": [verdict("a"), verdict("a")], "facts": {}},
        {"results": [verdict("a", "splendid")], "facts": {}},
        {"results": [verdict("a") | {"data": []}], "facts": {}},
        {"results": [{"id": "a"}], "facts": {}},
        {"results": [verdict("a")], "facts": []},
        {"results": [verdict("a")]},
        {"results": [verdict("a") | {"seconds": "soon"}], "facts": {}},
        {"results": [verdict("a") | {"seconds": -1}], "facts": {}},
        {"results": [verdict("a") | {"seconds": "nan"}], "facts": {}},
        {"results": [verdict("a") | {"attempts": -1}], "facts": {}},
    ],
)
def test_an_answer_to_something_else_is_refused(reply: Any) -> None:
    with pytest.raises(RaveError, match="no usable answer") as caught:
        inside.ask(door(Guest(lambda _: reply)), [check("a")], {}, most_seconds=99)
    assert caught.value.exit_code == ExitCode.NOT_READY


def test_a_probe_that_fails_shows_its_last_words() -> None:
    with pytest.raises(RaveError, match="exit status 3") as caught:
        inside.ask(door(Guest(all_pass, returncode=3)), [check("a")], {}, most_seconds=99)
    assert caught.value.detail == ("it broke",)


@given(st.dictionaries(st.sampled_from(["results", "facts"]) | st.text(), st.recursive(
    st.none() | st.integers() | st.text(), lambda inner: st.lists(inner)
    | st.dictionaries(st.text(), inner), max_leaves=10)))  # fmt: skip
def test_any_document_is_an_answer_or_refused(document: Any) -> None:
    with pytest.raises(RaveError):
        inside.read_answer("m", document, [check("a")])


def test_a_long_detail_is_cut() -> None:
    entry = verdict("a") | {"detail": "x" * 10_000}
    answer = inside.read_answer("m", {"results": [entry], "facts": {}}, [check("a")])
    assert len(answer.results[0].detail) == 2000


def test_a_batch_gets_time_for_its_slowest_check() -> None:
    assert inside.longest([check("a", timeout=60, retry_for=30)]) >= 90
