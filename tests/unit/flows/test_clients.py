"""Clients of single sign-on from the host: shown, and given a new secret in the right order."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from rave_cli.app import cli
from rave_cli.errors import ExitCode, RaveError
from rave_cli.flows import accounts, clients
from rave_cli.machines.guest.call import Refusal
from rave_cli.machines.guest.door import VerbRefusedError
from tests.unit.flows.test_accounts import Machine, guest

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["guest"]

SMOKE = {
    "id": "rave-smoke", "service": "canaille", "redirects": ["https://auth.rave.localhost:1/back"],
    "scopes": ["openid"], "secret": "oidc/smoke-client-secret", "registered": True,
}  # fmt: skip


def run(*words: str) -> str:
    done = CliRunner().invoke(cli, ["oauth", *words], catch_exceptions=False, standalone_mode=False)
    return done.stdout if "--json" in words else done.output


def test_clients_are_a_table_and_a_document(guest: Machine) -> None:
    guest.answer = {"clients": [SMOKE]}
    assert "rave-smoke\tcanaille\tregistered\toidc/smoke-client-secret" in run("clients", "dev")
    assert json.loads(run("clients", "dev", "--json")) == {"machine": "dev", "clients": [SMOKE]}
    assert "scopes    openid" in run("show", "dev", "rave-smoke")
    assert json.loads(run("show", "dev", "rave-smoke", "--json"))["client"] == SMOKE
    guest.answer = {"clients": [SMOKE | {"registered": False}]}
    assert "without secret" in run("clients", "dev")


def test_one_that_there_is_not_is_named_beside_those_there_are(guest: Machine) -> None:
    guest.answer = {"clients": [SMOKE]}
    for words in (("show", "dev", "wiki"), ("rotate", "dev", "wiki")):
        known = r"no client 'wiki' \(it has: rave-smoke(, [a-z, ]+)?\)"
        with pytest.raises(RaveError, match=known) as caught:
            run(*words)
        assert caught.value.exit_code == ExitCode.USAGE
        assert caught.value.hint == "rave oauth clients dev"


def test_a_client_that_is_gone_in_the_guest_has_its_hint(guest: Machine) -> None:
    guest.answer = VerbRefusedError("dev", "accounts", Refusal("absent", "there is no client x"))
    with pytest.raises(RaveError, match="no client x") as caught:
        accounts.ask("dev", "revoke-client", client="x")
    assert caught.value.hint == "rave oauth clients dev"


class Installed:
    """What an installation reports."""

    def document(self) -> dict[str, Any]:
        return {"changed": ["oidc/smoke-client-secret"]}


def test_a_new_secret_is_made_installed_and_what_the_old_one_opened_ends(
    guest: Machine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    done: list[str] = []
    guest.answer = {"clients": [SMOKE], "changed": True}
    monkeypatch.setattr(clients, "renew", lambda _f, _c, names, _k: done.append(f"new {names}"))
    monkeypatch.setattr("rave_cli.flows.clients.identity.load", lambda: None)

    def install(*_: object, **__: object) -> Installed:
        done.append("installed")
        return Installed()

    monkeypatch.setattr("rave_cli.flows.clients.secure.install", install)
    answer = json.loads(run("rotate", "dev", "rave-smoke", "--json", "--file", str(tmp_path / "s")))
    assert done == ["new ('oidc/smoke-client-secret',)", "installed"]
    assert [one["action"] for one in guest.asked] == ["clients", "revoke-client"]
    assert guest.asked[-1]["arguments"] == {"client": "rave-smoke"}
    assert answer == {
        "machine": "dev", "client": "rave-smoke", "secret": "oidc/smoke-client-secret",
        "ended": True, "secrets": {"changed": ["oidc/smoke-client-secret"]},
    }  # fmt: skip


def test_a_machine_that_cannot_be_asked_keeps_its_secret(
    guest: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    guest.answer = VerbRefusedError("dev", "accounts", Refusal("provider", "it starts"))
    monkeypatch.setattr(clients, "renew", lambda *_: pytest.fail("the file was changed"))
    with pytest.raises(RaveError, match="it starts") as caught:
        run("rotate", "dev", "rave-smoke")
    assert caught.value.exit_code == ExitCode.NOT_READY
