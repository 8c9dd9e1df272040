"""Canaille: the clients of single sign-on, which are what services of the plan need.

Redirect addresses are below the machine's public origin: Canaille completes them when it starts.
"""

from __future__ import annotations

import json
from typing import Any


def files(plan: dict[str, Any]) -> dict[str, str]:
    """What Canaille is told of clients, and the program that prepares their secrets."""
    clients = [
        {
            **service["oidcClient"],
            "service": name,
            "title": service["title"],
            "site": service["site"],
        }
        for name, service in sorted(plan["services"].items())
        if service["oidcClient"] is not None
    ]
    site = plan["services"]["canaille"]["site"]
    lines = (f"{client['id']} {plan['secrets'][client['secret']]['path']}\n" for client in clients)
    return {
        "etc/rave/clients.json": json.dumps({"site": site, "clients": clients}) + "\n",
        "etc/rave/client-secrets": "".join(lines),
    }
