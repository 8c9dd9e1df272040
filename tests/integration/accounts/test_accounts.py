"""Accounts of the real Canaille, through the guest's own code: the operator's commands."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from rave_cli.flows.accounts import Account
from rave_guest import accounts
from rave_guest.refusal import Refused
from rave_guest.services import canaille as service
from rave_platform.adapters.chat.directory import SocketDirectory
from tests import postgres

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.integration.accounts.conftest import Canaille

pytestmark = [pytest.mark.integration, *postgres.NEEDED]

ALICE = {"name": "Alice Liddell", "email": "alice@example.org", "groups": [], "password": True}

# Fails where a transaction of Canaille's waits for somebody to go on with it.
NOTHING_OPEN = """
do $$ begin
    if exists (select from pg_stat_activity where usename = 'canaille' and state like 'idle in %')
    then raise 'a transaction is open'; end if;
end $$
"""


class Operator:
    """Asks as the verb does, with a log of its own."""

    def __init__(self, canaille: Canaille, log: Path) -> None:
        self.log = log
        self._address = str(canaille.control)

    def __call__(self, action: str, user: str | None = None, **more: Any) -> dict[str, Any]:
        wanted = {**({"user": user} if user else {}), **more}
        accounts.check(action, wanted)
        return accounts.CONTRACT.carry_out(
            action, wanted, "me@here",
            lambda act, arguments: service.accounts(act, arguments, self._address), str(self.log),
        )  # fmt: skip

    def written(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.read_text().splitlines()]


@pytest.fixture
def ask(canaille: Canaille, tmp_path: Path) -> Iterator[Operator]:
    operator = Operator(canaille, tmp_path / "rave/accounts.log")
    yield operator
    for known in operator("list")["users"]:
        operator("delete", known["id"])


def test_an_account_is_made_once(ask: Operator) -> None:
    made = ask("add", "alice", **ALICE)
    assert made["changed"]
    assert made["user"] == ask("show", "alice")["user"]
    assert made["user"] | {"created": ""} == {
        "id": "alice", "name": "Alice Liddell", "email": "alice@example.org", "groups": [],
        "state": "enabled", "password": "one-time", "created": "",
    }  # fmt: skip
    # The host reads every field of it, and no other.
    assert Account.model_validate(made["user"]).model_dump(mode="json") == made["user"]
    again = ask("add", "alice", **ALICE)
    assert (again["changed"], "password" in again) == (False, False)


def test_another_account_of_that_name_is_refused(ask: Operator) -> None:
    ask("add", "alice", **ALICE)
    with pytest.raises(Refused, match="another account alice") as caught:
        ask("add", "alice", **ALICE | {"name": "Alice Cooper"})
    assert caught.value.stage == "exists"
    with pytest.raises(Refused, match="has the address alice@example"):
        ask("add", "bob", **ALICE | {"name": "Bob"})
    assert [known["id"] for known in ask("list")["users"]] == ["alice"]


def test_of_two_who_make_one_account_at_once_one_does(ask: Operator) -> None:
    found: list[dict[str, Any]] = []

    def add(name: str) -> None:
        with suppress(Refused):
            found.append(ask("add", "alice", **ALICE | {"name": name}))

    threads = [threading.Thread(target=add, args=(f"Alice {word}",)) for word in "ABCD"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [one["changed"] for one in found] == [True]
    assert len(ask("list")["users"]) == 1


def test_an_account_without_a_password_gets_one_later(ask: Operator) -> None:
    made = ask("add", "alice", **ALICE | {"password": False})
    assert (made["user"]["password"], "password" in made) == ("none", False)
    renewed = ask("reset-password", "alice")
    assert len(renewed["password"]) == 22
    assert renewed["password"] != ask("reset-password", "alice")["password"]


def test_disabling_and_enabling_again_change_nothing(ask: Operator) -> None:
    ask("add", "alice", **ALICE)
    assert [ask("disable", "alice")["changed"] for _ in range(2)] == [True, False]
    assert ask("show", "alice")["user"]["state"] == "disabled"
    assert [ask("enable", "alice")["changed"] for _ in range(2)] == [True, False]
    assert ask("show", "alice")["user"]["state"] == "enabled"


def test_groups_come_and_go_with_their_members(ask: Operator) -> None:
    ask("add", "alice", **ALICE | {"groups": ["staff"]})
    changed = ask("groups", "alice", add=["admin", "staff"], remove=[])
    assert (changed["changed"], changed["user"]["groups"]) == (True, ["admin", "staff"])
    assert not ask("groups", "alice", add=["admin"], remove=["nobody"])["changed"]
    assert ask("groups", "alice", add=[], remove=["admin"])["user"]["groups"] == ["staff"]


def test_deleting_twice_is_no_fault(ask: Operator) -> None:
    ask("add", "alice", **ALICE | {"groups": ["staff"]})
    assert [ask("delete", "alice")["changed"] for _ in range(2)] == [True, False]
    with pytest.raises(Refused, match="no account alice") as caught:
        ask("show", "alice")
    assert caught.value.stage == "absent"


def test_whoever_is_refused_leaves_no_transaction_open(
    ask: Operator, database: postgres.Server
) -> None:
    """The database ended one that was left open after ten minutes, and from then on nobody was
    answered until Canaille was started anew: no command in the chat, no operator.
    """
    with pytest.raises(Refused, match="no account nobody"):
        ask("show", "nobody")
    database.sql(NOTHING_OPEN)
    database.sql("select pg_terminate_backend(pid) from pg_stat_activity where usename='canaille'")
    assert ask("list")["users"] == []


def test_every_change_is_written_down_and_no_password(ask: Operator) -> None:
    words = [ask("add", "alice", **ALICE)["password"], ask("reset-password", "alice")["password"]]
    ask("disable", "alice")
    ask("disable", "alice")
    with pytest.raises(Refused):
        ask("enable", "bob")
    ask("list")
    found = [(line["action"], line["user"], line["result"]) for line in ask.written()]
    assert found == [
        ("add", "alice", "changed"),
        ("reset-password", "alice", "changed"),
        ("disable", "alice", "changed"),
        ("disable", "alice", "unchanged"),
        ("enable", "bob", "refused (absent): there is no account bob"),
    ]
    assert {line["by"] for line in ask.written()} == {"me@here"}
    assert not any(word in ask.log.read_text() for word in words)
    assert ask.log.stat().st_mode & 0o777 == 0o600


def test_no_password_is_in_the_logs_of_canaille_or_postgresql(
    ask: Operator, canaille: Canaille, database: postgres.Server
) -> None:
    password = ask("add", "alice", **ALICE)["password"]
    assert "alice" in database.log
    assert password not in database.log + canaille.log.read_text()


def test_a_provider_that_is_away_is_no_crash(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="does not answer") as caught:
        service.accounts("list", {}, str(tmp_path / "nothing"))
    assert caught.value.stage == "provider"


def test_a_service_may_ask_for_groups_and_for_nothing_else(
    ask: Operator, canaille: Canaille
) -> None:
    ask("add", "alice", **(ALICE | {"groups": ["staff"]}))

    def answer(action: str, user: str) -> dict[str, Any]:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(canaille.groups))
            connection.sendall(json.dumps({"action": action, "arguments": {"user": user}}).encode())
            connection.shutdown(socket.SHUT_WR)
            found: dict[str, Any] = json.loads(connection.makefile().read())
            return found

    def groups(user: str) -> frozenset[str]:
        return asyncio.run(SocketDirectory(canaille.groups, {}).groups(user))

    assert groups("alice") == {"staff"}
    assert groups("nobody") == frozenset()
    assert answer("groups-of", "alice") == {"ok": True, "answer": {"groups": ["staff"]}}
    for action in sorted(accounts.TAKES):
        assert answer(action, "alice") == {"ok": False, "reason": "system", "error": "KeyError"}
    ask("disable", "alice")
    assert groups("alice") == frozenset()
    ask("enable", "alice")
    assert groups("alice") == {"staff"}


def test_a_service_that_cannot_be_told_is_named(ask: Operator) -> None:
    """Nobody is where Synapse and the portal would be."""
    ask("add", "alice", **ALICE)
    for action in ("disable", "disable", "reset-password", "delete"):
        assert ask(action, "alice")["untold"] == ["matrix", "portal"], action


def test_it_goes_on_when_its_database_was_started_anew(
    ask: Operator, database: postgres.Server
) -> None:
    ask("add", "alice", **ALICE)
    database.sql("select pg_terminate_backend(pid) from pg_stat_activity where usename='canaille'")
    assert ask("show", "alice")["user"]["id"] == "alice"
