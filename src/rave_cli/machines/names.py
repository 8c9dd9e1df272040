"""The names of the machines that exist, cheap enough for shell completion."""

from __future__ import annotations

from rave_cli import paths


def stored_names() -> list[str]:
    """Return the name of every machine directory, sorted; none if there are no machines."""
    try:
        entries = list((paths.data_dir() / "vms").iterdir())
    except OSError:
        return []
    return sorted(e.name for e in entries if not e.name.startswith(".") and e.is_dir())
