"""status.json, the status page and the metrics."""

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


def test_the_page_names_service_state_and_secrets() -> None:
    page = status.page(document())
    assert "<title>rave: demo is healthy</title>" in page
    assert "a.service" in page
    assert "rave secrets install" in page
    assert "grafana" in page


def test_the_page_runs_nothing_and_loads_nothing() -> None:
    page = status.page(document())
    assert "<script" not in page
    assert "src=" not in page


def test_what_comes_from_the_plan_is_escaped() -> None:
    hostile = {"a": service("healthy", title="<img src=x onerror='1'>&\"")}
    page = status.page(status.document(PLAN, hostile, "absent", ["<b>"]))
    assert "<img" not in page
    assert "<b>" not in page


@pytest.mark.parametrize("state", ["waiting", "starting"])
def test_a_service_on_its_way_gives_no_metric(state: str) -> None:
    found = document("healthy", [])
    found["services"] = {"slow": {"state": state}, "quick": {"state": "failed"}}
    lines = status.metrics(found).splitlines()
    assert [line for line in lines if "rave_service_healthy{" in line] == [
        'rave_service_healthy{service="quick"} 0'
    ]


def test_metrics_are_the_text_format() -> None:
    lines = status.metrics(document("failed", ["x.service"])).splitlines()
    assert 'rave_service_healthy{service="a"} 0' in lines
    assert "rave_failed_units 1" in lines
    assert "rave_secrets_installed 0" in lines
    assert all(line.startswith("#") or len(line.split()) == 2 for line in lines)
