"""What the guest reports about an installation is held against the plan."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from rave_cli.errors import ExitCode, RaveError
from rave_cli.machines.guest.door import Door
from rave_cli.process import Completed
from rave_cli.profiles.source import load_catalog
from rave_cli.secrets import install

if TYPE_CHECKING:
    from rave_cli.profiles.catalog import Plan

PLAN = load_catalog(None).plan("demo", "debian")


def report(plan: Plan = PLAN) -> dict[str, Any]:
    """Return the report of a guest on which everything is as the plan says."""
    proven = {name: secret.proof for name, secret in plan.secrets.items() if secret.proof}
    return {
        "changed": list(plan.secrets),
        "secrets": [
            {"name": name, "path": secret.path, "owner": secret.owner, "group": "x", "mode": "0400"}
            for name, secret in plan.secrets.items()
        ],
        "refreshed": [],
        "proofs": [
            {"service": service, "secret": name, "accepted": True, "refused": [], "seconds": 0.1}
            for name, service in proven.items()
        ],
        "seconds": {"decrypt": 0.1},
    }


class Guest:
    """Answers an installation with `text`."""

    def __init__(self, text: str, returncode: int, stderr: bytes) -> None:
        self.done = Completed(("x",), returncode, text.encode(), stderr)

    def run(self, *_: Any, **__: Any) -> Completed:
        return self.done


REQUEST = install.InstallRequest({"identity": "key", "file": "text"}, (), ())


def judge(document: object, returncode: int = 0, stderr: bytes = b"") -> None:
    whole = {"v": 2, "ok": True, "answer": document}
    text = document if isinstance(document, str) else json.dumps(whole)
    door = Door(Guest(text, returncode, stderr), "demo", 2)
    install.check_report("demo", PLAN, install.ask(door, REQUEST, 5))


def refusal(document: object, returncode: int = 0, stderr: bytes = b"") -> RaveError:
    with pytest.raises(RaveError) as caught:
        judge(document, returncode, stderr)
    assert caught.value.exit_code is ExitCode.SECRETS
    assert "demo" in caught.value.message
    assert caught.value.hint
    return caught.value


def test_a_good_report() -> None:
    judge(report())


def test_a_base_without_the_account_gives_the_secret_to_root() -> None:
    document = report()
    for placed in document["secrets"]:
        placed["owner"] = "root"
    judge(document)


@pytest.mark.parametrize("number", range(len(PLAN.secrets)))
def test_a_secret_that_is_not_in_place(number: int) -> None:
    document = report()
    gone = document["secrets"].pop(number)
    assert f"{gone['name']} is not in place" in refusal(document).message


@pytest.mark.parametrize(
    ("field", "value"), [("mode", "0440"), ("mode", "0444"), ("path", "/tmp/x"), ("owner", "nats")]
)
def test_a_secret_in_the_wrong_place(field: str, value: str) -> None:
    document = report()
    placed = next(p for p in document["secrets"] if p["name"] == "redis/password")
    placed[field] = value
    assert "redis/password" in refusal(document).message


def test_a_secret_nobody_asked_for() -> None:
    document = report()
    document["secrets"].append(document["secrets"][0] | {"name": "gitlab/root-password"})
    assert "gitlab/root-password is not in the plan" in refusal(document).message


@pytest.mark.parametrize("number", range(4))
def test_a_service_that_was_not_asked(number: int) -> None:
    document = report()
    gone = document["proofs"].pop(number)
    assert f"{gone['service']} was not asked about {gone['secret']}" in refusal(document).message


def test_a_proof_that_failed_is_none() -> None:
    document = report()
    document["proofs"][0]["accepted"] = False
    assert "was not asked" in refusal(document).message


def test_the_guests_own_refusal() -> None:
    said = json.dumps({"v": 2, "ok": False, "stage": "prove", "error": "redis: it is deaf"})
    error = refusal(said, returncode=1)
    assert "did not take the secrets (prove): redis: it is deaf" in error.message


@pytest.mark.parametrize("text", ["", "garbage", "[]", '{"ok": true}', '{"ok": "yes"}'])
def test_something_else_than_a_report(text: str) -> None:
    error = refusal(text, returncode=127, stderr=b"sudo: rave-guest: command not found")
    assert "did not report on its secrets" in error.message
    assert "exit status 127" in error.message
    assert error.detail == ("sudo: rave-guest: command not found",)


def test_an_answer_that_is_no_report() -> None:
    assert "did not report on its secrets" in refusal({"changed": "much"}).message
