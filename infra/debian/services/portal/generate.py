"""The portal: what its program is told of the machine, and what of Prometheus people reach by it.

Addresses for browsers follow from the machine's public origin: the program completes them.
"""

from __future__ import annotations

import json
from typing import Any

LINKS = {
    "prometheus": ("Prometheus", "/prometheus/"),
    # Debian's has no pages.
    "alertmanager": ("Alertmanager", "/alertmanager/api/v2/alerts"),
    "buildbot": ("Builds", "/buildbot/"),
}

# With a name of their own below the machine's, and no accounts: whoever has signed in is let in.
SITES = ("vibe-kanban",)

ADDRESS = "etc/systemd/system/prometheus.service.d/40-portal.conf"
BEHIND = """\
# What its pages name is below the portal's path; where it answers stays.
[Service]
Environment="BEHIND=--web.external-url=/prometheus/ --web.route-prefix=/"
"""


def files(plan: dict[str, Any]) -> dict[str, str]:
    """The settings of its program, and the locations of nginx that are behind sign-in."""
    services = plan["services"]
    behind = [name for name in LINKS if name in services and provider(services)]
    settings = {
        "prometheus": inside(services, "prometheus") if "prometheus" in services else None,
        "charts": True,
        "provider": provider(services),
        "links": [{"title": LINKS[name][0], "path": LINKS[name][1]} for name in behind],
    }
    if sites := [services[name]["site"] for name in SITES if name in services]:
        settings["sites"] = sites
    return {
        "etc/rave/portal.json": json.dumps(settings, indent=2) + "\n",
        # Only there people reach its pages: without, the operator's tunnel leads to them.
        **({ADDRESS: BEHIND} if provider(services) else {}),
        "etc/nginx/locations/portal-behind.conf": "".join(
            location(name, inside(services, name)) for name in behind
        ),
    }


def inside(services: dict[str, Any], name: str) -> str:
    """Where a service is reached within the machine."""
    ports = {port["name"]: port["port"] for port in services[name]["ports"]}
    return f"http://127.0.0.1:{ports['web']}"


def provider(services: dict[str, Any]) -> dict[str, Any] | None:
    """Who signs people in, if the plan has anybody; the addresses are Canaille's."""
    found = [name for name, one in services.items() if "oidc" in one["provides"]]
    if not found:
        return None
    own, (name,) = services["portal"]["oidcClient"], found
    site, address = f"{{scheme}}://{services[name]['site']}.{{place}}", inside(services, name)
    return {
        "name": services[name]["title"],
        "client": own["id"],
        "scopes": own["scopes"],
        "secret": f"/run/secrets/{own['secret']}",
        "issuer": site,
        "authorize": f"{site}/oauth/authorize",
        "end": f"{site}/oauth/end_session",
        "token": f"{address}/oauth/token",
        "jwks": f"{address}/oauth/jwks.json",
    }


def location(name: str, address: str) -> str:
    """What of a service whoever has signed in sees: nobody changes anything there."""
    return f"""\
location /{name}/ {{
    limit_except GET {{ deny all; }}
    auth_request /portal/session;
    error_page 401 = @portal-sign-in-{name};
    include /etc/nginx/behind.conf;
    proxy_pass {address}/;
}}
location @portal-sign-in-{name} {{
    return 303 /portal/sign-in?to={name};
}}
"""
