"""The examination of the host: findings, fixes and exit codes."""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from rave_cli import app, doctor, paths, process
from rave_cli.doctor import backup, building, keys, machine, system
from rave_cli.doctor.examination import PAGE, Diagnosis, Examination
from rave_cli.errors import ExitCode, RaveError
from rave_cli.machines import leftovers, store
from rave_cli.machines.qemu import accelerator, features
from rave_cli.machines.qemu.accelerator import Accelerator
from rave_cli.machines.qemu.features import Features
from rave_cli.machines.qemu.qmp import QmpError
from rave_cli.machines.spec import Forward
from rave_cli.secrets import identity, overlap, sops
from rave_cli.secrets import init as secrets_init
from rave_cli.secrets.store import default_file
from tests.unit.machines.conftest import host, image, plan, short_home

if TYPE_CHECKING:
    from collections.abc import Callable

    from rave_cli.images.manifest import Image
    from rave_cli.profiles.catalog import Plan
    from tests.unit.machines.conftest import Host

__all__ = ["host", "image", "plan", "short_home"]

ROOT = Path(__file__).resolve().parents[2]


def only(monkeypatch: pytest.MonkeyPatch, **asks: Callable[[], Diagnosis]) -> None:
    known = {name: Examination(name, "is it so?", ask) for name, ask in asks.items()}
    monkeypatch.setattr(doctor, "EXAMINATIONS", known)


def found(name: str) -> Diagnosis:
    (one,) = doctor.examine([name])
    assert one.id == name
    return one


def test_an_unknown_examination_names_the_known() -> None:
    with pytest.raises(RaveError, match="no examination 'kvm'") as caught:
        doctor.examine(["kvm"])
    assert caught.value.exit_code == ExitCode.USAGE
    assert "accelerator" in (caught.value.hint or "")


def test_a_fault_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> Diagnosis:
        raise RaveError("nix does not run", hint="reinstall it", exit_code=ExitCode.HOST)

    only(monkeypatch, nix=broken)
    assert doctor.examine() == [
        Diagnosis("fail", "nix does not run", advice="reinstall it", id="nix")
    ]


def test_each_examination_has_its_part_of_the_page() -> None:
    heads = re.findall(r"^## (\S+)$", (ROOT / PAGE).read_text(), re.MULTILINE)
    assert sorted(heads) == sorted(doctor.EXAMINATIONS)
    assert Diagnosis("ok", "", id="disk").page == f"{PAGE}#disk"


def test_missing_programs_come_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "find", lambda tool: None if "qemu" in tool else f"/bin/{tool}")
    one = found("packages")
    assert one.status == "fail"
    assert one.fix[-2:] == ("qemu-system-x86", "qemu-utils")


# --- apt -----------------------------------------------------------------------------------------


@pytest.fixture
def debian(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A host whose dpkg is in order and whose lists are of today."""
    for folder in ("dpkg/updates", "lists"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "dpkg/status").touch()
    (tmp_path / "lists/mirror_main_Packages").touch()
    monkeypatch.setattr(system, "DPKG", tmp_path / "dpkg")
    monkeypatch.setattr(system, "LISTS", tmp_path / "lists")
    monkeypatch.setattr(process, "find", lambda tool: f"/usr/bin/{tool}")
    return tmp_path


def test_apt_in_order_is_told_with_the_age_of_its_lists(debian: Path) -> None:
    assert (found("apt").status, "0 days old" in found("apt").detail) == ("ok", True)


def test_an_interrupted_dpkg_comes_with_what_finishes_it(debian: Path) -> None:
    (debian / "dpkg/updates/0001").touch()
    assert found("apt").status == "fail"
    assert found("apt").fix[-3:] == ("dpkg", "--configure", "-a")


@pytest.mark.parametrize("days", [None, 61])
def test_lists_that_are_missing_or_old_are_fetched(debian: Path, days: int | None) -> None:
    place = debian / "lists/mirror_main_Packages"
    if days is None:
        place.unlink()
    else:
        then = time.time() - days * 86400 - 60
        os.utime(place, (then, then))
    one = found("apt")
    assert (one.status, one.fix[-2:]) == ("warn", ("apt-get", "update"))


def test_a_host_without_apt_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "find", lambda _: None)
    assert found("apt").status == "skip"


# --- room and time -------------------------------------------------------------------------------


def test_a_full_disk_and_little_memory_fail(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=2**30))
    monkeypatch.setattr(system, "MEMORY_NEEDED", 2**40)
    assert [one.status for one in doctor.examine(["memory", "disk"])] == ["fail", "fail"]


@pytest.mark.parametrize(
    ("files", "free", "status"), [(1000, 10, "fail"), (10**7, 10**6, "ok"), (0, 0, "ok")]
)
def test_few_inodes_fail_and_none_at_all_is_a_file_system_that_counts_none(
    monkeypatch: pytest.MonkeyPatch, home: Path, files: int, free: int, status: str
) -> None:
    answer = SimpleNamespace(f_files=files, f_favail=free)
    monkeypatch.setattr(os, "statvfs", lambda _: answer)
    assert found("inodes").status == status


def test_a_clock_that_went_back_is_told_by_what_was_written(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert found("clock").status == "ok"
    record = paths.make_dir(paths.state_dir() / "images") / "x.json"
    record.touch()
    then = time.time() + 7200
    os.utime(record, (then, then))
    one = found("clock")
    assert one.status == "warn"
    assert 7100 < one.facts["behindSeconds"] <= 7200  # type: ignore[operator]
    monkeypatch.setattr(time, "time", lambda: 0.0)
    assert found("clock").status == "fail"


def test_a_runtime_directory_too_long_for_sockets_fails(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    deep = tmp_path / ("x" * 80)
    deep.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(deep))
    assert (found("runtime").status, "too long" in found("runtime").detail) == ("fail", True)


# --- machines ------------------------------------------------------------------------------------


def test_the_accelerator_is_told_with_both_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = Accelerator("tcg", "KVM is slow", 0.06, (), {"tcg": 0.2, "kvm": 3.0})
    monkeypatch.setattr(accelerator, "detect", lambda **_: answer)
    one = found("accelerator")
    assert (one.status, one.detail) == ("warn", "tcg: KVM is slow")
    assert one.facts["seconds"] == {"tcg": 0.2, "kvm": 3.0}


class FakeQemu:
    """What a QEMU's monitor answers, with things left out."""

    def __init__(self, *lacks: str) -> None:
        self.lacks = lacks

    def ask(self, command: str, **_arguments: object) -> Any:
        def named(*names: str) -> list[dict[str, Any]]:
            return [{"name": name} for name in names if name not in self.lacks]

        return {
            "query-version": {"qemu": {"major": 7, "minor": 2, "micro": 22}},
            "query-migrate-capabilities": [{"capability": "x-ignore-shared"}],
            "qom-list-types": named(*features.DEVICES),
            "query-machines": [] if "q35" in self.lacks else [{"name": "pc", "alias": "q35"}],
            "query-chardev-backends": named(*features.CHARDEVS),
        }[command]

    def refuses(self, _command: str, **_arguments: object) -> bool:
        return "user" in self.lacks


def test_a_qemu_with_everything_is_told_with_what_it_has_besides() -> None:
    assert features.read(FakeQemu()) == Features("7.2.22", (), ("x-ignore-shared",))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("lacks", "words"),
    [
        ("virtio-rng-pci", "the device virtio-rng-pci"),
        ("q35", "the machine q35"),
        ("pipe", "the chardev pipe"),
        ("user", "the user network (libslirp)"),
    ],
)
def test_what_a_qemu_lacks_is_named(
    monkeypatch: pytest.MonkeyPatch, lacks: str, words: str
) -> None:
    monkeypatch.setattr(features, "ask", lambda: features.read(FakeQemu(lacks)))  # type: ignore[arg-type]
    one = found("qemu")
    assert (one.status, one.facts["missing"]) == ("fail", [words])
    assert words in one.detail


def test_a_qemu_that_does_not_start_says_why(host: Host) -> None:
    host.behave(stderr="qemu: no sandbox here\n", dies=1)
    one = found("qemu")
    assert (one.status, "no sandbox here" in one.detail) == ("fail", True)


def test_a_monitor_that_refuses_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> Features:
        raise QmpError("QEMU refused query-machines: no")

    monkeypatch.setattr(features, "ask", refuse)
    assert found("qemu").status == "fail"


def test_a_port_of_a_stopped_machine_that_is_taken_is_named(
    host: Host, plan: Plan, image: Image
) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        asked = (Forward(port, 3002),)
        store.create(store.new_spec(plan, image, name="demo", mode="safe", forwards=asked))
        one = found("ports")
        assert (one.status, one.facts["taken"]) == ("warn", [f"{port} of machine demo"])
    assert found("ports").status == "ok"


def test_a_record_that_cannot_be_read_is_named(host: Host, plan: Plan, image: Image) -> None:
    made = store.create(store.new_spec(plan, image, name="demo", mode="safe"))
    assert found("machines").detail == "1 machines"
    (made.directory / store.RECORD).write_text("{")
    assert (found("machines").status, "demo (damaged)" in found("machines").detail) == (
        "fail", True,
    )  # fmt: skip


def test_leftovers_are_told_and_pruned_as_the_fix(host: Host, plan: Plan, image: Image) -> None:
    made = store.create(store.new_spec(plan, image, name="demo", mode="safe"))
    assert found("leftovers").status == "ok"
    made.runtime.mkdir(parents=True)
    one = found("leftovers")
    assert (one.status, one.fix) == ("warn", ("rave", "vm", "prune", "--yes"))
    (again,) = doctor.mend([one], lambda _: None)
    assert again.status == "ok"
    assert not made.runtime.exists()


def test_links_to_images_that_are_gone_are_told(home: Path) -> None:
    assert found("store").status == "ok"
    folder = paths.make_dir(paths.state_dir() / "images")
    (folder / "demo-debian").symlink_to("/nix/store/none")
    one = found("store")
    assert (one.status, one.facts["staleLinks"]) == ("warn", 1)
    assert "rave prune" in one.advice


def test_images_that_no_machine_is_made_from_are_added_up(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unused = leftovers.Leftover("image", home / "x.json", "no machine", size=3 << 30)
    monkeypatch.setattr(leftovers, "find", lambda **_: [unused])
    one = found("store")
    assert (one.status, one.facts["unusedBytes"]) == ("ok", 3 << 30)
    assert "3.0 GiB" in one.detail


# --- keys ----------------------------------------------------------------------------------------


def test_sops_with_a_known_fault_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    tool = sops.Tool(path=Path("/usr/bin/sops"), origin="PATH")
    report = sops.ToolReport(tool, "3.13.2", ("sops 3.13.2 must not be used: ...",))
    monkeypatch.setattr(sops, "report", lambda: report)
    one = found("sops")
    assert one.status == "warn"
    assert "3.13.2 must not be used" in one.detail


def test_a_key_that_others_can_read_is_mended(home: Path) -> None:
    identity.ensure()
    place = identity.key_file()
    place.chmod(0o640)
    one = found("identity")
    assert (one.status, one.fix) == ("fail", ("chmod", "600", str(place)))
    told: list[str] = []
    (again,) = doctor.mend([one], lambda finding: told.append(finding.id))
    assert (again.status, told) == ("ok", ["identity"])


def test_the_key_opens_what_the_profile_needs_or_what_is_wrong_is_told(
    home: Path, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert found("secrets").status == "skip"
    monkeypatch.setenv("RAVE_PROFILE", "demo")
    monkeypatch.setenv("RAVE_BASE", "debian")
    left_out = "redis/password"
    first = {name: secret for name, secret in plan.secrets.items() if name != left_out}
    secrets_init.init(default_file(), first)
    one = found("secrets")
    assert (one.status, left_out in one.detail) == ("fail", True)
    secrets_init.init(default_file(), plan.secrets)
    one = found("secrets")
    assert (one.status, f"all {len(plan.secrets)} secrets" in one.detail) == ("ok", True)
    monkeypatch.setattr(overlap, "doubled", lambda *_: ["webhook/github-secret"])
    one = found("secrets")
    assert (one.status, "of webhook/github-secret the value before" in one.detail) == ("warn", True)
    identity.key_file().unlink()
    assert found("secrets").status == "fail"
    identity.ensure()
    one = found("secrets")
    assert one.status == "fail", "another key opens nothing"
    values = default_file().read_text()
    assert not any(line in one.detail for line in values.splitlines() if "ENC[" in line)


# --- the command ---------------------------------------------------------------------------------


def invoke(*words: str) -> Any:
    return CliRunner().invoke(app.cli, ["doctor", *words], standalone_mode=False)


def test_the_command_ends_with_3_if_anything_fails(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    only(
        monkeypatch,
        good=lambda: Diagnosis("ok", "fine"),
        slow=lambda: Diagnosis("warn", "slower", advice="buy another"),
        bad=lambda: Diagnosis("fail", "broken", ("true",)),
    )
    shown = invoke("--json")
    assert shown.return_value == ExitCode.HOST
    document = json.loads(shown.stdout)
    assert document["ok"] is False
    assert [check["id"] for check in document["checks"]] == ["good", "slow", "bad"]
    lines = invoke().stdout.splitlines()
    for line in ("fix bad: true", f"see {PAGE}#bad", "try slow: buy another", f"see {PAGE}#slow"):
        assert line in lines
    assert f"see {PAGE}#good" not in lines
    only(monkeypatch, slow=lambda: Diagnosis("warn", "slower"))
    assert invoke().return_value == ExitCode.OK


def test_a_fix_that_fails_says_so(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch, bad=lambda: Diagnosis("fail", "broken", ("sh", "-c", "echo no >&2; exit 3")))
    shown = invoke("--fix")
    assert shown.return_value == ExitCode.HOST
    assert "broken; the fix failed: no" in shown.stdout


def test_what_there_is_to_examine_is_listed_and_nothing_examined(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never() -> Diagnosis:
        raise AssertionError

    only(monkeypatch, one=never)
    assert json.loads(invoke("--list-checks", "--json").stdout) == [
        {"id": "one", "title": "is it so?", "page": f"{PAGE}#one"}
    ]
    assert "is it so?" in invoke("--list-checks").stdout


def test_every_module_of_the_room_declares_something() -> None:
    homes = {entry.ask.__module__ for entry in doctor.EXAMINATIONS.values()}
    assert homes == {module.__name__ for module in (system, building, machine, keys, backup)}
