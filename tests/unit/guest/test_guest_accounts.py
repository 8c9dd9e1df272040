"""The verb accounts: what it takes, who carries it out, and what is written down."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rave_guest import accounts, audit, registry
from rave_guest.refusal import Refused

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

ADD = {"user": "alice", "name": "Alice", "email": "", "groups": [], "password": True}


def refused(action: object, wanted: object) -> Refused:
    with pytest.raises(Refused) as caught:
        accounts.check(action, wanted)
    return caught.value


def test_what_the_commands_send_is_taken() -> None:
    accounts.check("add", ADD)
    accounts.check("add", ADD | {"name": "Zoë 李 O'Neill-Smith", "email": "a.b+c@mail.example.org"})
    accounts.check("groups", {"user": "a-b_c.d9", "add": ["staff"], "remove": []})
    accounts.check("list", {})
    accounts.check("clients", {})
    accounts.check("revoke-client", {"client": "rave-smoke"})


@pytest.mark.parametrize(
    "user",
    ["", "Alice", "1alice", "-alice", "a" * 33, "<b>alice</b>", "alice bob", "alice\n", "alíce",
     "../alice", "alice@here", "alice'--", None, 7, ["alice"]],
)  # fmt: skip
def test_a_name_that_is_none_is_refused(user: object) -> None:
    error = refused("show", {"user": user})
    assert error.stage == "input"
    assert "up to 32" in str(error)


@pytest.mark.parametrize(
    ("key", "value"),
    [("name", "<script>"), ("name", "a" * 101), ("name", ""), ("name", "two\nlines"),
     ("name", "a\x1b[31m"), ("email", "nobody"), ("email", "a@b@c"), ("email", "a b@example.org"),
     ("groups", ["<b>"]), ("groups", "staff"), ("groups", ["x"] * 33), ("password", "yes")],
)  # fmt: skip
def test_bad_facts_of_an_account_are_refused(key: str, value: object) -> None:
    assert refused("add", ADD | {key: value}).stage == "input"


@pytest.mark.parametrize(
    ("action", "wanted"),
    [("sudo", {}), (None, {}), ("list", {"user": "alice"}), ("show", {}), ("show", []),
     ("add", {"user": "alice"}), ("clients", {"client": "x"}), ("revoke-client", {}),
     ("disable", {"user": "alice", "force": True})],
)  # fmt: skip
def test_a_request_that_is_none_is_refused(action: object, wanted: object) -> None:
    assert refused(action, wanted).stage == "request"


@given(st.text())
def test_a_name_that_is_taken_is_safe_wherever_it_stands(name: str) -> None:
    try:
        accounts.check("show", {"user": name})
    except Refused:
        return
    assert name.isascii()
    assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789._-")


def test_the_service_that_fulfils_the_contract_carries_it_out() -> None:
    services = {"redis": {"provides": []}, "canaille": {"provides": ["oidc"]}}
    found = accounts.CONTRACT.provider({"services": services})
    assert found is registry.service("canaille").accounts  # type: ignore[union-attr]
    with pytest.raises(Refused, match="no service that keeps accounts"):
        accounts.CONTRACT.provider({"services": {"redis": {"provides": []}}})


@pytest.mark.parametrize("by", ["", "x" * 201, None])
def test_whoever_asks_says_who_it_is(by: object) -> None:
    with pytest.raises(Refused, match="not said who asks"):
        accounts.CONTRACT.verb({"action": "list", "by": by, "arguments": {}})
    with pytest.raises(Refused, match="has an action"):
        accounts.CONTRACT.verb({"action": "list", "arguments": {}})


def carry_out(log: Path, answer: dict[str, Any] | Exception, action: str = "add") -> Any:
    def provide(_action: str, _wanted: Mapping[str, Any]) -> dict[str, Any]:
        if isinstance(answer, Exception):
            raise answer
        return answer

    return accounts.CONTRACT.carry_out(action, ADD, "me@here", provide, str(log))


def test_a_change_is_written_down_without_its_password(tmp_path: Path) -> None:
    log = tmp_path / "rave/accounts.log"
    carry_out(log, {"changed": True, "password": "open sesame"})
    carry_out(log, {"changed": False})
    with pytest.raises(Refused):
        carry_out(log, Refused("exists", "there is another account alice"))
    with pytest.raises(KeyError):
        carry_out(log, KeyError("x"))
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line["result"] for line in lines] == [
        "changed", "unchanged", "refused (exists): there is another account alice", "failed",
    ]  # fmt: skip
    assert lines[0] | {"time": ""} == {
        "time": "", "action": "add", "by": "me@here", "user": "alice", "name": "Alice",
        "email": "", "groups": [], "result": "changed",
    }  # fmt: skip
    assert "sesame" not in log.read_text()
    assert (log.stat().st_mode & 0o777, log.parent.stat().st_mode & 0o777) == (0o600, 0o700)


def test_what_cannot_be_written_down_is_not_done(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done: list[str] = []

    def provide(_action: str, _wanted: Mapping[str, Any]) -> dict[str, Any]:
        done.append("done")
        return {}

    with pytest.raises(Refused, match="nothing can be written") as caught:
        accounts.CONTRACT.carry_out(
            "delete", {"user": "alice"}, "me", provide,
            str(tmp_path / "file/accounts.log"),
        )  # fmt: skip
    assert (caught.value.stage, done) == ("audit", [])


def test_the_log_has_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "FULL", 500)
    log = tmp_path / "accounts.log"
    for _ in range(20):
        carry_out(log, {"changed": True})
    assert log.stat().st_size < 700
    assert {path.name for path in tmp_path.iterdir()} == {"accounts.log", "accounts.log.1"}


def test_looking_leaves_no_trace(tmp_path: Path) -> None:
    log = tmp_path / "accounts.log"
    carry_out(log, {"users": []}, action="list")
    assert not log.exists()
