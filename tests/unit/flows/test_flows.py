"""The journeys: which image and which machine they take, what they tell, what they leave."""

from __future__ import annotations

import json
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

import pytest

from rave_cli.errors import ExitCode, RaveError
from rave_cli.flows import accounts, prove, secure, templates, up
from rave_cli.flows import image as images
from rave_cli.flows import machine as machines
from rave_cli.flows import plan as plans
from rave_cli.flows.accounts import Account, AccountAnswer
from rave_cli.flows.events import Event, Step, step
from rave_cli.flows.machine import NewMachine
from rave_cli.images import build as builds
from rave_cli.images.events import BuildEvent
from rave_cli.machines import lifecycle
from rave_cli.machines.guest import command, ssh
from rave_cli.machines.guest.readiness import NotReadyError
from rave_cli.machines.names import stored_names
from rave_cli.machines.spec import locate
from rave_cli.profiles.catalog import parse
from rave_cli.profiles.names import BAKED
from tests.unit.machines.conftest import HEALTHY, Host, running_fakes

if TYPE_CHECKING:
    from pathlib import Path

    from rave_cli.images.manifest import Image
    from rave_cli.machines.spec import Machine
    from rave_cli.profiles.catalog import Plan
    from rave_cli.settings import Settings
    from tests.unit.machines.fake_sshd import FakeSshd


def kinds(told: list[Event]) -> list[tuple[str, str]]:
    return [(event.kind, event.step) for event in told]


@dataclass
class Builds:
    """The calls of the build, and the image that is there without one."""

    calls: list[dict[str, Any]] = field(default_factory=list)
    existing: Image | None = None


@pytest.fixture
def built(image: Image, monkeypatch: pytest.MonkeyPatch) -> Builds:
    """A build that always makes the same image."""
    found = Builds()

    def build(_plan: Plan, **options: Any) -> Image:
        found.calls.append(options)
        options["on_event"](BuildEvent("building it", 1, 2))
        options["on_event"](BuildEvent("using a lock of our own", notice=True))
        return image

    monkeypatch.setattr(builds, "build_image", build)
    monkeypatch.setattr(builds, "existing_image", lambda _plan: found.existing)
    return found


# --- events --------------------------------------------------------------------------------------


def test_a_step_has_a_beginning_and_an_end_however_it_ends(told: list[Event]) -> None:
    with step(told.append, "image", "Building") as doing:
        doing.progress("half", 1, 2)
    with pytest.raises(KeyboardInterrupt), step(told.append, "start", "Starting"):
        raise KeyboardInterrupt
    assert told == [
        Event("begin", "image", "Building"),
        Event("progress", "image", "half", 1, 2),
        Event("end", "image", "Building"),
        Event("begin", "start", "Starting"),
        Event("failed", "start", "Starting"),
    ]


def test_an_event_is_a_value_that_any_reader_can_write_down(told: list[Event]) -> None:
    Step("check", told.append).progress("redis.ping", 3, 107, status="pass")
    assert asdict(told[0]) == {
        "kind": "progress", "step": "check", "text": "redis.ping", "done": 3, "total": 107,
        "status": "pass",
    }  # fmt: skip


# --- get an image --------------------------------------------------------------------------------


def test_in_a_checkout_the_image_is_what_it_describes(
    plan: Plan, inside: Settings, built: Builds, told: list[Event], image: Image
) -> None:
    assert images.get(plan, inside, mode="safe", on_event=told.append) == image
    assert built.calls[0]["flake"] == inside.flake
    assert told == [
        Event("begin", "image", "Building demo-debian"),
        Event("progress", "image", "building it", 1, 2),
        Event("warning", "image", "using a lock of our own"),
        Event("end", "image", "Building demo-debian"),
    ]


def test_an_image_that_is_there_will_do_for_a_machine(
    plan: Plan, inside: Settings, built: Builds, told: list[Event], image: Image
) -> None:
    built.existing = image
    found = images.get(plan, inside, mode="safe", on_event=told.append, current=False)
    assert (found, built.calls, told) == (image, [], [])


def test_outside_of_a_checkout_the_last_image_is_taken_and_none_is_named(
    plan: Plan, outside: Settings, image: Image, told: list[Event], built: Builds
) -> None:
    with pytest.raises(RaveError, match="no flake found"):
        images.get(plan, outside, mode="safe", on_event=told.append)
    with pytest.raises(RaveError, match="there is no image of demo on debian yet"):
        images.built(plan)
    built.existing = image
    assert images.get(plan, outside, mode="safe", on_event=told.append) == image


# --- get a running machine -----------------------------------------------------------------------


@pytest.mark.parametrize("wrong", [{"name": "../x"}, {"ports": ("22",)}, {"ports": ("1:5432",)}])
def test_a_machine_that_cannot_be_is_refused_before_it_costs_anything(
    plan: Plan, wrong: dict[str, Any]
) -> None:
    with pytest.raises(RaveError) as caught:
        NewMachine(plan, "safe", **({"name": "demo"} | wrong))
    assert caught.value.exit_code == ExitCode.USAGE


def test_a_launch_makes_starts_and_tells(
    host: Host, plan: Plan, inside: Settings, built: Builds, told: list[Event]
) -> None:
    host.behave(steps=[{"console": "Kernel panic - not syncing: oh\r\n"}])
    with pytest.raises(RaveError, match="did not become ready"):
        machines.launch(NewMachine(plan, "safe", "web"), inside, on_event=told.append)
    assert kinds(told) == [
        ("begin", "image"), ("progress", "image"), ("warning", "image"), ("end", "image"),
        ("note", "create"), ("begin", "start"), ("progress", "start"), ("progress", "start"),
        ("failed", "start"),
    ]  # fmt: skip
    assert stored_names() == ["web"]
    assert running_fakes(host.bin) == []


def test_a_machine_that_is_there_is_taken_up(
    machine: Machine, plan: Plan, image: Image, told: list[Event]
) -> None:
    wanted = NewMachine(plan, "safe", "demo")
    assert templates.take_up(wanted, image, fresh=False, on_event=told.append) == machine
    assert told == []
    newer = replace(image, sha256="1" * 64)
    assert templates.take_up(wanted, newer, fresh=False, on_event=told.append) == machine
    assert "rave vm update demo" in told[-1].text
    again = templates.take_up(wanted, newer, fresh=True, on_event=told.append)
    assert again.spec.uuid != machine.spec.uuid
    assert again.spec.image == newer


def test_a_machine_of_another_base_is_not_taken_for_this_one(
    machine: Machine, image: Image, told: list[Event]
) -> None:
    other = parse(BAKED.read_bytes()).plan("demo", "nixos")
    with pytest.raises(RaveError, match="exists already, with profile demo on debian") as caught:
        templates.take_up(
            NewMachine(other, "safe", "demo"), image, fresh=False, on_event=told.append
        )
    assert caught.value.exit_code == ExitCode.USAGE


@pytest.mark.parametrize(
    "asked", [{"ports": ("8443:3002",)}, {"origin": "https://rave.example.org"}]
)
def test_another_port_or_origin_of_a_machine_that_is_there_is_refused(
    machine: Machine, plan: Plan, image: Image, told: list[Event], asked: dict[str, Any]
) -> None:
    wanted = NewMachine(plan, "safe", "demo", **asked)
    with pytest.raises(RaveError, match="exists already, with public origin") as caught:
        templates.take_up(wanted, image, fresh=False, on_event=told.append)
    assert caught.value.exit_code == ExitCode.USAGE
    assert "fresh" not in str(caught.value.hint)
    made = templates.take_up(
        replace(wanted, name="other"), image, fresh=False, on_event=told.append
    )
    assert templates.take_up(
        replace(wanted, name="other"), image, fresh=False, on_event=told.append
    ) == made  # fmt: skip
    assert made.spec.public_origin in ("https://rave.localhost:8443", "https://rave.example.org")


def test_a_bad_origin_is_refused_before_anything_is_built(plan: Plan) -> None:
    with pytest.raises(RaveError, match="--origin"):
        NewMachine(plan, "safe", "demo", origin="http://rave.example.org")


@pytest.mark.parametrize(
    ("reason", "calls"), [("guest-locked-up", 2), ("kernel-panic", 1), (None, 1)]
)
def test_a_boot_that_was_stuck_is_begun_once_more_and_no_other(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, reason: str | None, calls: int
) -> None:
    """An emulated processor hung in systemd for 104 seconds, once in thirty boots."""
    begun: list[bool] = []
    told: list[Event] = []

    def start(*_: Any, fresh_system: bool = False, **__: Any) -> Any:
        begun.append(fresh_system)
        if len(begun) == 2:
            return ready()
        fault = NotReadyError("demo", "stopped at stage systemd", "look")
        fault.reason = reason
        raise fault

    monkeypatch.setattr(lifecycle, "start", start)
    with pytest.raises(NotReadyError) if calls == 1 else nullcontext():
        machines.boot(machine, on_event=told.append, fresh_system=True)
    # The system that was renewed is the new one.
    assert begun == [True, False][:calls]
    assert [e.kind for e in told].count("warning") == calls - 1


@pytest.mark.parametrize("fault", [KeyboardInterrupt, RuntimeError])
@pytest.mark.usefixtures("host")
def test_a_fresh_machine_is_gone_however_its_run_ends(
    plan: Plan, image: Image, told: list[Event], monkeypatch: pytest.MonkeyPatch, fault: type[Any]
) -> None:
    def work() -> None:
        with machines.fresh(
            plan, image, mode="safe", network="isolated", on_event=told.append
        ) as made:
            assert stored_names() == [made.name]
            raise fault

    monkeypatch.setattr(lifecycle, "start", lambda *_args, **_options: ready())
    with pytest.raises(fault):
        work()
    assert stored_names() == []
    assert kinds(told) == [("begin", "start"), ("end", "start")]


def test_a_fresh_machine_that_does_not_come_up_says_how_to_get_one_to_look_into(
    host: Host, plan: Plan, image: Image, told: list[Event]
) -> None:
    host.behave(steps=[{"console": "Kernel panic - not syncing: oh\r\n"}])
    with (
        pytest.raises(RaveError, match="the guest's kernel panicked: oh") as caught,
        machines.fresh(plan, image, mode="safe", network="isolated", on_event=told.append),
    ):
        pass
    assert caught.value.hint is not None
    assert "this machine is deleted" in caught.value.hint
    assert "--keep-running" in caught.value.hint
    assert stored_names() == []


@pytest.mark.usefixtures("built")
def test_one_that_does_not_come_up_leaves_an_aborted_run(
    host: Host, plan: Plan, inside: Settings, told: list[Event], tmp_path: Path
) -> None:
    host.behave(steps=[{"console": "Kernel panic - not syncing: <oh>\r\n"}])
    asked = prove.Asked(output=tmp_path / "artifacts")
    with pytest.raises(RaveError, match="panicked") as caught:
        prove.prove_fresh(
            plan, inside, mode="safe", network="isolated", on_event=told.append, asked=asked
        )
    assert caught.value.exit_code == ExitCode.NOT_READY
    (transcript,) = asked.output.glob("*Z.json")
    (junit,) = asked.output.glob("*.junit.xml")
    document = json.loads(transcript.read_text())
    assert document["overall_status"] == "ABORTED"
    assert "panicked: <oh>" in document["abort_reason"]
    assert "panicked: &lt;oh&gt;" in junit.read_text()
    assert caught.value.detail[-2:] == (f"transcript: {transcript}", f"junit: {junit}")
    assert not list(asked.output.glob("*.sshsig"))
    assert stored_names() == []


@pytest.mark.usefixtures("built")
def test_where_no_transcript_can_be_written_the_machines_own_fault_is_told_all_the_same(
    host: Host, plan: Plan, inside: Settings, told: list[Event], tmp_path: Path
) -> None:
    host.behave(steps=[{"console": "Kernel panic - not syncing: oh\r\n"}])
    (tmp_path / "file").write_text("in the way")
    asked = prove.Asked(output=tmp_path / "file")
    with pytest.raises(RaveError, match="panicked") as caught:
        prove.prove_fresh(
            plan, inside, mode="safe", network="isolated", on_event=told.append, asked=asked
        )
    assert caught.value.detail[-1].startswith("no transcript: ")


@pytest.mark.usefixtures("built")
def test_to_simulate_the_run_of_a_fresh_machine_starts_none_and_leaves_none(
    host: Host, plan: Plan, inside: Settings, told: list[Event], tmp_path: Path
) -> None:
    host.behave(steps=[{"console": "Kernel panic - not syncing: it is started\r\n"}])
    asked = prove.Asked(output=tmp_path / "artifacts")
    found = prove.simulate_fresh(
        plan, inside, mode="safe", network="isolated", on_event=told.append, asked=asked
    )
    assert (found.status, found.count()["skip"]) == ("ABORTED", len(found.results))
    assert not list(asked.output.glob("*.sshsig"))
    assert not prove.passed(found)
    assert stored_names() == []


def ready() -> Any:
    class Ready:
        notes = ()
        joined = False

    return Ready()


def test_a_stop_tells_each_rung(
    machine: Machine, sshd: FakeSshd, host: Host, told: list[Event]
) -> None:
    host.behave(powerdown=False, steps=HEALTHY)
    machines.start(machine, on_event=told.append)
    report = machines.stop(machine, on_event=told.append, patience=0.1)
    assert report.rung == "quit"
    assert [e.text for e in told if (e.kind, e.step) == ("progress", "stop")] == ["acpi", "quit"]


# --- secure it, prove it, all of it --------------------------------------------------------------


def test_without_a_secrets_file_nothing_is_installed_and_that_is_said(
    machine: Machine, plan: Plan, told: list[Event]
) -> None:
    assert secure.install_if_any(machine, plan, None, on_event=told.append) is None
    assert kinds(told) == [("warning", "secrets"), ("note", "secrets")]


def test_a_secrets_file_that_was_named_must_be_there(
    machine: Machine, plan: Plan, told: list[Event]
) -> None:
    missing = machine.directory / "none.yaml"
    with pytest.raises(RaveError):
        secure.install_if_any(machine, plan, missing, on_event=told.append)
    assert kinds(told)[-1] == ("failed", "secrets")


def test_up_is_the_four_journeys_one_after_another(
    plan: Plan, inside: Settings, monkeypatch: pytest.MonkeyPatch, told: list[Event]
) -> None:
    done: list[str] = []
    kept: list[bool] = []
    used: list[tuple[str, object]] = []

    def journey(name: str, result: Any) -> Any:
        def go(*_args: Any, **options: Any) -> Any:
            done.append(name)
            kept.extend(value for key, value in options.items() if key == "keep_running")
            used.extend((name, o) for key, o in options.items() if key == "session")
            return result

        return go

    class Made:
        added = ("a",)

    monkeypatch.setattr(images, "get", journey("image", "an image"))

    class Running:
        machine = "a machine"

    ready = Running()
    monkeypatch.setattr(templates, "bring_up", journey("machine", ready))
    monkeypatch.setattr(secure, "make", journey("make", Made()))
    monkeypatch.setattr(secure, "install", journey("install", "installed"))
    monkeypatch.setattr(prove, "prove", journey("prove", None))
    monkeypatch.setattr(ssh, "connect", lambda _: nullcontext("the connection"))
    monkeypatch.setattr(plans, "of", journey("plan", plan))
    catalog = parse(BAKED.read_bytes())
    wanted = NewMachine(plan, "safe", "demo")
    report: Any = up.up(
        wanted, catalog, inside, fresh=False, check=True, on_event=told.append, keep_running=True
    )
    assert kept == [True]
    assert used == [("install", "the connection"), ("prove", "the connection")]
    assert done == ["image", "make", "machine", "plan", "install", "prove"]
    assert (report.image, report.ready, report.installed) == ("an image", ready, "installed")
    assert report.passed


@pytest.mark.parametrize("served", [True, False])
def test_a_warm_machine_has_its_secrets_before_its_services_and_is_logged_in_to_once(
    served: bool, plan: Plan, inside: Settings, monkeypatch: pytest.MonkeyPatch, told: list[Event]
) -> None:
    done: list[tuple[str, object]] = []

    class Made:
        added = ()

    class Running:
        machine = "a machine"

    def bring_up(*_args: Any, on_made: Any, before: Any, on_login: Any, **_options: Any) -> Any:
        on_made("a machine")
        before("a machine")
        done.append(("services", None))
        on_login(nullcontext("the login"))
        return Running()

    def install(*_args: Any, on_event: Any, session: object, packed: Any = None) -> str:
        done.append(("install", session))
        assert (packed is not None and packed() == "packed") is (session == "the channel")
        for kind in ("begin", "progress", "end"):
            on_event(Event(kind, "secrets", "sending"))
        return "installed"

    def note_prove(*_args: Any, session: object, **_options: Any) -> None:
        done.append(("prove", session))

    monkeypatch.setattr(images, "get", lambda *_args, **_options: "an image")
    monkeypatch.setattr(templates, "bring_up", bring_up)
    monkeypatch.setattr(secure, "make", lambda *_args, **_options: Made())
    monkeypatch.setattr(secure, "install", install)
    monkeypatch.setattr(prove, "prove", note_prove)
    monkeypatch.setattr(up, "pack_for", lambda *_args: "packed")
    channel = "the channel" if served else None
    monkeypatch.setattr(command, "connect", lambda _: nullcontext(channel))
    monkeypatch.setattr(plans, "of", lambda *_args, **_options: plan)
    catalog = parse(BAKED.read_bytes())
    wanted = NewMachine(plan, "safe", "demo")
    report: Any = up.up(wanted, catalog, inside, fresh=False, check=True, on_event=told.append)
    assert report.installed == "installed"
    early = [("install", "the channel"), ("services", None)]
    late = [("services", None), ("install", "the login")]
    assert done == [*(early if served else late), ("prove", "the login")]
    shown = [(event.kind, event.step) for event in told if event.text == "sending"]
    assert shown == [("progress", "start")] or not served


@pytest.mark.parametrize(
    "case", [("development", True, True), ("development", False, False), ("demo", True, False)]
)
def test_a_first_account_is_made_last_and_where_its_password_is_seen(
    case: tuple[str, bool, bool], inside: Settings, told: list[Event],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    profile, asked, made = case
    done: list[str] = []

    def doing(name: str, result: Any) -> Any:
        def do(*_args: Any, **_options: Any) -> Any:
            done.append(name)
            return result

        return do

    class Ready:
        class machine:  # noqa: N801 - an attribute
            name = "dev"

        document = "running"

    class Done:
        added = ()

        def document(self) -> str:
            return "done"

    plan = parse(BAKED.read_bytes()).plan(profile, "debian")
    answer = AccountAnswer(changed=True, user=Account(
        id="me", name="me", email="", groups=(), state="enabled", password="one-time", created="",
    ), password="shown-once")  # fmt: skip
    monkeypatch.setattr(images, "get", doing("image", Done()))
    monkeypatch.setattr(templates, "bring_up", doing("machine", Ready()))
    monkeypatch.setattr(secure, "make", doing("make", Done()))
    monkeypatch.setattr(secure, "install", doing("install", Done()))
    monkeypatch.setattr(prove, "prove", doing("prove", None))
    monkeypatch.setattr(ssh, "connect", lambda _: nullcontext("the connection"))
    monkeypatch.setattr(plans, "of", doing("plan", plan))
    monkeypatch.setattr(accounts, "first", lambda name: doing(f"first of {name}", answer)())
    report = up.up(
        NewMachine(plan, "safe", "dev"), parse(BAKED.read_bytes()), inside, fresh=False, check=True,
        on_event=told.append, first_user=asked,
    )  # fmt: skip
    assert (done[-1] == "first of dev") is made
    assert report.document()["firstUser"] == ("me" if made else None)
    assert "shown-once" not in f"{report!r} {report.document()} {told}"


def test_no_machine_is_made_by_looking(plan: Plan, image: Image, host: Host) -> None:
    argv = machines.command(locate(NewMachine(plan, "safe", "demo").spec(image)))
    assert argv[0] == "qemu-system-x86_64"
    assert stored_names() == []
