"""The examination of the host: findings, fixes and exit codes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from rave_cli import app, doctor, process
from rave_cli.errors import ExitCode, RaveError
from rave_cli.secrets import sops

if TYPE_CHECKING:
    from collections.abc import Callable


def only(monkeypatch: pytest.MonkeyPatch, **examinations: Callable[[], doctor.Diagnosis]) -> None:
    monkeypatch.setattr(doctor, "EXAMINATIONS", examinations)


def test_an_unknown_examination_names_the_known() -> None:
    with pytest.raises(RaveError, match="no examination 'kvm'") as caught:
        doctor.examine(["kvm"])
    assert caught.value.exit_code == ExitCode.USAGE
    assert "accelerator" in (caught.value.hint or "")


def test_a_fault_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> doctor.Diagnosis:
        raise RaveError("nix does not run", hint="reinstall it", exit_code=ExitCode.HOST)

    only(monkeypatch, nix=broken)
    assert doctor.examine() == [doctor.Diagnosis("nix", "fail", "nix does not run (reinstall it)")]


def test_missing_programs_come_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "find", lambda tool: None if "qemu" in tool else f"/bin/{tool}")
    (found,) = doctor.examine(["packages"])
    assert found.status == "fail"
    assert found.fix[-2:] == ("qemu-system-x86", "qemu-utils")


def test_a_full_disk_and_little_memory_fail(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=2**30))
    monkeypatch.setattr(doctor, "MEMORY_NEEDED", 2**40)
    assert [found.status for found in doctor.examine(["memory", "disk"])] == ["fail", "fail"]


def test_a_runtime_directory_too_long_for_sockets_fails(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    deep = tmp_path / ("x" * 80)
    deep.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(deep))
    (found,) = doctor.examine(["runtime"])
    assert (found.status, "too long" in found.detail) == ("fail", True)


def test_sops_with_a_known_fault_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    tool = sops.Tool(path=Path("/usr/bin/sops"), origin="PATH")
    report = sops.ToolReport(tool, "3.13.2", ("sops 3.13.2 must not be used: ...",))
    monkeypatch.setattr(sops, "report", lambda: report)
    (found,) = doctor.examine(["sops"])
    assert found.status == "warn"
    assert "3.13.2 must not be used" in found.detail


def test_a_key_that_others_can_read_is_mended(home: Path) -> None:
    from rave_cli.secrets import identity

    identity.ensure()
    place = identity.key_file()
    place.chmod(0o640)
    (found,) = doctor.examine(["identity"])
    assert (found.status, found.fix) == ("fail", ("chmod", "600", str(place)))
    told: list[str] = []
    (again,) = doctor.mend([found], lambda finding: told.append(finding.id))
    assert (again.status, told) == ("ok", ["identity"])


def test_the_command_fails_if_anything_fails(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    only(
        monkeypatch,
        good=lambda: doctor.Diagnosis("good", "ok", "fine"),
        bad=lambda: doctor.Diagnosis("bad", "fail", "broken", ("true",)),
    )
    shown = CliRunner().invoke(app.cli, ["doctor", "--json"], standalone_mode=False)
    assert shown.return_value == ExitCode.CHECK_FAILED
    document = json.loads(shown.stdout)
    assert document["ok"] is False
    assert [check["id"] for check in document["checks"]] == ["good", "bad"]
    shown = CliRunner().invoke(app.cli, ["doctor"], standalone_mode=False)
    assert "fix bad: true" in shown.stdout
