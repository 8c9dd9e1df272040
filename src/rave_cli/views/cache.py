"""How the caches of jobs read, for people and as JSON."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rave_cli.views.pool import duration

if TYPE_CHECKING:
    from rave_cli.pool.files.caches import KeptCache
    from rave_cli.show import Line, Show

COLUMNS = ("cache", "owner", "MiB", "used", "left by")


def cache_document(cache: KeptCache) -> dict[str, Any]:
    """Return what `--json` shows of a cache."""
    found = asdict(cache)
    del found["place"]
    return found


def cache_rows(show: Show, caches: list[KeptCache]) -> list[Line]:
    """Return a table of caches."""
    now = time.time()
    rows = [
        (one.key, one.owner, str(one.size >> 20), f"{duration(now - one.used)} ago", one.left_by)
        for one in caches
    ]
    return show.table(COLUMNS, rows) if rows else []
