"""What watches a pool from outside: alert rules for Prometheus, a dashboard for Grafana."""

from __future__ import annotations

from pathlib import Path


def alerts() -> str:
    """Return the alert rules, as a file for Prometheus."""
    return (Path(__file__).parent / "alerts.yml").read_text()
