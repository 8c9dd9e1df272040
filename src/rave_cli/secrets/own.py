"""Secrets of the operator's file that this host uses itself: the catalog does not know them, and no
machine gets them.
"""

from __future__ import annotations

# Where a copy of the backups is kept, and what that place wants to see (backups/away/place.py).
BACKUP_COPY = "backup-copy"


def is_own(name: str) -> bool:
    """Return whether a secret is one of this host's own."""
    return name.startswith(f"{BACKUP_COPY}/")
