"""The choice between KVM and TCG, by what guests did; and the probe's guest itself."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from rave_cli import paths
from rave_cli.errors import ExitCode, RaveError
from rave_cli.machines.qemu import accelerator, counter
from rave_cli.machines.qemu.accelerator import REFERENCE_LOOP, REMEDIES, Accelerator, choose
from rave_cli.machines.qemu.argv import qemu_argv
from rave_cli.machines.qemu.probe import GUEST, GUEST_SOURCE, Trial, probe_argv, try_guest
from rave_cli.machines.qemu.program import Kind, cpu_model

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from rave_cli.machines.spec import Machine

    Run = Callable[[Kind, tuple[str, ...]], Trial]

GOOD_TCG = Trial(0.20, 0.06, "", 0.1)
SAID = "qemu-system-x86_64: error: failed to set MSR 0x10a to 0x2000000000000cd"
DEAD = Trial(None, None, "QEMU ended with SIGABRT", said=("warning: nothing much", SAID, "assert"))


def trials(kvm: Trial, tcg: Trial = GOOD_TCG) -> Run:
    return lambda kind, _features: kvm if kind == "kvm" else tcg


def test_kvm_is_taken_when_it_runs_a_guest() -> None:
    found = choose(trials(Trial(0.1, 0.01, "")), None)
    assert (found.kind, found.loop_seconds) == ("kvm", 0.01)


@pytest.mark.parametrize(
    ("kvm", "reason"),
    [
        (Trial(None, None, "QEMU ended with SIGABRT (failed to set MSR 0x10a)"), "MSR 0x10a"),
        (Trial(None, None, "it hung in long mode for 4 s"), "hung in long mode"),
        (Trial(3.3, 0.02, ""), "slower than TCG"),
    ],
)
def test_a_kvm_that_only_opens_is_not_taken_and_the_reason_is_told(kvm: Trial, reason: str) -> None:
    found = choose(trials(kvm), None)
    assert found.kind == "tcg"
    assert reason in found.reason


def test_kvm_is_not_even_tried_without_the_device() -> None:
    asked: list[str] = []

    def run(kind: Kind, _features: tuple[str, ...]) -> Trial:
        asked.append(kind)
        return GOOD_TCG

    found = choose(run, "there is no /dev/kvm")
    assert (found.kind, asked) == ("tcg", ["tcg"])
    assert "there is no /dev/kvm" in found.reason
    assert "TCG ran a guest in 0.20 s" in found.reason


def remedied(cured: Trial, tried: list[tuple[str, ...]]) -> Run:
    """A host whose KVM needs the remedy, and what it does with it."""

    def run(kind: Kind, features: tuple[str, ...]) -> Trial:
        if kind == "tcg":
            return GOOD_TCG
        tried.append(features)
        return cured if "-arch-capabilities" in features else DEAD

    return run


def test_what_qemu_dies_of_is_remedied_if_that_is_known() -> None:
    tried: list[tuple[str, ...]] = []
    found = choose(remedied(Trial(0.05, 0.01, ""), tried), None)
    assert tried == [(), ("-arch-capabilities",)]
    assert (found.kind, found.kvm_features) == ("kvm", ("-arch-capabilities",))
    assert found.seconds == {"tcg": 0.20, "kvm": 0.05}
    for word in ("0.05 s", "0.20 s", "-arch-capabilities", "failed to set MSR 0x10a"):
        assert word in found.reason


@pytest.mark.parametrize(
    ("cured", "figures"),
    [
        (Trial(3.3, 2.9, ""), ("3.30 s", "0.20 s")),
        (Trial(None, None, "it hung in long mode for 4 s", 2.9), ("2.90 s", "0.10 s", "0.20 s")),
    ],
    ids=["slow", "interprets"],
)
def test_a_remedied_kvm_that_is_slower_than_tcg_is_not_taken(
    cured: Trial, figures: tuple[str, ...]
) -> None:
    """Seen with nested AMD hosts: it runs, by interpreting one instruction after the other."""
    tried: list[tuple[str, ...]] = []
    found = choose(remedied(cured, tried), None)
    assert found.kind == "tcg"
    assert found.loop_seconds == GOOD_TCG.loop
    for word in (*figures, "with -arch-capabilities"):
        assert word in found.reason


def test_a_remedy_that_does_not_help_is_tried_once() -> None:
    tried: list[tuple[str, ...]] = []
    found = choose(remedied(DEAD, tried), None)
    assert tried == [(), ("-arch-capabilities",)]
    assert (found.kind, "SIGABRT" in found.reason) == ("tcg", True)


def test_what_qemu_dies_of_otherwise_has_no_remedy() -> None:
    asked: list[Kind] = []

    def run(kind: Kind, _features: tuple[str, ...]) -> Trial:
        asked.append(kind)
        return GOOD_TCG if kind == "tcg" else Trial(None, None, "x", said=("no such device",))

    assert choose(run, None).kind == "tcg"
    assert asked == ["tcg", "kvm"]


def test_two_that_are_close_are_measured_twice_and_the_better_counts() -> None:
    """On a busy host one slow run must not decide for a boot's whole time."""
    runs = {"tcg": [0.2, 0.19], "kvm": [0.4, 0.1]}

    def run(kind: Kind, _features: tuple[str, ...]) -> Trial:
        return Trial(runs[kind].pop(0), 0.01, "")

    found = choose(run, None)
    assert (found.kind, found.seconds) == ("kvm", {"tcg": 0.19, "kvm": 0.1})
    assert runs == {"tcg": [], "kvm": []}


def test_a_machine_gets_the_cpu_that_the_probe_ran(machine: Machine, tmp_path: Path) -> None:
    features = tuple(remedy.feature for remedy in REMEDIES)
    found = Accelerator("kvm", "", 0.01, features)
    given = qemu_argv(machine, found)
    tried = probe_argv("kvm", tmp_path / "k", features)
    assert given[given.index("-cpu") + 1] == tried[tried.index("-cpu") + 1]
    assert given[given.index("-cpu") + 1] == "host,-arch-capabilities"
    under_tcg = qemu_argv(machine, Accelerator("tcg", "", 0.06, features))
    assert under_tcg[under_tcg.index("-cpu") + 1] == cpu_model("tcg")


def test_what_a_dying_qemu_says_is_kept_and_shown_clean(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    qemu = tmp_path / "qemu-system-x86_64"
    qemu.write_text(f"#!/bin/sh\nprintf '\\033[31m{SAID}\\nmore\\n' >&2\nkill -ABRT $$\n")
    qemu.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    found = try_guest("kvm")
    assert found.said[1:] == ("more",)
    assert found.fault == f"QEMU ended with SIGABRT ({SAID})"


def test_a_qemu_that_runs_nothing_is_a_fault_of_the_host() -> None:
    broken = Trial(None, None, "QEMU ended with exit status 1 (no such machine)")
    with pytest.raises(RaveError, match="no such machine") as caught:
        choose(trials(broken, broken), None)
    assert caught.value.exit_code == ExitCode.HOST


@pytest.mark.parametrize(
    ("loop", "scale"), [(0.001, 1.0), (REFERENCE_LOOP, 1.0), (REFERENCE_LOOP * 3, 3.0), (99, 10.0)]
)
def test_deadlines_grow_with_the_measured_slowness(loop: float, scale: float) -> None:
    assert Accelerator("tcg", "", loop).deadline_scale == pytest.approx(scale)


class TestCache:
    """The answer is kept for one boot, one QEMU and one answer of the device."""

    @pytest.fixture(autouse=True)
    def _host(self, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        qemu = tmp_path / "qemu-system-x86_64"
        qemu.write_text("#!/bin/sh\n")
        qemu.chmod(0o755)
        boot = tmp_path / "boot_id"
        boot.write_text("one\n")
        monkeypatch.setenv("PATH", str(tmp_path))
        monkeypatch.setattr(accelerator, "BOOT_ID", boot)
        monkeypatch.setattr(accelerator, "KVM_DEVICE", tmp_path / "kvm")
        self.runs: list[str] = []
        monkeypatch.setattr(accelerator, "try_guest", self._run)
        monkeypatch.setattr(counter, "khz", lambda: 2_596_130)
        self.boot, self.qemu, self.kvm = boot, qemu, tmp_path / "kvm"

    def _run(self, kind: str, _features: tuple[str, ...]) -> Trial:
        self.runs.append(kind)
        return GOOD_TCG

    def test_the_second_time_nothing_runs(self) -> None:
        assert accelerator.detect() == accelerator.detect()
        assert self.runs == ["tcg"]

    def test_a_fresh_answer_can_be_asked_for(self) -> None:
        accelerator.detect()
        accelerator.detect(fresh=True)
        assert self.runs == ["tcg", "tcg"]

    def test_another_boot_qemu_or_device_is_asked_again(self) -> None:
        accelerator.detect()
        self.boot.write_text("two\n")
        accelerator.detect()
        self.qemu.write_text("#!/bin/sh\n# newer\n")
        accelerator.detect()
        self.kvm.write_text("")
        accelerator.detect()
        # The two are alike here, so that both run twice.
        assert self.runs == ["tcg", "tcg", "tcg", "tcg", "kvm", "tcg", "kvm"]

    def test_an_answer_from_before_the_remedies_is_asked_again(self) -> None:
        accelerator.detect()
        place = paths.cache_dir() / "accelerator.json"
        document = json.loads(place.read_text())
        document["version"] = 1
        del document["key"]["probe"]
        for new in ("kvm_features", "seconds", "counter_khz"):
            del document["accelerator"][new]
        place.write_text(json.dumps(document))
        assert accelerator.detect().seconds == {"tcg": 0.20, "kvm": None}
        assert self.runs == ["tcg", "tcg"]

    @pytest.mark.parametrize("content", ["", "{", "[]", '{"key": 1}', '{"key": {}, "x": 2}'])
    def test_a_damaged_cache_is_no_answer(self, content: str) -> None:
        first = accelerator.detect()
        (paths.cache_dir() / "accelerator.json").write_text(content)
        assert accelerator.detect() == first
        assert self.runs == ["tcg", "tcg"]

    def test_a_device_that_may_not_be_opened_says_which_group_may(self) -> None:
        if os.getuid() == 0:
            self.kvm.mkdir()
        else:
            self.kvm.write_text("")
            self.kvm.chmod(0)
        assert "cannot be opened" in accelerator.detect().reason

    def test_the_cache_is_readable_json(self) -> None:
        accelerator.detect()
        document = json.loads((paths.cache_dir() / "accelerator.json").read_text())
        assert document["accelerator"]["kind"] == "tcg"


def test_the_probe_runs_the_processor_that_machines_get(tmp_path: Path) -> None:
    assert "host" in probe_argv("kvm", tmp_path / "k")
    assert cpu_model("tcg") in probe_argv("tcg", tmp_path / "k")


def test_the_probe_s_guest_is_what_its_source_says(tmp_path: Path) -> None:
    if shutil.which("as") is None or shutil.which("objcopy") is None:
        pytest.skip("binutils are not installed: the guest's source cannot be assembled")
    (tmp_path / "guest.S").write_text(GUEST_SOURCE)
    subprocess.run(["as", "-o", "guest.o", "guest.S"], cwd=tmp_path, check=True)
    subprocess.run(
        ["objcopy", "-O", "binary", "-j", ".text", "guest.o", "guest.bin"], cwd=tmp_path, check=True
    )
    assert (tmp_path / "guest.bin").read_bytes() == GUEST
