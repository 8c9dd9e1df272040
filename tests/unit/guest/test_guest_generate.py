"""Configuration from the plan: golden files, and what must hold for any plan."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rave_guest import generate

GOLDEN = Path(__file__).parent / "golden"


def service(unit: str, port: int, *, exposed: bool = False, scrape: bool = True) -> dict[str, Any]:
    return {
        "units": [unit],
        "ports": [{"name": "p", "port": port, "protocol": "tcp", "exposed": exposed}],
        "scrape": {"port": port, "path": "/metrics"} if scrape else None,
        "memory": {"safe": 100, "full": 200},
    }


PLAN: dict[str, Any] = {
    "services": {
        "sshd": service("ssh.service", 22, exposed=True, scrape=False),
        "nginx": service("nginx.service", 3002, exposed=True, scrape=False),
        "prometheus": service("prometheus.service", 9090),
        "alertmanager": service("prometheus-alertmanager.service", 9093),
        "node-exporter": service("prometheus-node-exporter.service", 9100),
    },
    "exposed": [
        {"name": "ssh", "port": 22, "protocol": "tcp", "exposed": True},
        {"name": "status", "port": 3002, "protocol": "tcp", "exposed": True},
    ],
    "databases": [
        {"role": "prometheus", "name": None, "secret": "s", "unit": "set-prometheus.service"},
        {"role": "grafana", "name": "grafana", "secret": "s", "unit": "set-grafana.service"},
    ],
}  # fmt: skip

GOLDEN_FILES = {
    "etc/nftables.conf": "nftables.conf",
    "etc/rave/prometheus/prometheus.yml": "prometheus.yml",
    "etc/rave/prometheus/rules.yml": "rules.yml",
    "etc/ssh/sshd_config.d/50-forwards.conf": "forwards.conf",
    "etc/systemd/system/prometheus.service.d/50-memory.conf": "memory-safe.conf",
    "usr/lib/rave/modes/full/prometheus.service.d/60-memory.conf": "memory-full.conf",
}


@pytest.mark.parametrize(("path", "golden"), GOLDEN_FILES.items())
def test_golden_files(path: str, golden: str) -> None:
    assert generate.configuration(PLAN).files[path] == (GOLDEN / golden).read_text()


def test_golden_statements() -> None:
    assert generate.sql(PLAN) == (GOLDEN / "databases.sql").read_text().splitlines()


def test_every_unit_is_wanted_and_capped_in_both_modes() -> None:
    files, links = generate.configuration(PLAN)
    for record in PLAN["services"].values():
        (unit,) = record["units"]
        assert links[f"{generate.WANTS}/{unit}"] == f"/etc/systemd/system/{unit}"
        assert "MemoryMax=100M" in files[f"etc/systemd/system/{unit}.d/50-memory.conf"]
        assert "MemoryMax=200M" in files[f"usr/lib/rave/modes/full/{unit}.d/60-memory.conf"]


def test_a_plan_without_monitoring_has_no_configuration_of_it() -> None:
    plan = PLAN | {"services": {"nginx": PLAN["services"]["nginx"]}}
    assert not [path for path in generate.configuration(plan).files if "prometheus" in path]


def test_the_firewall_admits_exactly_the_exposed_ports() -> None:
    rules = generate.firewall(PLAN["exposed"])
    assert [line.strip() for line in rules.splitlines() if "dport" in line] == [
        "tcp dport { 22, 3002 } accept"
    ]
    assert "dport" not in generate.firewall([])
    assert "policy drop" in generate.firewall([])


def test_no_role_gets_a_password_and_names_are_quoted() -> None:
    plan = {"databases": [{"role": 'a"b', "name": "x; drop", "secret": "s", "unit": "u"}]}
    text = "\n".join(generate.sql(plan))
    assert "PASSWORD" not in text
    assert '"a""b"' in text
    assert '"x; drop"' in text


def test_main_writes_below_the_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = tmp_path / "plan.json"
    plan.write_text(json.dumps(PLAN))
    monkeypatch.setattr(generate, "PLAN", str(plan))
    root = tmp_path / "root"
    for _ in range(2):  # a second run replaces the first
        assert generate.main(["files", str(root)]) == 0
    wants = root / generate.WANTS / "prometheus.service"
    assert wants.readlink() == Path("/etc/systemd/system/prometheus.service")
    assert (root / "etc/nftables.conf").read_text() == (GOLDEN / "nftables.conf").read_text()


def test_main_prints_sql(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = tmp_path / "plan.json"
    plan.write_text(json.dumps(PLAN))
    monkeypatch.setattr(generate, "PLAN", str(plan))
    assert generate.main(["sql"]) == 0
    assert capsys.readouterr().out == (GOLDEN / "databases.sql").read_text()
    assert generate.main([]) == 2
