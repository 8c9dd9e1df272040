"""Events of forges from the host: what is asked of the guest, and what is shown."""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click
import pytest
from click.testing import CliRunner

from rave_cli.app import cli
from rave_cli.errors import ExitCode, RaveError
from rave_cli.flows import provided, webhooks
from rave_cli.flows.provided import operator
from rave_cli.machines.guest.call import Refusal
from rave_cli.machines.guest.door import VerbRefusedError
from rave_cli.profiles.catalog import parse
from rave_cli.profiles.names import BAKED

if TYPE_CHECKING:
    from collections.abc import Iterator

ONE = "5f0c4c0e-6a51-5f0e-9d0a-0d7c1f6f2a11"
EVENT = {
    "schema_version": 1, "event_uuid": ONE, "received_at": "2026-11-26T03:00:00.123456Z",
    "source": "gitlab", "provider": "gitlab", "kind": "push", "action": "", "project": "a/b",
    "actor": "alice", "title": "", "processed": False,
    "handover": {"state": "dead", "refusals": 5, "replays": 0, "sequence": None, "why": "full"},
}  # fmt: skip


class Machine:
    """A machine whose guest answers as it is told, and what it was asked."""

    name = "dev"

    def __init__(self, answer: dict[str, Any] | Exception) -> None:
        self.answer = answer
        self.asked: list[dict[str, Any]] = []
        self.spec: Any = None

    def call(self, verb: str, arguments: dict[str, Any], *, timeout: float) -> dict[str, Any]:
        assert (verb, timeout) == ("events", provided.TIMEOUT)
        self.asked.append(arguments)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.fixture
def guest(monkeypatch: pytest.MonkeyPatch) -> Machine:
    machine = Machine({"events": [EVENT]})
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
    done = CliRunner().invoke(
        cli, ["events", *words], catch_exceptions=False, standalone_mode=False
    )
    if done.exception:
        raise done.exception
    return done.stdout if "--json" in words else done.output


def asked(guest: Machine) -> tuple[str, dict[str, Any]]:
    request = guest.asked[-1]
    assert request["by"] == operator()
    return request["action"], request["arguments"]


def test_events_are_a_table_or_all_that_is_known_of_them(guest: Machine) -> None:
    said = run("list", "dev", "--source", "gitlab")
    assert asked(guest) == ("list", {"source": "gitlab", "most": 50})
    assert ONE in said
    assert "2026-11-26T03:00:00Z" in said
    document = json.loads(run("list", "dev", "--state", "dead", "-n", "7", "--json"))
    assert asked(guest) == ("list", {"state": "dead", "most": 7})
    assert document == {"machine": "dev", "events": [EVENT]}


def test_those_that_the_stream_does_not_take_are_listed_to_the_last(guest: Machine) -> None:
    assert ONE in run("dead", "dev")
    assert asked(guest) == ("list", {"state": "dead", "most": webhooks.MOST})
    guest.answer = {"events": []}
    assert "has taken everything" in run("dead", "dev")
    assert json.loads(run("list", "dev", "--json")) == {"machine": "dev", "events": []}


def test_one_event_is_shown_with_why_it_waits_and_its_payload(guest: Machine) -> None:
    guest.answer = {"event": EVENT | {"payload": {"ref": "refs/heads/main"}}}
    said = run("show", "dev", ONE.upper())
    assert asked(guest) == ("show", {"event": ONE})
    assert "why       full" in said
    assert '"ref": "refs/heads/main"' in said
    assert json.loads(run("show", "dev", ONE, "--json"))["event"] == guest.answer["event"]


def test_what_is_named_is_handed_over_again_or_all_that_is_dead(guest: Machine) -> None:
    guest.answer = {"replayed": 2}
    assert "2 handed over again" in run("replay", "dev", ONE, ONE.replace("11", "12"))
    action, wanted = asked(guest)
    assert (action, len(wanted["events"])) == ("replay", 2)
    assert json.loads(run("replay", "dev", "--dead", "--json")) == {"machine": "dev", "replayed": 2}
    assert asked(guest) == ("replay-dead", {})


@pytest.mark.parametrize("words", [["dev"], ["dev", ONE, "--dead"], ["dev", *[ONE] * 1001]])
def test_a_replay_says_what(guest: Machine, words: list[str]) -> None:
    with pytest.raises(click.UsageError):
        run("replay", *words)
    assert guest.asked == []


def test_a_machine_without_a_dispatcher_says_what_has_one(
    guest: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Spec:
        profile, base = "demo", "debian"

    guest.spec = Spec
    demo = parse(BAKED.read_bytes()).plan("demo", "debian")
    monkeypatch.setattr("rave_cli.flows.provided.store.plan", lambda _machine: demo)
    with pytest.raises(RaveError, match="takes no webhooks") as caught:
        webhooks.listed("dev")
    assert caught.value.exit_code == ExitCode.USAGE
    assert "development" in (caught.value.hint or "")
    assert guest.asked == []


@pytest.mark.parametrize(
    ("stage", "code", "hint"),
    [
        ("input", ExitCode.USAGE, "rave events list --help"),
        ("absent", ExitCode.USAGE, "rave events list dev"),
        ("provider", ExitCode.NOT_READY, "rave vm status dev"),
        ("request", ExitCode.NOT_READY, "rave vm status dev"),
    ],
)
def test_a_no_has_its_exit_code_and_the_command_that_helps(
    guest: Machine, stage: str, code: ExitCode, hint: str
) -> None:
    guest.answer = VerbRefusedError("dev", "events", Refusal(stage, "why"))
    with pytest.raises(RaveError, match="why") as caught:
        webhooks.shown("dev", ONE)
    assert caught.value.exit_code == code
    assert hint in (caught.value.hint or "")


@pytest.mark.parametrize("answer", [{}, {"event": {}}, {"events": [{}]}, {"replayed": "many"}])
def test_an_answer_that_is_none_is_a_fault(guest: Machine, answer: dict[str, Any]) -> None:
    guest.answer = answer
    with pytest.raises(RaveError, match="no usable answer") as caught:
        webhooks.shown("dev", ONE)
    assert caught.value.exit_code == ExitCode.NOT_READY
