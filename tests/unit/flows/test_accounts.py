"""Accounts from the host: what is asked of the guest, what is shown, and where no password goes."""

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
from rave_cli.flows import accounts, provided
from rave_cli.flows.accounts import AccountAnswer, sessions_left
from rave_cli.machines.guest.call import Refusal
from rave_cli.machines.guest.door import VerbRefusedError
from rave_cli.profiles.catalog import parse
from rave_cli.profiles.names import BAKED
from rave_cli.show import Show
from rave_cli.views.account import password_lines, shows_password
from rave_guest.accounts import NAME

if TYPE_CHECKING:
    from collections.abc import Iterator

ALICE = {
    "id": "alice", "name": "Alice", "email": "", "groups": ["staff"], "state": "enabled",
    "password": "one-time", "created": "2026-11-25T23:00:00+00:00",
}  # fmt: skip
PASSWORD = "never-in-a-log-or-pipe"


class Machine:
    """A machine whose guest answers as it is told, and what it was asked."""

    name = "dev"

    def __init__(self, answer: dict[str, Any] | Exception) -> None:
        self.answer = answer
        self.asked: list[dict[str, Any]] = []
        self.spec: Any = None

    def call(self, verb: str, arguments: dict[str, Any], *, timeout: float) -> dict[str, Any]:
        assert verb == "accounts"
        self.asked.append(arguments)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.fixture
def guest(monkeypatch: pytest.MonkeyPatch) -> Machine:
    machine = Machine({"changed": True, "user": ALICE, "password": PASSWORD})
    plan = parse(BAKED.read_bytes()).plan("development", "debian")

    @contextmanager
    def connect(_machine: object) -> Iterator[None]:
        yield None

    monkeypatch.setattr("rave_cli.flows.provided.store.load", lambda _name: machine)
    monkeypatch.setattr("rave_cli.flows.provided.store.plan", lambda _machine: plan)
    monkeypatch.setattr("rave_cli.flows.provided.connection.connect", connect)
    monkeypatch.setattr("rave_cli.flows.provided.Door.of", lambda _machine, _session: machine)
    return machine


def run(*words: str, code: int = 0) -> str:
    done = CliRunner().invoke(cli, ["user", *words], catch_exceptions=False, standalone_mode=False)
    assert done.return_value in {None, code}
    return done.stdout if "--json" in words else done.output


def test_the_development_profile_keeps_accounts_and_demo_does_not() -> None:
    catalog = parse(BAKED.read_bytes())
    assert catalog.plan("development", "debian").provides("oidc")
    assert not catalog.plan("demo", "debian").provides("oidc")


def test_a_machine_without_accounts_says_what_has_them(
    guest: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Spec:
        profile, base = "demo", "debian"

    guest.spec = Spec
    monkeypatch.setattr(
        "rave_cli.flows.provided.store.plan",
        lambda _: parse(BAKED.read_bytes()).plan("demo", "debian"),
    )
    with pytest.raises(RaveError, match="keeps no accounts") as caught:
        accounts.ask("dev", "list")
    assert caught.value.exit_code == ExitCode.USAGE
    assert "development" in (caught.value.hint or "")
    assert guest.asked == []


def test_in_a_pipe_no_password_is_asked_for_and_the_way_to_one_is_told(guest: Machine) -> None:
    guest.answer = {"changed": True, "user": ALICE | {"password": "none"}}
    said = run("add", "dev", "alice", "--group", "staff", "--group", "staff")
    (asked,) = guest.asked
    assert asked["action"] == "add"
    assert asked["arguments"] == {
        "user": "alice", "name": "alice", "email": "", "groups": ["staff"], "password": False,
    }  # fmt: skip
    assert "rave user reset-password dev alice" in said


def test_json_has_a_password_only_if_it_is_asked_to(guest: Machine) -> None:
    document = json.loads(run("reset-password", "dev", "alice", "--json", "--with-password"))
    assert document == {"machine": "dev", "changed": True, "user": ALICE, "password": PASSWORD}
    guest.answer = {"changed": True, "user": ALICE}
    assert "password" not in json.loads(run("add", "dev", "alice", "--json"))
    assert [one["arguments"].get("password") for one in guest.asked] == [None, False]


def test_a_new_password_that_nobody_would_see_is_not_made(guest: Machine) -> None:
    for words in (["--json"], [], ["--with-password"]):
        with pytest.raises(RaveError) as caught:
            run("reset-password", "dev", "alice", *words)
        assert caught.value.exit_code == ExitCode.USAGE
    assert guest.asked == []


def test_a_terminal_shows_it_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    assert shows_password(Show(), asked=False)
    assert not shows_password(Show(as_json=True), asked=False)
    answer = AccountAnswer(changed=True, password=PASSWORD)
    assert PASSWORD in password_lines(answer)[0]
    assert PASSWORD not in repr(answer)
    assert password_lines(AccountAnswer()) == []


def test_who_asks_is_told_to_the_guest(guest: Machine) -> None:
    run("disable", "dev", "alice")
    assert guest.asked[0]["by"] == provided.operator()
    assert "@" in provided.operator()


@pytest.mark.parametrize(
    ("stage", "code", "hint"),
    [
        ("input", ExitCode.USAGE, "rave user add --help"),
        ("exists", ExitCode.USAGE, "rave user show dev alice"),
        ("absent", ExitCode.USAGE, "rave user list dev"),
        ("provider", ExitCode.NOT_READY, "rave vm status dev"),
        ("request", ExitCode.NOT_READY, "rave vm status dev"),
    ],
)
def test_a_no_has_its_exit_code_and_the_command_that_helps(
    guest: Machine, stage: str, code: ExitCode, hint: str
) -> None:
    guest.answer = VerbRefusedError("dev", "accounts", Refusal(stage, "why"))
    with pytest.raises(RaveError, match="why") as caught:
        accounts.ask("dev", "show", user="alice")
    assert caught.value.exit_code == code
    assert hint in (caught.value.hint or "")


def test_the_first_account_is_whose_command_it_is(
    guest: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accounts, "operator", lambda: "Alice.L@here")
    guest.answer = {"users": [], "changed": True, "user": ALICE, "password": PASSWORD}
    answer = accounts.first("dev")
    assert answer is not None
    assert answer.password == PASSWORD
    assert [one["action"] for one in guest.asked] == ["list", "add"]
    assert guest.asked[-1]["arguments"] == {
        "user": "alice.l", "name": "alice.l", "email": "", "groups": ["admin"], "password": True,
    }  # fmt: skip


def test_where_there_are_accounts_no_first_one_is_made(guest: Machine) -> None:
    guest.answer = {"users": [ALICE]}
    assert accounts.first("dev") is None
    assert len(guest.asked) == 1


@given(text=st.text(max_size=60))
def test_any_account_of_the_host_has_a_name_that_the_guest_takes(text: str) -> None:
    assert NAME.fullmatch(accounts._as_user(text))


@pytest.mark.parametrize("answer", [{"user": "alice"}, {"users": [{}]}, {"changed": "perhaps"}])
def test_an_answer_that_is_none_is_a_fault(guest: Machine, answer: dict[str, Any]) -> None:
    guest.answer = answer
    with pytest.raises(RaveError, match="no usable answer") as caught:
        accounts.ask("dev", "list")
    assert caught.value.exit_code == ExitCode.NOT_READY


def test_what_did_not_change_is_told_as_such(guest: Machine) -> None:
    guest.answer = {"changed": False, "user": ALICE}
    assert "is there already" in run("add", "dev", "alice")
    assert "was disabled already" in run("disable", "dev", "alice")
    assert "was enabled already" in run("enable", "dev", "alice")
    guest.answer = {"changed": False}
    assert "there is no account alice" in run("delete", "dev", "alice", "--yes")


def test_accounts_are_a_table_and_groups_are_lines(guest: Machine) -> None:
    guest.answer = {"users": [ALICE]}
    assert "alice\tenabled\tone-time\tstaff\t\tAlice" in run("list", "dev")
    guest.answer = {"users": []}
    assert "rave user add dev USER" in run("list", "dev")
    guest.answer = {"user": ALICE}
    assert run("groups", "dev", "alice").split() == ["staff"]
    assert "one-time" in run("show", "dev", "alice")
    guest.answer = {"changed": True, "user": ALICE | {"groups": ["admin"]}}
    assert run("groups", "dev", "alice", "--add", "admin", "--remove", "staff").split() == ["admin"]
    assert guest.asked[-1]["arguments"] == {"user": "alice", "add": ["admin"], "remove": ["staff"]}


def test_deleting_asks_first(guest: Machine) -> None:
    with pytest.raises(RaveError, match="nobody can be asked"):
        run("delete", "dev", "alice")
    assert guest.asked == []


def test_sessions_that_go_on_are_told_with_what_ends_them() -> None:
    ended, left = AccountAnswer(), AccountAnswer(untold=("matrix", "wiki"))
    assert sessions_left("alice", ended, "rave user disable dev alice") == ""
    assert left.document("dev") == {
        "machine": "dev",
        "changed": False,
        "untold": ["matrix", "wiki"],
    }
    said = sessions_left("alice", left, "rave user disable dev alice")
    assert said.startswith("matrix and wiki could not be told: sessions of alice there go on")
    assert said.endswith("Once it answers: rave user disable dev alice")
    assert sessions_left("alice", left).endswith("until they run out.")
