"""`rave pool export`: a file per verb."""

from __future__ import annotations

import click

from rave_cli.lazy import CONTEXT, Lazy, LazyGroup


@click.group(
    cls=LazyGroup,
    context_settings=CONTEXT,
    lazy={
        "k8s": Lazy("rave_cli.commands.pool.export.k8s:k8s", "What a cluster needs."),
        "check": Lazy("rave_cli.commands.pool.export.check:check", "Check that, strictly."),
        "alerts": Lazy("rave_cli.commands.pool.export.alerts:alerts", "Alerts for Prometheus."),
        "dashboard": Lazy(
            "rave_cli.commands.pool.export.dashboard:dashboard", "A dashboard for Grafana."
        ),
    },
)
def export() -> None:
    """Files for others who run the jobs of a pool, or watch it."""
