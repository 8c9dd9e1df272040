"""A dashboard of a pool for Grafana: a table of panels, laid out two beside each other.

The model is that of Grafana's documentation ("Dashboard JSON model"), of the version that 10 and
newer take. Whoever imports it chooses the Prometheus that it asks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

SCHEMA_VERSION = 39

# Cells of Grafana's grid.
WIDTH, HEIGHT, ACROSS = 12, 8, 24

_SOURCE = {"type": "prometheus", "uid": "${datasource}"}
_OF = '{instance=~"$instance"}'


@dataclass(frozen=True)
class Query:
    """What a panel asks Prometheus, and what its answer is called there."""

    expr: str
    legend: str


@dataclass(frozen=True)
class Panel:
    """A panel: `unit` is one of Grafana's, `kind` what it draws."""

    title: str
    about: str
    unit: str
    queries: tuple[Query, ...]
    kind: str = "timeseries"


def _quantiles(series: str, by: str, of: str) -> tuple[Query, ...]:
    return tuple(
        Query(
            f"histogram_quantile({share}, sum by (le{by}) (rate({series}{of}[5m])))",
            f"p{share * 100:.0f}" + (" {{cicd_pipeline_result}}" if by else ""),
        )
        for share in (0.5, 0.95)
    )


_STATE = '{{instance=~"$instance",cicd_pipeline_run_state="{}"}}'

PANELS = (
    Panel(
        "Oldest job that waits", "Since its submission, or since its time came again.", "s",
        (Query(f"max(rave_pool_oldest_waiting_seconds{_OF})", "waits"),), "stat",
    ),
    Panel(
        "Given up", "rave pool dead", "short",
        (Query(f"sum(rave_pool_dead{_OF})", "jobs"),), "stat",
    ),
    Panel(
        "Jobs", "Those that are not over, and how many the pool takes.", "short",
        (
            Query(
                f"sum by (cicd_pipeline_run_state) (cicd_pipeline_run_active{_OF})",
                "{{cicd_pipeline_run_state}}",
            ),
            Query(f"sum(rave_pool_capacity{_OF})", "capacity"),
        ),
    ),
    Panel(
        "Agents", "Those that something keeps from taking jobs are offline.", "short",
        (Query(f"sum by (cicd_worker_state) (cicd_worker_count{_OF})", "{{cicd_worker_state}}"),),
    ),
    Panel(
        "Ends", "Jobs a minute, by how they ended.", "short",
        (
            Query(
                "sum by (cicd_pipeline_result) (rate(cicd_pipeline_run_duration_seconds_count"
                '{instance=~"$instance",cicd_pipeline_result!=""}[5m])) * 60',
                "{{cicd_pipeline_result}}",
            ),
        ),
    ),
    Panel(
        "How long jobs ran", "From the last attempt's begin to the end.", "s",
        _quantiles("cicd_pipeline_run_duration_seconds_bucket", ", cicd_pipeline_result",
                   _STATE.format("executing")),
    ),
    Panel(
        "How long jobs waited", "From submission until the first attempt began.", "s",
        _quantiles("cicd_pipeline_run_duration_seconds_bucket", "", _STATE.format("pending")),
    ),
    Panel(
        "Until the command began", "From when an agent had the job: the start of its machine.", "s",
        _quantiles("rave_pool_start_seconds_bucket", "", _OF),
    ),
    Panel(
        "What went wrong around jobs", "Each five minutes, by what and where.", "short",
        (
            Query(
                "sum by (cicd_system_component, error_type)"
                f" (increase(cicd_system_errors_total{_OF}[5m]))",
                "{{cicd_system_component}}: {{error_type}}",
            ),
            Query(
                f"sum by (error_type) (increase(cicd_pipeline_run_errors_total{_OF}[5m]))",
                "job: {{error_type}}",
            ),
        ),
    ),
    Panel(
        "What keeps agents from jobs", "1 where it does.", "short",
        (
            Query(f"max by (reason) (rave_pool_hold{_OF})", "{{reason}}"),
            Query(f"max(rave_pool_draining{_OF})", "draining"),
        ),
    ),
    Panel(
        "Traces", "Those that wait for the collector, and what became of others each five minutes.",
        "short",
        (
            Query(f"sum(rave_pool_traces_due{_OF})", "due"),
            Query(
                f"sum by (outcome) (increase(rave_pool_traces_total{_OF}[5m]))", "{{outcome}}"
            ),
        ),
    ),
    Panel(
        "Age of these figures", "Of a pool that is served, seconds.", "s",
        (
            Query(
                f"time() - max by (instance) (rave_pool_told_timestamp_seconds{_OF})",
                "{{instance}}",
            ),
            Query(f"max by (instance) (rave_pool_stalled_seconds{_OF})", "{{instance}} stalled"),
        ),
    ),
)  # fmt: skip


def document() -> dict[str, Any]:
    """Return the dashboard, as Grafana imports it."""
    return {
        "uid": "rave-pool",
        "title": "rave pool",
        "tags": ["rave"],
        "schemaVersion": SCHEMA_VERSION,
        "editable": True,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "",
        "templating": {"list": [_source_variable(), _instance_variable()]},
        "panels": [_panel(number, panel) for number, panel in enumerate(PANELS)],
    }


def _panel(number: int, panel: Panel) -> dict[str, Any]:
    column, row = number % (ACROSS // WIDTH), number // (ACROSS // WIDTH)
    return {
        "id": number + 1,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.about,
        "datasource": _SOURCE,
        "gridPos": {"x": column * WIDTH, "y": row * HEIGHT, "w": WIDTH, "h": HEIGHT},
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "targets": [
            {
                "refId": chr(ord("A") + at),
                "datasource": _SOURCE,
                "expr": query.expr,
                "legendFormat": query.legend,
            }
            for at, query in enumerate(panel.queries)
        ],
    }


def _source_variable() -> dict[str, Any]:
    return {
        "name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus",
        "current": {}, "hide": 0,
    }  # fmt: skip


def _instance_variable() -> dict[str, Any]:
    return {
        "name": "instance", "label": "Pool", "type": "query", "datasource": _SOURCE,
        "query": "label_values(rave_pool_capacity, instance)", "refresh": 2,
        "includeAll": True, "multi": True, "allValue": ".*", "current": {}, "hide": 0,
    }  # fmt: skip
