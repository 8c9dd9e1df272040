"""What the machine says of itself: status.json, the page for people, metrics for Prometheus."""

from __future__ import annotations

from rave_guest import report

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

PAGE = "/run/rave/www/index.html"
METRICS = "/run/rave/metrics/rave.prom"
SECRETS = {
    "absent": "not installed: services refuse logins until `rave secrets install`",
    "installed": "installed",
    "failed": "installation failed: see `journalctl -u rave-secrets`",
}


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


def page(state: dict[str, Any]) -> str:
    """The status page: plain HTML without scripts, so that its content policy can forbid all."""
    rows = "\n".join(
        f'<tr class="{escape(s["state"])}"><td>{escape(s["title"])}<td>{escape(s["state"])}'
        f"<td><code>{escape(s['unit'])}</code><td>{float(s['uptime']):.1f} s"
        for s in state["services"].values()
    )
    failed = ", ".join(f"<code>{escape(unit)}</code>" for unit in state["failed"]) or "none"
    absent = ", ".join(escape(name) for name in state["absent"]) or "none"
    return f"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta http-equiv="refresh" content="10">
<title>rave: {escape(state["profile"])} is {escape(state["state"])}</title>
<style>{STYLE}</style>
<h1>rave <small>{escape(state["profile"])} on {escape(state["base"])}</small></h1>
<p class="{escape(state["state"])}"><strong>{escape(state["state"])}</strong>
<table>
<thead><tr><th>service<th>state<th>unit<th>since start
<tbody>
{rows}
</table>
<dl>
<dt>secrets<dd>{escape(SECRETS[state["secrets"]])}
<dt>failed units<dd>{failed}
<dt>not carried by this base<dd>{absent}
<dt>machine<dd><code>{escape(state["instance"])}</code>
</dl>
<p><a href="/status.json">status.json</a>
</html>
"""


STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:48rem;margin:2rem auto;padding:0 1rem}"
    "small{font-weight:normal;color:#666}table{border-collapse:collapse;width:100%}"
    "th,td{text-align:left;padding:.25rem .75rem;border-bottom:1px solid #ddd}"
    ".healthy td:nth-child(2),p.healthy{color:#176b1f}"
    ".failed td:nth-child(2),p.degraded{color:#b00020}dt{font-weight:bold;margin-top:.75rem}"
    "@media(prefers-color-scheme:dark){body{background:#111;color:#ddd}"
    ".healthy td:nth-child(2),p.healthy{color:#6c6}.failed td:nth-child(2),p.degraded{color:#f66}}"
)


def metrics(state: dict[str, Any]) -> str:
    """The same for the node exporter's textfile collector."""
    lines = [
        "# HELP rave_service_healthy Whether the service answers its health questions.",
        "# TYPE rave_service_healthy gauge",
    ]
    lines += [
        f'rave_service_healthy{{service="{name}"}} {int(service["state"] == "healthy")}'
        for name, service in state["services"].items()
        if service["state"] not in {"waiting", "starting"}
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


def escape(text: object) -> str:
    """Text as HTML, also within an attribute; the html module would import re."""
    table = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;"}
    return "".join(table.get(character, character) for character in str(text))
