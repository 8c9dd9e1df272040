"""Lines on org.rave.ready."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from rave_guest import report

if TYPE_CHECKING:
    import pytest


STAGE = Path(__file__).parents[3] / "infra/guest/stage.sh"


def port_directory(root: Path, names: dict[str, str]) -> str:
    for entry, name in names.items():
        (root / entry).mkdir()
        (root / entry / "name").write_text(f"{name}\n")
    return str(root)


def test_the_port_is_found_by_its_name(tmp_path: Path) -> None:
    names = {"vport1p1": "org.rave.exec", "vport1p2": "org.rave.ready"}
    assert report.port(port_directory(tmp_path, names)) == "/dev/vport1p2"


def test_no_port_is_no_error(tmp_path: Path) -> None:
    assert report.port(port_directory(tmp_path, {"vport1p1": "other"})) is None
    assert report.port(str(tmp_path / "missing")) is None


def test_a_line_is_one_json_document_with_the_contract_s_members(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "BOOT", str(tmp_path / "boot_id"))
    (tmp_path / "boot_id").write_text("f5d6fc83\n")
    line = report.line("services", "id\n1", 9.5, {"secrets": "absent"})
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    assert json.loads(line) == {
        "v": 1,
        "instance": "id\n1",
        "boot": "f5d6fc83",
        "stage": "services",
        "uptime": 9.5,
        "secrets": "absent",
    }


def test_send_writes_to_the_port(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    device = tmp_path / "device"
    device.touch()
    monkeypatch.setattr(report, "port", lambda _: str(device))
    monkeypatch.setattr(report, "INSTANCE", str(tmp_path / "instance-id"))
    (tmp_path / "instance-id").write_text("abc\n")
    report.send("secrets", state="installed")
    event = json.loads(device.read_bytes())
    assert event["instance"] == "abc"
    assert event["stage"] == "secrets"
    assert event["state"] == "installed"
    assert event["uptime"] > 0


def test_programs_and_scripts_of_the_guest_write_the_same_line(tmp_path: Path) -> None:
    ports, place = tmp_path / "ports", tmp_path / "instance-id"
    ports.mkdir()
    port_directory(ports, {"vport1p2": "org.rave.ready"})
    place.write_text("abc\n")
    (tmp_path / "vport1p2").touch()
    text = STAGE.read_text().replace("/sys/class/virtio-ports", str(ports))
    text = text.replace("/dev/virtio-ports/org.rave.ready", str(tmp_path / "link"))
    text = text.replace("/dev/$", f"{tmp_path}/$").replace("/run/rave/instance-id", str(place))
    script = f"{text}\nstage stopping ',\"more\":1'"
    subprocess.run(["sh", "-euc", script], check=True)
    written = json.loads((tmp_path / "vport1p2").read_bytes())
    same = json.loads(report.line("stopping", "abc", written["uptime"], {"more": 1}))
    assert written == same
    assert list(written) == list(same)


def test_send_is_silent_without_a_listener(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "PORTS", "/nonexistent")
    report.send("sshd")


def test_a_file_is_replaced_at_once(tmp_path: Path) -> None:
    place = tmp_path / "status.json"
    report.write(str(place), "one")
    report.write(str(place), "two")
    assert place.read_text() == "two"
    assert place.stat().st_mode & 0o777 == 0o644
    assert list(tmp_path.iterdir()) == [place]
