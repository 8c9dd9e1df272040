"""Templates and the machines that are started from them, with a fake QEMU and a fake guest."""

from __future__ import annotations

import json
import os
import signal
import tarfile
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from rave_cli.app import cli
from rave_cli.errors import ExitCode, RaveError
from rave_cli.flows import bundle, templates
from rave_cli.flows.machine import NewMachine
from rave_cli.machines import identity, lifecycle, preflight, status, store, suspend
from rave_cli.machines.guest.session import Session
from rave_cli.machines.qemu import accelerator, processes
from rave_cli.machines.qemu.accelerator import Accelerator
from rave_cli.machines.qemu.argv import qemu_argv
from rave_cli.machines.qemu.qmp import Qmp
from rave_cli.machines.spec import TemplateOrigin, locate
from rave_cli.machines.templates import kept, key, making, pruning, selfhood, warm
from rave_cli.paths import runtime_dir
from rave_cli.views.machine import ready_lines
from tests.disks import labelled
from tests.unit.machines.conftest import TCG, running_fakes
from tests.unit.machines.fake_sshd import FakeSshd
from tests.waiting import CEILING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from rave_cli.flows.events import Event
    from rave_cli.images.manifest import Image
    from rave_cli.machines.guest.readiness import Reached
    from rave_cli.machines.lifecycle import Ready
    from rave_cli.machines.spec import Machine, MachineSpec
    from rave_cli.machines.templates.kept import MachineTemplate
    from rave_cli.profiles.catalog import Plan
    from tests.unit.machines.conftest import Host


def quiet(_stage: Reached) -> None:
    """Nobody is told of a stage."""


@pytest.fixture
def spec(plan: Plan, image: Image) -> MachineSpec:
    # All of it is read for its digest.
    return store.new_spec(plan, image, name="two", mode="safe", memory_mib=256)


@pytest.fixture(autouse=True)
def _no_settling(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(making, "SETTLES", 0.0)


@pytest.fixture
def sshd_of(host: Host, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[FakeSshd]]:
    """Give each machine that is made an sshd with its own keys, which the next QEMU forwards to."""
    servers: list[FakeSshd] = []
    write = identity.write

    def written(machine: Machine) -> None:
        write(machine)
        public = machine.login_key.with_suffix(".pub").read_text().split()[1]
        server = FakeSshd(machine.host_key.read_bytes(), public)
        server.__enter__()
        servers.append(server)
        host.behave(ports={22: server.port, 3002: 9})

    monkeypatch.setattr(identity, "write", written)
    host.behave(channel="serves")
    yield servers
    for server in servers:
        server.__exit__(None, None, None)


@pytest.fixture
def template(spec: MachineSpec, sshd_of: list[FakeSshd]) -> MachineTemplate:
    return making.make(spec, on_stage=quiet)


def started(spec: MachineSpec, template: MachineTemplate) -> Ready:
    machine = warm.create(spec, template)
    return warm.start(machine, template, on_stage=quiet)


def test_a_template_is_disk_memory_and_devices_and_nothing_of_anybody(
    template: MachineTemplate, host: Host
) -> None:
    assert {entry.name for entry in template.place.iterdir()} - {"image"} == {
        "disk.qcow2", "data.qcow2", "memory", "state", "template.json",
    }  # fmt: skip
    assert template.place.stat().st_mode & 0o777 == 0o700
    for name in ("memory", "state", "template.json"):
        assert (template.place / name).stat().st_mode & 0o777 == 0o600
    assert not running_fakes(host.bin)
    assert not kept.drafts()
    assert template.record.services == 2


def test_its_name_and_its_digest_say_what_it_is(
    template: MachineTemplate, spec: MachineSpec
) -> None:
    own = key.key_of(spec, TCG)
    assert template.name == own.name
    assert template.record.key == own
    assert kept.find(own) == template
    assert len(template.record.digest) == 64


def test_a_machine_has_the_templates_data_below_its_own_and_knows_whose_they_were(
    spec: MachineSpec, template: MachineTemplate
) -> None:
    assert template.data is not None
    template.data.write_bytes(labelled("1" * 32))
    files = template.record.files | {kept.DATA: kept.file_of(template.data)}
    changed = replace(template, record=replace(template.record, files=files))
    machine = warm.create(spec, changed)
    assert machine.spec.data_of == "1" * 32
    assert machine.base_data.stat().st_ino == template.data.stat().st_ino
    assert b"base-data.qcow2" in machine.data_disk.read_bytes()
    preflight.check(machine)
    assert key.key_of(machine.spec, TCG) == template.record.key


def test_what_is_one_machines_own_changes_no_key(spec: MachineSpec) -> None:
    other = replace(spec, name="x", uuid="1" * 36, instance_id="2" * 32, network="nat", forwards=())
    assert key.key_of(other, TCG) == key.key_of(spec, TCG)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"memory_mib": 4096}, "command line"), ({"cpus": 1}, "command line"),
        ({"mode": "full"}, "command line"), ({"disk_gib": 40}, "the disk has"),
    ],
)  # fmt: skip
def test_another_size_or_mode_needs_another_template(
    template: MachineTemplate, spec: MachineSpec, changes: dict[str, object], why: str
) -> None:
    other = key.key_of(replace(spec, **changes), TCG)  # type: ignore[arg-type]
    assert kept.find(other) is None
    assert why in kept.why_none(other)


def test_a_machine_starts_from_it_as_itself(
    template: MachineTemplate, spec: MachineSpec, host: Host
) -> None:
    stages: list[Reached] = []
    machine = warm.create(spec, template)
    ready = warm.start(machine, template, on_stage=stages.append)
    assert [stage.name for stage in stages] == [
        "qemu", "itself", "services", "ssh-banner", "ssh-auth",
    ]  # fmt: skip
    assert ready.document["origin"] == "template"
    told = json.loads((host.bin / "become.json").read_text())
    own = machine.spec
    assert (told["instance"], told["hostname"]) == (own.instance_id, "two")
    assert (told["machine_id"], told["mac"]) == (own.machine_id, own.mac)
    found = status.of(machine)
    assert (found.state, found.origin) == ("running", "template")
    assert not machine.restoring.exists()


def test_whoever_does_not_wait_has_a_machine_that_runs_commands_and_services_that_come_up(
    template: MachineTemplate, spec: MachineSpec, host: Host
) -> None:
    stages: list[Reached] = []
    machine = warm.create(spec, template)
    ready = warm.start(machine, template, on_stage=stages.append, wait=False)
    assert [stage.name for stage in stages] == ["qemu", "itself"]
    told = json.loads((host.bin / "become.json").read_text())
    assert told["runs"] is True
    # At least whoever reads how many want a processor does.
    assert told["lull"] >= selfhood.COMES / (os.cpu_count() or 1)
    assert (ready.whole, 22 in ready.ports) == (False, True)
    (first, *_) = ready_lines(ready, secrets=ready.secrets)
    assert first.startswith("machine two answers after ")
    assert first.endswith("its services come up meanwhile: rave vm wait two")
    lifecycle.kill(machine)


def test_a_bundle_of_one_has_all_that_its_qemu_answers_though_it_has_no_balloon(
    template: MachineTemplate, spec: MachineSpec, tmp_path: Path
) -> None:
    started(spec, template)
    done = bundle.make("two", tmp_path / "two.tar.gz", on_event=lambda _event: None)
    with tarfile.open(done.place) as archive:
        (name,) = [name for name in archive.getnames() if name.endswith("machine/qmp.json")]
        said = archive.extractfile(name)
        assert said is not None
        answers = json.load(said)
    assert answers["query-status"]["running"]
    assert "No balloon device" in answers["query-balloon"]["refused"]


def told(host: Host, verb: str) -> dict[str, object]:
    """What the guest was told last."""
    found = json.loads((host.bin / f"{verb}.json").read_text())
    assert isinstance(found, dict)
    return found


def test_one_that_is_put_by_is_itself_and_paused_until_it_is_woken(
    template: MachineTemplate, spec: MachineSpec, host: Host
) -> None:
    host.behave(channel="rehearses")
    machine = warm.create(spec, template)
    waiting = warm.put_by(machine, template, on_stage=quiet)
    assert told(host, "become")["instance"] == spec.instance_id
    assert (told(host, "become")["stays"], told(host, "wake")["stays"]) == (True, True)
    first = told(host, "wake")
    with Qmp.connect(machine.qmp_socket, timeout=CEILING) as monitor:
        assert monitor.execute("query-status", timeout=CEILING)["status"] == "paused"
    assert machine.restoring.exists(), "whoever finds it later does not take it for running"
    warm.go_on(waiting)
    assert not machine.restoring.exists()
    second = told(host, "wake")
    assert (second["runs"], second["stays"]) == (True, False)
    assert second["entropy"] not in (first["entropy"], told(host, "become")["entropy"])
    with Qmp.connect(machine.qmp_socket, timeout=CEILING) as monitor:
        assert monitor.execute("query-status", timeout=CEILING)["status"] == "running"


def test_one_in_which_no_program_runs_is_not_put_by(
    template: MachineTemplate, spec: MachineSpec, host: Host
) -> None:
    machine = warm.create(spec, template)
    with pytest.raises(RaveError) as refused:
        warm.put_by(machine, template, on_stage=quiet)
    assert refused.value.exit_code == ExitCode.NOT_READY
    assert processes.find(machine) is None


def test_whoever_waits_for_it_later_allows_its_services_their_time(
    template: MachineTemplate, spec: MachineSpec, host: Host
) -> None:
    host.behave(wakes=1.0)
    machine = warm.create(spec, template)
    warm.start(machine, template, on_stage=quiet, wait=False)
    # No stage of a boot is ever reported of it: 0.2 s for QEMU, as for a machine that boots, are
    # over long before its services have had their 3 s.
    ready = lifecycle.start(machine, on_stage=quiet, deadline_scale=0.02)
    assert (ready.joined, ready.whole) == (True, True)
    assert ready.document["origin"] == "template"
    lifecycle.kill(machine)


def test_only_a_warm_start_need_not_be_waited_for() -> None:
    words = ["vm", "launch-local", "--profile", "demo", "--base", "debian", "--no-wait"]
    done = CliRunner().invoke(cli, words)
    assert (done.exit_code, "--no-wait is for --warm" in done.output) == (2, True)


def test_no_two_are_told_the_same(
    template: MachineTemplate, spec: MachineSpec, plan: Plan, image: Image, host: Host
) -> None:
    told = []
    for name in ("one", "two", "three"):
        started(store.new_spec(plan, image, name=name, mode="safe", memory_mib=256), template)
        told.append(json.loads((host.bin / "become.json").read_text()))
    for member in ("entropy", "instance", "machine_id", "hostname", "mac"):
        assert len({entry[member] for entry in told}) == 3
    for name in told[0]["credentials"]:
        assert len({entry["credentials"][name] for entry in told}) == 3
    for name in ("key", "chain"):
        assert len({entry["certificate"][name] for entry in told}) == 3


def test_its_memory_is_the_templates_and_its_pages_its_own(
    template: MachineTemplate, spec: MachineSpec
) -> None:
    ready = started(spec, template)
    process = processes.find(ready.machine)
    assert process is not None
    words = " ".join(process.argv)
    assert f"mem-path={template.memory},share=off" in words
    assert "memory-backend=pc.ram" in words
    # It would punch holes into the file below.
    assert "balloon" not in words


def test_a_machine_outlives_its_template(template: MachineTemplate, spec: MachineSpec) -> None:
    ready = started(spec, template)
    assert kept.delete(template.name) >= 0
    assert not kept.names()
    assert ready.machine.base_disk.exists()
    lifecycle.kill(ready.machine)


def test_one_made_of_a_template_can_be_booted_instead(
    template: MachineTemplate, spec: MachineSpec
) -> None:
    machine = warm.create(spec, template)
    ready = lifecycle.start(machine, on_stage=quiet)
    assert ready.document["origin"] == "cold"
    assert status.of(machine).origin == "cold"


def test_one_that_does_not_become_itself_is_not_handed_over(
    template: MachineTemplate, spec: MachineSpec, host: Host
) -> None:
    host.behave(channel="no become")
    with pytest.raises(RaveError, match="does not become") as caught:
        started(spec, template)
    assert caught.value.exit_code == ExitCode.NOT_READY
    assert "to boot it instead: rave vm start two" in caught.value.detail
    machine = store.load("two")
    assert processes.find(machine) is None
    assert not machine.restoring.exists()
    assert lifecycle.start(machine, on_stage=quiet).document["origin"] == "cold"


def test_a_guest_that_is_not_held_makes_no_template(
    spec: MachineSpec, sshd_of: list[FakeSshd], host: Host
) -> None:
    host.behave(channel="no hold")
    with pytest.raises(RaveError, match="does not hold: refused hold"):
        making.make(spec, on_stage=quiet)
    assert not kept.names()
    assert not kept.drafts()
    assert not running_fakes(host.bin)


def test_a_boot_that_fails_makes_no_template_and_says_how_to_look_into_it(
    spec: MachineSpec, sshd_of: list[FakeSshd], host: Host
) -> None:
    host.behave(steps=[{"console": "Kernel panic - not syncing: no\r\n"}])
    with pytest.raises(RaveError, match="panic") as caught:
        making.make(spec, on_stage=quiet)
    assert "rave vm launch-local" in str(caught.value.hint)
    assert not kept.drafts()
    assert not running_fakes(host.bin)


@pytest.mark.parametrize("name", kept.FILES)
def test_one_that_was_changed_starts_nothing(
    template: MachineTemplate, spec: MachineSpec, name: str
) -> None:
    machine = warm.create(spec, template)
    place = template.place / name
    with place.open("r+b") as stream:
        stream.write(b"x")
    os.utime(place, ns=(1, 1))
    for start in (
        lambda: warm.start(machine, template, on_stage=quiet),
        lambda: kept.find(template.record.key),
        lambda: warm.create(replace(spec, name="three"), template),
    ):
        with pytest.raises(
            RaveError, match=f"changed: (its {name}|the disk of)|cannot be used"
        ) as caught:
            start()
        assert caught.value.exit_code == ExitCode.HOST
    assert processes.find(machine) is None


def test_a_change_that_hides_is_found_by_its_digest(template: MachineTemplate) -> None:
    before = template.memory.stat()
    with template.memory.open("r+b") as stream:
        stream.write(b"x")
    os.utime(template.memory, ns=(before.st_atime_ns, before.st_mtime_ns))
    kept.refuse_changed(template)
    with pytest.raises(RaveError, match="its memory has another content"):
        kept.verify(template)


def test_a_machine_whose_base_was_changed_is_not_started(
    template: MachineTemplate, spec: MachineSpec
) -> None:
    machine = warm.create(spec, template)
    os.utime(machine.base_disk, ns=(1, 1))
    with pytest.raises(RaveError, match="was changed: the disk of machine two builds on it"):
        lifecycle.start(machine, on_stage=quiet)
    machine.base_disk.unlink()
    with pytest.raises(RaveError, match="is gone"):
        lifecycle.start(machine, on_stage=quiet)


def test_another_qemu_is_refused_with_the_boot_as_the_way_out(
    template: MachineTemplate, spec: MachineSpec, host: Host
) -> None:
    machine = warm.create(spec, template)
    program = host.bin / "qemu-system-x86_64"
    program.write_text(f"{program.read_text()}\n")
    with pytest.raises(RaveError, match="QEMU is another one") as caught:
        warm.start(machine, template, on_stage=quiet)
    assert caught.value.hint == "rave vm start two boots it"
    assert kept.find(key.key_of(spec, TCG)) is None


def test_one_that_says_another_version_is_refused_too(
    template: MachineTemplate, spec: MachineSpec, host: Host
) -> None:
    host.behave(version=(8, 0, 0))
    with pytest.raises(RaveError, match=r"QEMU is 8\.0\.0"):
        started(spec, template)
    assert processes.find(store.load("two")) is None


@pytest.mark.parametrize(
    ("found", "why"),
    [(Accelerator("kvm", "", 0.01), "the accelerator is kvm, not tcg")],
)
def test_another_accelerator_is_refused(
    template: MachineTemplate,
    spec: MachineSpec,
    monkeypatch: pytest.MonkeyPatch,
    found: Accelerator,
    why: str,
) -> None:
    machine = warm.create(spec, template)
    monkeypatch.setattr(accelerator, "detect", lambda **_: found)
    with pytest.raises(RaveError, match=why):
        warm.start(machine, template, on_stage=quiet)


def test_another_image_is_refused(template: MachineTemplate, spec: MachineSpec) -> None:
    machine = warm.create(spec, template)
    other = replace(machine, spec=replace(spec, image=replace(spec.image, sha256="1" * 64)))
    with pytest.raises(RaveError, match="the image is another one"):
        warm.refuse_misfit(other, template, TCG)


def test_another_base_is_told_that_it_has_none(spec: MachineSpec, host: Host) -> None:
    with pytest.raises(RaveError, match="machines on the base nixos are started cold") as caught:
        key.key_of(replace(spec, base="nixos"), TCG)
    assert caught.value.exit_code == ExitCode.USAGE


def test_two_builders_do_not_meet(spec: MachineSpec, host: Host) -> None:
    name = key.key_of(spec, TCG).name
    kept.folder().mkdir(parents=True)
    with (
        kept.locked(name),
        pytest.raises(RaveError, match="another rave command is making or deleting"),
    ):
        making.make(spec, on_stage=quiet)


def test_a_broken_off_start_is_told_and_booted_instead(
    template: MachineTemplate, spec: MachineSpec
) -> None:
    machine = warm.create(spec, template)
    machine.restoring.write_text("x")
    ready = lifecycle.start(machine, on_stage=quiet)
    assert ready.document["origin"] == "cold"
    assert not machine.restoring.exists()


def test_a_machine_that_is_not_itself_yet_is_neither_suspended_nor_taken_for_running(
    template: MachineTemplate, spec: MachineSpec
) -> None:
    machine = started(spec, template).machine
    machine.restoring.write_text("x")
    machine.stage_file.unlink()
    found = status.of(machine)
    assert (found.state, "rave vm start two" in found.detail) == ("starting", True)
    with pytest.raises(RaveError, match="nothing runs in it yet"):
        suspend.suspend(machine)
    pid = processes.find(machine).pid  # type: ignore[union-attr]
    assert lifecycle.start(machine, on_stage=quiet).pid != pid


def test_one_from_a_template_is_suspended_and_resumed_like_any_other(
    template: MachineTemplate, spec: MachineSpec
) -> None:
    machine = started(spec, template).machine
    suspend.suspend(machine)
    suspend.resume(machine)
    assert status.of(machine).origin == "resumed"


def test_a_record_of_before_says_that_it_was_made_from_its_image(machine: Machine) -> None:
    place = machine.directory / store.RECORD
    document = json.loads(place.read_text())
    document["version"] = 3
    del document["machine"]["template"]
    place.write_text(json.dumps(document))
    assert store.load("demo").spec.template is None


def test_the_commands_tell_of_it(template: MachineTemplate, host: Host) -> None:
    run = CliRunner()
    (told,) = json.loads(run.invoke(cli, ["vm", "template", "list", "--verify", "--json"]).output)
    assert told["name"] == template.name
    assert told["digest"] == template.record.digest
    done = run.invoke(cli, ["vm", "template", "delete", template.name], catch_exceptions=False)
    assert done.exit_code == 0
    assert not kept.names()
    done = run.invoke(cli, ["vm", "template", "delete", template.name])
    assert isinstance(done.exception, RaveError)
    assert done.exception.exit_code == ExitCode.USAGE


def test_the_argv_of_a_machine_of_a_template_is_the_same_booted_or_resumed(
    spec: MachineSpec,
) -> None:
    made = locate(replace(spec, template=TemplateOrigin("0" * 64, (1, 2))))
    assert qemu_argv(made, TCG) != qemu_argv(locate(spec), TCG)
    assert "-object" not in qemu_argv(made, TCG)


def brought_up(wanted: NewMachine, image: Image, told: list[Event], *, cold: bool = False) -> Ready:
    return templates.bring_up(
        wanted, image, fresh=False, cold=cold, keep_running=False, on_event=told.append
    )


def test_up_starts_a_new_machine_from_a_template_where_one_fits(
    template: MachineTemplate, plan: Plan, image: Image
) -> None:
    told: list[Event] = []
    wanted = NewMachine(plan, "safe", "new", memory_mib=256)
    assert brought_up(wanted, image, told).origin == "template"
    assert told[0].text == f"Starting new from template {template.name}"
    # One that is there is taken as it is.
    assert brought_up(wanted, image, told).joined


def test_what_comes_before_its_services_finds_it_itself_and_its_login_is_handed_over(
    template: MachineTemplate, plan: Plan, image: Image
) -> None:
    seen: list[object] = []
    with ExitStack() as stack:
        ready = templates.bring_up(
            NewMachine(plan, "safe", "new", memory_mib=256), image,
            fresh=False, cold=False, keep_running=False, on_event=lambda _event: None,
            before=lambda machine: seen.append(machine.restoring.exists()),
            on_login=lambda login: seen.append(stack.enter_context(login)),
        )  # fmt: skip
        session = seen[1]
        assert isinstance(session, Session)
        assert session.run(["true"], timeout=20).ok
    assert seen[0] is False
    assert [stage.name for stage in ready.stages][-1] == "ssh-auth"


def test_where_what_comes_before_its_services_fails_it_is_booted(
    template: MachineTemplate, plan: Plan, image: Image
) -> None:
    told: list[Event] = []

    def refuse(_machine: Machine) -> None:
        raise RaveError("it does not take them", hint="", exit_code=ExitCode.SECRETS)

    ready = templates.bring_up(
        NewMachine(plan, "safe", "new", memory_mib=256), image,
        fresh=False, cold=False, keep_running=False, on_event=told.append, before=refuse,
    )  # fmt: skip
    assert ready.origin == "cold"
    (warning,) = [event.text for event in told if event.kind == "warning"]
    assert warning == "it does not take them; it is booted instead"


@pytest.mark.parametrize("how", ["cold", "size", "changed", "not itself"])
def test_else_it_boots_and_says_why_it_must(
    template: MachineTemplate, plan: Plan, image: Image, host: Host, how: str
) -> None:
    told: list[Event] = []
    if how == "changed":
        os.utime(template.memory, ns=(1, 1))
    if how == "not itself":
        host.behave(channel="no become")
    memory = 512 if how == "size" else 256
    wanted = NewMachine(plan, "safe", "new", memory_mib=memory)
    assert brought_up(wanted, image, told, cold=how == "cold").origin == "cold"
    warnings = [event.text for event in told if event.kind == "warning"]
    expected = {"changed": "was changed", "not itself": "it is booted instead"}.get(how)
    assert [expected] == [expected for text in warnings if str(expected) in text] or not expected
    assert bool(warnings) == bool(expected)


def test_a_killed_builder_leaves_what_the_next_one_ends_and_removes(
    spec: MachineSpec, sshd_of: list[FakeSshd], host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    pid = os.fork()
    if pid == 0:
        monkeypatch.setattr(selfhood, "hold", lambda _m: os.kill(os.getpid(), signal.SIGKILL))
        making.make(spec, on_stage=quiet)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
    assert len(running_fakes(host.bin)) == 1
    (left,) = pruning.find(templates=False)
    assert "a command was killed while making template demo-" in left.why
    assert pruning.remove(left)
    assert not running_fakes(host.bin)
    assert not kept.drafts()
    assert not list((runtime_dir()).glob("template.*"))
    assert making.make(spec, on_stage=quiet)
