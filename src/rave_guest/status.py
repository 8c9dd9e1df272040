"""What the machine says of itself to programs: status.json, and metrics for Prometheus."""

from __future__ import annotations

from rave_guest import report

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

METRICS = "/run/rave/metrics/rave.prom"
# States of a service that cannot be well yet, which is no fault: it waits for secrets, or starts.
ON_ITS_WAY = {"waiting", "starting"}


def document(
    plan: dict[str, Any], services: dict[str, dict[str, object]], secrets: str, failed: list[str]
) -> dict[str, Any]:
    """The state of the machine as status.json shows it. `failed` names failed units."""
    healthy = not failed and all(s["state"] == "healthy" for s in services.values())
    return {
        "v": 1,
        "instance": report.instance(),
        "profile": plan["profile"],
        "base": plan["base"],
        "state": "healthy" if healthy else "degraded",
        "uptime": report.uptime(),
        "services": services,
        "absent": plan["absent"],
        "secrets": secrets,
        "failed": failed,
    }


def metrics(state: dict[str, Any]) -> str:
    """The same for Prometheus."""
    lines = [
        "# HELP rave_service_healthy Whether the service answers its health questions.",
        "# TYPE rave_service_healthy gauge",
    ]
    lines += [
        f'rave_service_healthy{{service="{name}"}} {int(service["state"] == "healthy")}'
        for name, service in state["services"].items()
        if service["state"] not in ON_ITS_WAY
    ]
    lines += [
        "# HELP rave_service_on_its_way Whether the service waits for secrets, or starts.",
        "# TYPE rave_service_on_its_way gauge",
    ]
    lines += [
        f'rave_service_on_its_way{{service="{name}"}} 1'
        for name, service in state["services"].items()
        if service["state"] in ON_ITS_WAY
    ]
    lines += [
        "# HELP rave_failed_units Number of failed systemd units.",
        "# TYPE rave_failed_units gauge",
        f"rave_failed_units {len(state['failed'])}",
        "# HELP rave_secrets_installed Whether the secrets are in place.",
        "# TYPE rave_secrets_installed gauge",
        f"rave_secrets_installed {int(state['secrets'] == 'installed')}",
    ]
    return "\n".join(lines) + "\n"
