"""nginx: the headers of the status page, of its files, and of what is behind sign-in."""

from __future__ import annotations

from typing import Any


def files(plan: dict[str, Any]) -> dict[str, str]:
    """What nginx.conf includes, and locations whose headers are others: those are then all."""
    nginx = plan["facts"]["nginx"]
    every = {"headers": "pageHeaders", "files": "fileHeaders", "behind": "behindHeaders"}
    return {
        f"etc/nginx/{name}.conf": lines(nginx["headers"] | nginx[own])
        for name, own in every.items()
    }


def lines(headers: dict[str, str]) -> str:
    """Headers as nginx sets them."""
    return "".join(
        f'add_header {name} "{value}" always;\n' for name, value in sorted(headers.items())
    )
