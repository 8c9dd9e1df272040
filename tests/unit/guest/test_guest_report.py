"""Lines on org.rave.ready."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from rave_guest import report

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


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


def test_a_line_is_one_json_document_with_the_contract_s_members() -> None:
    line = report.line("services", "id\n1", 9.5, {"secrets": "absent"})
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    assert json.loads(line) == {
        "v": 1,
        "instance": "id\n1",
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
