"""nginx: the headers of the status page."""

from __future__ import annotations

from typing import Any


def files(plan: dict[str, Any]) -> dict[str, str]:
    """What nginx.conf includes."""
    nginx = plan["facts"]["nginx"]
    headers = nginx["headers"] | nginx["pageHeaders"]
    lines = (f'add_header {name} "{value}" always;\n' for name, value in sorted(headers.items()))
    return {"etc/nginx/headers.conf": "".join(lines)}
