"""Which plan a machine goes by, and where its status page is."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NoReturn

import pytest

from rave_cli.app import main
from rave_cli.errors import ExitCode
from rave_cli.flows import plan as plans
from rave_cli.images import carried
from rave_cli.images.build import ImagePlace
from rave_cli.images.manifest import save_image
from rave_cli.machines import lifecycle, store
from rave_cli.views.machine import ready_lines
from tests.unit.machines.fake_sshd import FakeSshd

if TYPE_CHECKING:
    from pathlib import Path

    from rave_cli.flows.events import Event
    from rave_cli.images.manifest import Image
    from rave_cli.machines.spec import Machine
    from rave_cli.profiles.catalog import Plan
    from tests.unit.machines.conftest import Host


@pytest.fixture
def yesterday(plan: Plan) -> Plan:
    """Another plan than today's: a service less, and another port of the status page."""
    ports = [p.model_copy(update={"port": 8443}) if p.name == "status" else p for p in plan.exposed]
    services = {id_: service for id_, service in plan.services.items() if id_ != "redis"}
    return plan.model_copy(update={"exposed": tuple(ports), "services": services})


@pytest.fixture
def older(yesterday: Plan, image: Image, host: Host, tmp_path: Path) -> Machine:
    """A machine of yesterday's image."""
    place = tmp_path / "plan.json"
    carried.write(place, carried.Carried(door=1, plan=yesterday))
    made = store.new_spec(yesterday, replace(image, plan=place), name="demo", mode="safe")
    return store.create(made)


def unasked() -> Plan:
    pytest.fail("today's plan was asked for")


def test_a_machine_goes_by_its_own_plan_without_a_look_at_today_s(
    older: Machine, yesterday: Plan
) -> None:
    events: list[Event] = []
    assert plans.of(older, unasked, on_event=events.append) == yesterday
    assert events == []


def test_a_machine_of_0_1_0_goes_by_the_plan_of_its_image_if_that_has_one(
    machine: Machine, plan: Plan, yesterday: Plan, image: Image
) -> None:
    place = ImagePlace(plan.attr)
    carried.write(place.plan, carried.Carried(door=1, plan=yesterday))
    known = replace(image, plan=place.plan, store_path=str(image.qcow2.parent))
    save_image(known, place.manifest)
    place.out_link.symlink_to(image.qcow2.parent)
    made = replace(machine, spec=replace(machine.spec, image=replace(known, plan=None)))
    events: list[Event] = []
    assert plans.of(made, lambda: plan, on_event=events.append) == yesterday
    assert events == []


def test_a_machine_of_0_1_0_else_goes_by_today_s_and_that_is_told(
    machine: Machine, plan: Plan
) -> None:
    events: list[Event] = []
    assert plans.of(machine, lambda: plan, on_event=events.append) == plan
    assert [event.kind for event in events] == ["note"]
    assert "does not carry its plan" in events[0].text


@pytest.mark.parametrize(
    "words", [("secrets", "install", "demo"), ("smoke", "run", "--vm", "demo")]
)
def test_secrets_and_smoke_go_by_the_machine_s_plan_alone(
    older: Machine, yesterday: Plan, words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Plan] = []

    def note(_machine: Machine, plan: Plan, *_args: object, **_options: object) -> NoReturn:
        asked.append(plan)
        raise KeyboardInterrupt

    monkeypatch.setattr("rave_cli.flows.secure.install", note)
    monkeypatch.setattr("rave_cli.flows.prove.prove", note)
    monkeypatch.setattr("rave_cli.profiles.source.load_catalog", lambda _flake: unasked())
    with pytest.raises(SystemExit) as ended:
        main(list(words))
    assert ended.value.code == ExitCode.INTERRUPTED
    assert asked == [yesterday]


@pytest.mark.parametrize(("carries", "page"), [(True, 8443), (False, 3002)])
def test_the_status_page_is_where_the_machine_s_plan_has_it(
    older: Machine, host: Host, carries: bool, page: int
) -> None:
    if not carries:
        older.plan.unlink()
        spec = older.spec
        forwards = tuple(replace(f, guest=3002) if f.guest == 8443 else f for f in spec.forwards)
        older = replace(older, spec=replace(spec, forwards=forwards))
        store.save(older)
    public = older.login_key.with_suffix(".pub").read_text().split()[1]
    with FakeSshd(older.host_key.read_bytes(), public) as server:
        host.behave(ports={22: server.port, page: 4711})
        ready = lifecycle.start(older, on_stage=lambda _stage: None)
        assert ready.status_port == 4711
        assert any("https://127.0.0.1:4711/" in line for line in ready_lines(ready, secrets="?"))
        lifecycle.kill(older)
