"""Traces of a machine from the host: what is asked of the guest, and what is shown."""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from rave_cli.app import cli
from rave_cli.errors import ExitCode, RaveError
from rave_cli.flows import provided, traces
from rave_cli.flows.traces import GuestTrace
from rave_cli.machines.guest.call import Refusal
from rave_cli.machines.guest.door import VerbRefusedError
from rave_cli.profiles.catalog import parse
from rave_cli.profiles.names import BAKED
from rave_cli.views.spans import span_lines

if TYPE_CHECKING:
    from collections.abc import Iterator

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SECOND = 1_000_000_000
AT = 1_764_158_400 * SECOND  # 2025-11-26T12:00:00Z


def span(name: str, parent: str = "", start: float = 0, end: float | None = 1, **more: Any) -> Any:
    return {
        "trace_id": TRACE, "span_id": name, "parent_span_id": parent, "service_name": "chat-bridge",
        "name": name, "kind": 1, "start_time_unix_nano": AT + round(start * SECOND),
        "end_time_unix_nano": None if end is None else AT + round(end * SECOND),
        "status": {"code": 0, "message": ""}, "attributes": {}, **more,
    }  # fmt: skip


SPANS = [
    span("command", end=0.25, attributes={"rave.result": "answered"}),
    span("say", "command", 0.25, 0.5),
    span("task", "command", 0.5, 3),
    span("project", "task", 0.5, 1),
    span("GET", "project", 0.75, 1, service_name="agent", attributes={"url.path": "/projects/a"},
         status={"code": 2, "message": "503"}),
    span("write", "task", 1, 3),
]  # fmt: skip
LISTED = {
    "trace_id": TRACE, "name": "command run", "start_time_unix_nano": AT,
    "end_time_unix_nano": AT + 3 * SECOND, "going_on": False, "spans": 6, "errors": 1,
    "services": ["agent", "chat-bridge"],
}  # fmt: skip


class Machine:
    """A machine whose guest answers as it is told, and what it was asked."""

    name = "dev"

    def __init__(self, answer: dict[str, Any] | Exception) -> None:
        self.answer = answer
        self.asked: list[dict[str, Any]] = []
        self.spec: Any = None

    def call(self, verb: str, arguments: dict[str, Any], *, timeout: float) -> dict[str, Any]:
        assert (verb, timeout) == ("traces", provided.TIMEOUT)
        self.asked.append(arguments)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.fixture
def guest(monkeypatch: pytest.MonkeyPatch) -> Machine:
    machine = Machine({"traces": [LISTED]})
    plan = parse(BAKED.read_bytes()).plan("development", "debian")

    @contextmanager
    def connect(_machine: object) -> Iterator[None]:
        yield None

    monkeypatch.setattr("rave_cli.flows.provided.store.load", lambda _name: machine)
    monkeypatch.setattr("rave_cli.flows.provided.store.plan", lambda _machine: plan)
    monkeypatch.setattr("rave_cli.flows.provided.connection.connect", connect)
    monkeypatch.setattr("rave_cli.flows.provided.Door.of", lambda _machine, _session: machine)
    return machine


def run(*words: str) -> str:
    done = CliRunner().invoke(cli, ["trace", *words], catch_exceptions=False, standalone_mode=False)
    if done.exception:
        raise done.exception
    return done.stdout if "--json" in words else done.output


def test_the_newest_are_a_table_or_all_that_is_known_of_them(guest: Machine) -> None:
    said = run("list", "--vm", "dev")
    assert guest.asked[-1]["arguments"] == {"most": 20}
    assert [cell.strip() for cell in said.strip().split("\t")] == [
        TRACE, "2025-11-26T12:00:00Z", "3.000s", "6", "1", "command run", "agent, chat-bridge",
    ]  # fmt: skip
    found = json.loads(run("list", "--vm", "dev", "-n", "7", "--json"))
    assert guest.asked[-1]["arguments"] == {"most": 7}
    assert found == {"machine": "dev", "traces": [LISTED]}
    guest.answer = {"traces": []}
    assert "has kept no traces yet" in run("list", "--vm", "dev")


def test_one_is_shown_as_a_tree_with_times(guest: Machine) -> None:
    guest.answer = {"trace": {"trace_id": TRACE, "spans": SPANS}}
    said = run("show", TRACE.upper(), "--vm", "dev")
    assert guest.asked[-1]["arguments"] == {"trace": TRACE}
    assert said.splitlines() == [
        f"trace {TRACE}, 2025-11-26T12:00:00Z, 6 spans of agent, chat-bridge",
        "    began       took",
        "  +0.000s     0.250s  command (chat-bridge): answered",
        "  +0.250s     0.250s  ├─ say",
        "  +0.500s     2.500s  └─ task",
        "  +0.500s     0.500s     ├─ project",
        "  +0.750s     0.250s     │  └─ GET (agent): /projects/a, FAILED: 503",
        "  +1.000s     2.000s     └─ write",
    ]
    found = json.loads(run("show", "3f2a91c4", "--vm", "dev", "--json"))
    assert found == {"machine": "dev", "trace_id": TRACE, "spans": SPANS}


def test_nothing_of_a_guest_acts_on_the_terminal(guest: Machine) -> None:
    bad = span("\x1b[2J\nFAKE", status={"code": 2, "message": "\x1b]0;x\x07"})
    guest.answer = {"trace": {"trace_id": TRACE, "spans": [bad]}}
    said = run("show", TRACE, "--vm", "dev")
    assert "\x1b" not in said
    assert "\x07" not in said
    assert len(said.splitlines()) == 3


@pytest.mark.parametrize("name", ["abc", "xyzw", "", "--", "a" * 40, "%%%%"])
def test_what_is_no_name_of_a_trace_is_told_before_anybody_is_asked(
    guest: Machine, name: str
) -> None:
    with pytest.raises(RaveError, match="is no trace") as caught:
        traces.shown("dev", name)
    assert caught.value.exit_code is ExitCode.USAGE
    assert caught.value.hint == "rave trace list --vm dev"
    assert guest.asked == []


@pytest.mark.parametrize(
    ("stage", "code"),
    [("absent", ExitCode.USAGE), ("input", ExitCode.USAGE), ("provider", ExitCode.NOT_READY)],
)
def test_a_guest_s_no_says_what_helps(guest: Machine, stage: str, code: ExitCode) -> None:
    guest.answer = VerbRefusedError("dev", "traces", Refusal(stage, "there is no trace abcd"))
    with pytest.raises(RaveError, match="there is no trace abcd") as caught:
        traces.shown("dev", "abcd")
    assert caught.value.exit_code is code


@pytest.mark.parametrize("answer", [{}, {"trace": 1}, {"trace": {"trace_id": TRACE}}])
def test_an_answer_that_is_none_is_told(guest: Machine, answer: dict[str, Any]) -> None:
    guest.answer = answer
    with pytest.raises(RaveError, match="no usable answer") as caught:
        traces.shown("dev", "abcd")
    assert caught.value.exit_code is ExitCode.NOT_READY


@pytest.mark.parametrize(
    ("names", "said"), [([], "there are 0: none"), (["a", "b"], "there are 2: a, b")]
)
def test_who_names_no_machine_means_the_only_one(
    monkeypatch: pytest.MonkeyPatch, names: list[str], said: str
) -> None:
    class Stored:
        def __init__(self, name: str) -> None:
            self.name = name

    monkeypatch.setattr(traces, "Machine", Stored)
    listing = "rave_cli.flows.traces.store.list_machines"
    monkeypatch.setattr(listing, lambda: [Stored(name) for name in names])
    with pytest.raises(RaveError, match=said) as caught:
        traces.machine_of(None)
    assert caught.value.exit_code is ExitCode.USAGE
    monkeypatch.setattr(listing, lambda: [Stored("only")])
    assert traces.machine_of(None) == "only"
    assert traces.machine_of("other") == "other"


IDS = st.sampled_from(["", "a", "b", "c", "d"])


@given(st.lists(st.tuples(IDS, IDS), max_size=12))
def test_whatever_a_guest_says_of_parents_each_span_is_shown_once(
    pairs: list[tuple[str, str]],
) -> None:
    found = [span(name, parent, number) for number, (name, parent) in enumerate(pairs)]
    lines = span_lines(GuestTrace.model_validate({"trace_id": TRACE, "spans": found}))
    assert len(lines) == 2 + len(pairs)
