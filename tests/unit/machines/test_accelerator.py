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
from rave_cli.machines.qemu import accelerator
from rave_cli.machines.qemu.accelerator import (
    GUEST,
    GUEST_SOURCE,
    REFERENCE_LOOP,
    Accelerator,
    Trial,
    choose,
    probe_argv,
)
from rave_cli.machines.qemu.program import Kind, cpu_model

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

GOOD_TCG = Trial(0.20, 0.06, "")


def trials(kvm: Trial, tcg: Trial = GOOD_TCG) -> Callable[[Kind], Trial]:
    return lambda kind: kvm if kind == "kvm" else tcg


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

    def run(kind: Kind) -> Trial:
        asked.append(kind)
        return GOOD_TCG

    found = choose(run, "there is no /dev/kvm")
    assert (found.kind, asked) == ("tcg", ["tcg"])
    assert "there is no /dev/kvm" in found.reason


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
        self.boot, self.qemu, self.kvm = boot, qemu, tmp_path / "kvm"

    def _run(self, kind: str) -> Trial:
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
        assert self.runs == ["tcg", "tcg", "tcg", "tcg", "kvm"]

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
