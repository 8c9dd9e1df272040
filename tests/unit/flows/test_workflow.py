"""`rave flow hello-world`: what is asked of the guest, what is told meanwhile and at the end."""

from __future__ import annotations

import json
from contextlib import contextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from rave_cli.app import cli
from rave_cli.errors import ExitCode, RaveError
from rave_cli.flows import workflow
from rave_cli.profiles.catalog import parse
from rave_cli.profiles.names import BAKED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from click.testing import Result

CATALOG = parse(BAKED.read_bytes())
TRACE = "ab" * 16


class Guest:
    """A machine whose guest carries out each step, but for those of `odd`."""

    name = machine = "dev"

    def __init__(self) -> None:
        self.profile = "development"
        self.odd: dict[str, str] = {}
        self.told = True
        self.spec = SimpleNamespace(
            profile="development", base="debian", mode="safe", instance_id="i"
        )

    def call(
        self, verb: str, arguments: dict[str, Any], *, timeout: float,
        on_error: Callable[[bytes], None],
    ) -> dict[str, Any]:  # fmt: skip
        assert verb == "probe"
        assert arguments["tells"] is True
        assert timeout >= 900
        results = [self.result(check["id"]) for check in arguments["checks"]]
        for result in results if self.told else []:
            on_error(json.dumps({"told": result}).encode() + b"\n")
        return {"results": results, "facts": {}}

    def result(self, id_: str) -> dict[str, Any]:
        data = {"trace": TRACE} if id_ == "workflow.trace" else {}
        return {
            "id": id_, "status": self.odd.get(id_, "pass"), "detail": f"{id_} \x1b[31mis seen",
            "seconds": 1.0, "attempts": 1, "data": data,
        }  # fmt: skip


@pytest.fixture
def guest(monkeypatch: pytest.MonkeyPatch) -> Guest:
    guest = Guest()

    @contextmanager
    def connect(_machine: object) -> Iterator[None]:
        yield None

    monkeypatch.setattr("rave_cli.machines.store.load", lambda _name: guest)
    monkeypatch.setattr(
        "rave_cli.flows.plan.of",
        lambda machine, *_, **__: CATALOG.plan(guest.profile, machine.spec.base),
    )
    monkeypatch.setattr("rave_cli.flows.workflow.connection.connect", connect)
    monkeypatch.setattr("rave_cli.flows.workflow.Door.of", lambda _machine, _session: guest)
    return guest


def run(*words: str) -> Result:
    done = CliRunner().invoke(
        cli, ["flow", "hello-world", "--machine", "dev", *words], standalone_mode=False
    )
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done


def test_each_step_is_told_as_it_ends_and_all_of_them_at_the_end(guest: Guest) -> None:
    guest.odd = {"workflow.sandbox": "skip"}
    done = run()
    assert done.return_value == ExitCode.OK
    for step in ("command", "project", "code", "clean"):
        assert f"workflow.{step} " in done.stderr
        assert f"workflow.{step} " in done.stdout
    assert "\x1b[31m" not in done.stdout + done.stderr
    assert "dev: 9 of 10 steps passed" in done.stdout
    assert f"rave trace show {TRACE} --vm dev" in done.stdout


@pytest.mark.parametrize("status", ["fail", "error"])
def test_a_step_that_fails_ends_it_with_1(guest: Guest, status: str) -> None:
    guest.odd = {"workflow.approval": status}
    done = run("--json")
    assert done.return_value == ExitCode.CHECK_FAILED
    document = json.loads(done.stdout)
    assert (document["machine"], document["passed"]) == ("dev", False)
    statuses = {one["id"]: one["status"] for one in document["steps"]}
    assert statuses["workflow.approval"] == status
    assert list(statuses) == [
        f"workflow.{name}"
        for name in ("command", "project", "code", "request", "tests", "sandbox", "notification",
                     "approval", "trace", "clean")
    ]  # fmt: skip


def test_a_guest_of_before_that_tells_nothing_meanwhile_is_heard_at_the_end(guest: Guest) -> None:
    guest.told = False
    assert run().return_value == ExitCode.OK


@pytest.mark.parametrize(("profile", "base"), [("demo", "debian"), ("development", "nixos")])
def test_a_machine_without_agents_is_told_so(guest: Guest, profile: str, base: str) -> None:
    guest.profile = profile
    guest.spec.base = base
    with pytest.raises(RaveError, match=f"{profile} on {base} carries no chat-bridge, agents"):
        run()


def test_it_is_what_the_smoke_run_asks(guest: Guest) -> None:
    plan = CATALOG.plan("development", "debian")
    steps = workflow.steps_of(guest, plan)  # type: ignore[arg-type]
    assert {check.phase for check in steps} == {"workflow"}
