"""Alertmanager: routes are facts, in its own form. JSON is YAML."""

from __future__ import annotations

import json
from typing import Any


def files(plan: dict[str, Any]) -> dict[str, str]:
    """Its configuration."""
    document = json.dumps(plan["facts"]["alertmanager"], indent=2, sort_keys=True)
    return {"etc/rave/alertmanager.yml": f"{document}\n"}
