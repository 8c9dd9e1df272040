"""Redis: the settings that both bases agree on."""

from __future__ import annotations

from typing import Any


def files(plan: dict[str, Any]) -> dict[str, str]:
    """What redis.conf includes."""
    settings = sorted(plan["facts"]["redis"]["settings"].items())
    return {"etc/rave/redis-settings.conf": "".join(f"{name} {v}\n" for name, v in settings)}
