"""Whether the host's disk has room for another job: one that is full ends all that run, and whoever
serves the pool.
"""

from __future__ import annotations

import shutil

from rave_cli import paths
from rave_cli.pool.served import HoldUp

# MiB that must be left where machines and jobs are kept, for another job to begin: what it prints,
# what its machine writes while somebody notices, and the end of those that run.
LEAST_MIB = 1024


def full() -> HoldUp | None:
    """Return what keeps jobs from beginning where too little is left; None where it is enough."""
    place = paths.data_dir()
    try:
        free = shutil.disk_usage(place).free >> 20
    except OSError:
        # Whoever writes there is told why it cannot.
        return None
    if free >= LEAST_MIB:
        return None
    why = f"{free} MiB are left below {place}, and a job begins with {LEAST_MIB} at least"
    return HoldUp("disk", why, f"df -h {place}; rave prune --dry-run   (what can go)")
