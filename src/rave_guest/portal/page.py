"""The page that people open first. What needs attention, and each service as a card.

Plain HTML with a style sheet beside it, written anew whenever something changes (ready.py), and
served by nginx as a file. What depends on who looks is put in by nginx, which asks program.py for
it; where that does not answer, the page is whole without.
"""

from __future__ import annotations

import os
import time

from rave_guest import certificate, report
from rave_guest import plan as plans
from rave_guest.portal.html import escape, marked
from rave_guest.report import ORIGIN

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

PAGE = "/run/rave/www/index.html"
SHEET = "/run/rave/www/portal.css"
DAY = 86400
# As the alert CertificateExpires (infra/catalog/facts/alerts.nix).
SOON = 14 * DAY
ALERTS = 1.0  # seconds for Prometheus to tell which alerts fire
MOST_ALERTS = 20

SECRETS = {
    "absent": "not installed: services refuse logins until `rave secrets install`",
    "installed": "installed",
    "failed": "installation failed: see `journalctl -u rave-secrets`",
}


def firing(plan: Mapping[str, Any], state: Mapping[str, Any]) -> list[str]:
    """The alerts that fire, as Prometheus says; none where it is not there or does not answer."""
    if state["services"].get("prometheus", {}).get("state") != "healthy":
        return []
    import json

    from rave_guest.wire import http

    try:
        port = plans.port_of(plan, "prometheus", "web")
        answer = http.get(f"http://127.0.0.1:{port}/api/v1/alerts", ALERTS)
        alerts = json.loads(answer.body)["data"]["alerts"]
        return sorted({_alert(one) for one in alerts if one["state"] == "firing"})[:MOST_ALERTS]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return []


def _alert(found: Mapping[str, Any]) -> str:
    labels = found["labels"]
    about = labels.get("service") or labels.get("job") or ""
    summary = found.get("annotations", {}).get("summary") or labels["alertname"]
    return f"{labels['alertname']}{f' ({about})' if about else ''}: {summary}"


def attention(state: Mapping[str, Any], alerts: list[str], now: float) -> list[str]:
    """What somebody should look at, the worst first; as text with commands between backticks."""
    failed = [s["title"] for s in state["services"].values() if s["state"] == "failed"]
    found = [f"{title} does not answer" for title in failed]
    found += [f"the unit `{unit}` has failed" for unit in state["failed"]]
    if state["secrets"] != "installed":
        found.append(f"secrets: {SECRETS[state['secrets']]}")
    return found + shown(now) + [f"alert {alert}" for alert in alerts]


def shown(now: float) -> list[str]:
    """What is wrong with the certificate that nginx shows."""
    try:
        left = certificate.not_after(report.read(certificate.CURRENT)) - now
    except ValueError:
        return []
    found = []
    if left < 0:
        found.append("the certificate of this page has ended: `rave tls renew`")
    elif left < SOON:
        found.append(
            f"the certificate of this page ends in {left / DAY:.0f} days: `rave tls renew`"
        )
    if os.path.realpath(certificate.CURRENT).endswith("/ephemeral.crt"):
        found.append("the certificate of this page is its own, for its host gave it none")
    return found


def page(
    plan: Mapping[str, Any], state: Mapping[str, Any], *, alerts: list[str], now: float
) -> str:
    """The page."""
    notes = attention(state, alerts, now)
    listed = "\n".join(f"<li>{marked(note)}" for note in notes)
    health = escape(state["state"])
    records = plan["services"]
    sites = {name for name in state["services"] if records.get(name, {}).get("site")}
    absent = ", ".join(escape(name) for name in state["absent"]) or "none"
    return f"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta name="color-scheme" content="light dark">
<meta http-equiv="refresh" content="10">
<title>rave: {escape(state["profile"])} is {health}</title>
<link rel="stylesheet" href="/portal.css">
<header>
<h1>rave <small>{escape(state["profile"])} on {escape(state["base"])}</small></h1>
<p class="{health}"><strong>{health}</strong> at {time.strftime("%H:%M:%S", time.gmtime(now))} UTC
</header>
<main>
<section class="attention">
<h2>Needs attention</h2>
{f"<ul>{listed}</ul>" if notes else "<p>Nothing."}
</section>
{_visitors(plan)}{_cards("Applications", plan, state, sites)}
{_cards("Services", plan, state, set(state["services"]) - sites)}
</main>
<footer>
<dl>
<dt>secrets<dd>{marked(SECRETS[state["secrets"]])}
<dt>not in this image<dd>{absent}
<dt>machine<dd><code>{escape(state["instance"])}</code>
</dl>
<p><a href="/status.json">status.json</a>
</footer>
</html>
"""


def _visitors(plan: Mapping[str, Any]) -> str:
    """Where nginx puts in what is for whoever looks (ngx_http_ssi_module)."""
    if "portal" not in plan["services"]:
        return ""
    return """\
<section class="visitors">
<!--# block name="away" --><p>Figures and sign-in come in a moment.<!--# endblock -->
<!--# include virtual="/portal/part" stub="away" -->
</section>
"""


def _cards(title: str, plan: Mapping[str, Any], state: Mapping[str, Any], names: set[str]) -> str:
    if not names:
        return ""
    cards = "\n".join(
        _card(service, plan["services"].get(name, {}), plan.get("versions", {}).get(name, ""))
        for name, service in state["services"].items()
        if name in names
    )
    return f'<section>\n<h2>{title}</h2>\n<ul class="cards">\n{cards}\n</ul>\n</section>'


def _card(service: Mapping[str, Any], record: Mapping[str, Any], version: str) -> str:
    state, name = escape(service["state"]), escape(service["title"])
    address = _address(record.get("site"))
    head = f'<a href="{escape(address)}">{name}</a>' if address else name
    known = (
        f' <span title="{escape(version)}">{escape(upstream(version))}</span>' if version else ""
    )
    return (
        f'<li class="{state}"><h3>{head}{known}</h3>'
        f'<p class="state">{state} <small>{float(service["uptime"]):.1f} s after the start</small>'
        f"<p>{escape(record.get('description', ''))}<p><code>{escape(service['unit'])}</code>"
    )


def _address(site: str | None) -> str:
    """Where people open an application."""
    origin = report.read(ORIGIN)
    return origin.replace("://", f"://{site}.") + "/" if site and origin else ""


def upstream(version: str) -> str:
    """A version without what Debian adds to it (deb-version(7)): epoch, and its own revision."""
    epoch, colon, rest = version.partition(":")
    bare = rest if colon and epoch.isdecimal() else version
    return (bare.rpartition("-")[0] or bare).partition("+")[0]


STYLE = """\
:root{color-scheme:light dark;--ink:#1b1b1b;--paper:#fff;--line:#d4d4d4;--soft:#595959;
--good:#176b1f;--bad:#b00020;--wait:#7a5200}
@media(prefers-color-scheme:dark){:root{--ink:#e4e4e4;--paper:#121212;--line:#3a3a3a;--soft:#a8a8a8;
--good:#7bd88f;--bad:#ff8a80;--wait:#f0c674}}
*{box-sizing:border-box}
body{font:16px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--paper);max-width:72rem;
margin:0 auto;padding:1rem}
h1{margin:.5rem 0 0}h2{font-size:1.1rem;margin:1.5rem 0 .5rem}h3{font-size:1rem;margin:0}
small,h3 span,footer{color:var(--soft);font-weight:normal}
a{color:inherit}
p{margin:.25rem 0}code{overflow-wrap:anywhere}
.cards{list-style:none;padding:0;margin:0;display:grid;gap:.75rem;
grid-template-columns:repeat(auto-fill,minmax(min(16rem,100%),1fr))}
.cards li{border:1px solid var(--line);border-left-width:.3rem;border-radius:.4rem;
padding:.6rem .8rem}
.cards p{font-size:.9rem}
.healthy{border-left-color:var(--good)!important}.healthy .state,p.healthy{color:var(--good)}
.failed{border-left-color:var(--bad)!important}.failed .state,p.degraded{color:var(--bad)}
.starting .state,.waiting .state{color:var(--wait)}
.attention{border:1px solid var(--line);border-radius:.4rem;padding:.2rem .8rem .6rem;
margin-top:1rem}
.attention ul{margin:0;padding-left:1.2rem}.attention h2{margin-top:.5rem}
.visitor{display:flex;flex-wrap:wrap;gap:.25rem 1rem;margin-top:1rem}
button{font:inherit;color:inherit;background:none;border:1px solid var(--line);border-radius:.4rem;
padding:.1rem .7rem;cursor:pointer}
.figures{grid-template-columns:repeat(auto-fill,minmax(min(12rem,100%),1fr))}
.cards .figure{font-size:1.3rem}canvas{width:100%;max-height:5rem}
dt{font-weight:bold;margin-top:.5rem}dd{margin:0}
"""
