"""`rave bench`: figures that add up, and measures that leave things as they were."""

from __future__ import annotations

import json
from contextlib import nullcontext
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rave_cli import bench
from rave_cli.bench.figures import FEW, LEVELS, bar, plot, shares, summary
from rave_cli.bench.measures import MEASURES, BenchSubject, Measure
from rave_cli.commands.bench import KINDS
from rave_cli.errors import ExitCode, RaveError
from rave_cli.flows import image as images
from rave_cli.flows import machine as machines
from rave_cli.flows import plan as plans
from rave_cli.flows import prove, templates
from rave_cli.machines import lifecycle, store
from rave_cli.machines.guest import connection
from rave_cli.machines.qemu import accelerator
from rave_cli.show import Show
from rave_cli.views.bench import figure_lines, share_lines
from tests.unit.machines.conftest import (
    TCG,
    host,
    image,
    machine,
    plan,
    running_fakes,
    short_home,
    sshd,
)

if TYPE_CHECKING:
    from rave_cli.bench import Figures
    from rave_cli.images.manifest import Image
    from rave_cli.machines.spec import Machine
    from rave_cli.profiles.catalog import Plan
    from tests.unit.machines.conftest import Host
    from tests.unit.machines.fake_sshd import FakeSshd

__all__ = ["host", "image", "machine", "plan", "short_home", "sshd"]

SECONDS = st.floats(min_value=0, max_value=1e6)


@given(st.lists(SECONDS, min_size=1, max_size=50))
def test_percentiles_lie_between_the_extremes(values: list[float]) -> None:
    found = summary(values)
    assert found["min"] <= found["p50"] <= found["p95"] <= found["max"]
    assert found["n"] == len(values)


@given(st.lists(SECONDS, min_size=1, max_size=50), st.booleans())
def test_a_plot_has_a_letter_for_each_round_and_its_extremes_at_the_ends(
    values: list[float], few: bool
) -> None:
    shown, levels = plot(values, few=few), FEW if few else LEVELS
    assert len(shown) == len(values)
    assert set(shown) <= set(levels)
    assert shown[values.index(min(values))] == levels[0]
    if max(values) > min(values):
        assert shown[values.index(max(values))] == levels[-1]
    assert shown.isascii() or not few


@given(st.floats(min_value=-1, max_value=2), st.integers(min_value=1, max_value=60))
def test_a_bar_is_never_empty_nor_longer_than_its_place(share: float, width: int) -> None:
    assert 1 <= len(bar(share, width)) <= max(1, width)


def test_shares_are_of_the_total_alone() -> None:
    assert shares({"a": 1.0, "b": 3.0, "total": 4.0}, "total") == {"a": 0.25, "b": 0.75}
    assert shares({"a": 1.0}, None) == shares({"a": 1.0}, "total") == {}


def figures() -> Figures:
    rounds = [{"kernel": 1.0, "services": 3.0, "total": 4.0}, {"kernel": 2.0, "services": 4.0,
              "total": 6.0}]  # fmt: skip
    return bench.Figures(Measure("boot", "a boot", lambda _: {}), rounds)


@pytest.fixture(autouse=True)
def no_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    """What can run a guest here is no question of these tests; a busy host answers late."""
    monkeypatch.setattr(accelerator, "detect", lambda **_: TCG)


def test_figures_read_as_a_table_and_as_where_the_time_goes() -> None:
    table = "\n".join(map(str, figure_lines(Show(), figures())))
    assert "kernel\t1.500\t2.000\t1.000\t2.000" in table
    explained = "\n".join(map(str, share_lines(Show(), figures())))
    assert "services\t3.500\t70 %" in explained
    assert "total" not in explained


def test_the_document_has_the_facts_without_which_figures_are_worth_nothing() -> None:
    document = json.loads(json.dumps(figures().document))
    assert document["seconds"]["total"]["p50"] == 5.0
    assert document["seconds"]["total"]["rounds"] == [4.0, 6.0]
    assert document["shares"] == {"kernel": 0.3, "services": 0.7}
    assert {"cpu", "cores", "memoryMiB", "load", "kernel"} <= set(document["host"])
    assert document["accelerator"]["kind"] == "tcg"


def test_the_command_knows_every_measure() -> None:
    assert set(MEASURES) == set(KINDS)


def subject(machine: Machine | None, plan: Plan) -> BenchSubject:
    from rave_cli import settings

    return BenchSubject(machine, lambda: plan, "safe", settings.load())


def carried_out(name: str, machine: Machine | None, plan: Plan, rounds: int = 2) -> Figures:
    return bench.measure(name, subject(machine, plan), rounds=rounds, on_event=lambda _: None)


@pytest.mark.parametrize("name", [name for name, found in MEASURES.items() if found.of_machine])
def test_what_needs_a_machine_says_so(plan: Plan, home: object, name: str) -> None:
    with pytest.raises(RaveError, match="on a running machine") as caught:
        carried_out(name, None, plan)
    assert caught.value.exit_code is ExitCode.USAGE
    assert f"rave bench {name} --vm" in str(caught.value.hint)


@pytest.fixture
def fresh(
    host: Host, image: Image, sshd: FakeSshd, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Machines that are made answer with the keys of the one that the server knows."""
    monkeypatch.setattr(images, "built", lambda _plan: image)
    monkeypatch.setattr("secrets.token_hex", lambda _count: "ab")

    def create(spec: object) -> Machine:
        assert getattr(spec, "name", "").startswith("bench-")
        return machine

    monkeypatch.setattr(store, "create", create)
    monkeypatch.setattr(lifecycle, "delete", lambda name, **_: deleted.append(name))
    deleted.clear()


deleted: list[str] = []


def test_a_boot_is_measured_stage_by_stage_on_a_machine_that_is_gone_afterwards(
    host: Host, plan: Plan, fresh: None
) -> None:
    found = carried_out("boot", None, plan)
    assert len(found.rounds) == 2
    assert {"create", "qemu", "services", "ssh-auth", "total", "stop"} <= set(found.parts)
    for one in found.rounds:
        stages = sum(one[name] for name in one if name not in ("create", "stop", "total"))
        assert stages == pytest.approx(one["total"], abs=0.01)
    assert deleted == ["bench-ab", "bench-ab"]
    assert running_fakes(host.bin) == []


def test_a_boot_that_fails_leaves_no_machine_either(host: Host, plan: Plan, fresh: None) -> None:
    host.behave(dies=1)
    with pytest.raises(RaveError):
        carried_out("boot", None, plan)
    assert deleted == ["bench-ab"]


def test_a_warm_start_is_measured_too_and_leaves_no_machine(
    plan: Plan, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def warm(wanted: machines.NewMachine, *_: object, **__: object) -> object:
        asked.append(wanted.name)
        stages = (SimpleNamespace(name="qemu", seconds=0.1), SimpleNamespace(name="x", seconds=0.4))
        return SimpleNamespace(stages=stages)

    monkeypatch.setattr(templates, "launch", warm)
    monkeypatch.setattr(store, "load", lambda _name: machine)
    session = SimpleNamespace(run=lambda *_, **__: asked.append("command"))
    monkeypatch.setattr(connection, "connect", lambda _machine: nullcontext(session))
    monkeypatch.setattr(lifecycle, "start", lambda *_, **__: asked.append("ready"))
    found = carried_out("warm", None, plan, rounds=1)
    # One round makes the template and does not count.
    assert asked[1:3] == ["command", "ready"]
    assert len(asked) == 6
    assert found.rounds[0]["x"] == pytest.approx(0.3)
    assert found.parts == ["create", "qemu", "x", "first command", "ready", "total", "stop"]


def test_a_command_is_measured_with_and_without_python_s_start(
    machine: Machine, plan: Plan, sshd: FakeSshd
) -> None:
    sshd.handler = lambda _command, _data: (0, b"", b"")
    lifecycle.start(machine, on_stage=lambda _stage: None)
    found = carried_out("exec", machine, plan, rounds=1)
    assert found.parts == ["connect", "true", "rave vm exec", "rave --version"]
    assert found.seconds("rave vm exec")[0] > found.seconds("rave --version")[0]


def test_a_smoke_run_that_finds_something_is_no_measurement(
    machine: Machine, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = SimpleNamespace(status="FAILURE", results=())
    monkeypatch.setattr(prove, "prove", lambda *_, **__: failed)
    monkeypatch.setattr(plans, "of", lambda *_, **__: plan)
    with pytest.raises(RaveError, match="found something") as caught:
        carried_out("smoke", machine, plan, rounds=1)
    assert caught.value.exit_code is ExitCode.CHECK_FAILED
