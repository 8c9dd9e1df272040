"""status.json and the metrics."""

from __future__ import annotations

from typing import Any

import pytest

from rave_guest import report, status

PLAN = {"profile": "demo", "base": "debian", "absent": ["grafana"]}


def service(state: str, title: str = "A") -> dict[str, object]:
    return {"state": state, "title": title, "unit": "a.service", "uptime": 3.25}


@pytest.fixture(autouse=True)
def _machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "instance", lambda: "abc")
    monkeypatch.setattr(report, "uptime", lambda: 9.0)


def document(state: str = "healthy", failed: list[str] | None = None) -> dict[str, Any]:
    return status.document(PLAN, {"a": service(state)}, "absent", failed or [])


def test_a_machine_is_healthy_when_all_is() -> None:
    assert document()["state"] == "healthy"
    assert document("failed")["state"] == "degraded"
    assert document(failed=["x.service"])["state"] == "degraded"


@pytest.mark.parametrize("state", ["waiting", "starting"])
def test_a_service_on_its_way_is_not_unhealthy(state: str) -> None:
    found = document("healthy", [])
    found["services"] = {"slow": {"state": state}, "quick": {"state": "failed"}}
    lines = status.metrics(found).splitlines()
    assert [line for line in lines if line.startswith("rave_service_")] == [
        'rave_service_healthy{service="quick"} 0', 'rave_service_on_its_way{service="slow"} 1',
    ]  # fmt: skip


def test_metrics_are_the_text_format() -> None:
    lines = status.metrics(document("failed", ["x.service"])).splitlines()
    assert 'rave_service_healthy{service="a"} 0' in lines
    assert "rave_failed_units 1" in lines
    assert "rave_secrets_installed 0" in lines
    assert all(line.startswith("#") or len(line.split()) == 2 for line in lines)
