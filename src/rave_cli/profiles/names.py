"""The names that the baked catalog knows, and those of modes: cheap enough for shell completion."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

# How much of the host a machine and a build may use.
Mode = Literal["safe", "full"]

BAKED = Path(__file__).with_name("catalog.json")


def profiles() -> list[str]:
    """Return the names of the profiles."""
    return list(_baked()["profiles"])


def bases() -> list[str]:
    """Return the names of the bases."""
    found = (base for profile in _baked()["profiles"].values() for base in profile["bases"])
    return list(dict.fromkeys(found))


def secrets() -> list[str]:
    """Return the names of the secrets."""
    return list(_baked()["secrets"])


def _baked() -> Any:  # noqa: ANN401 - JSON
    return json.loads(BAKED.read_bytes())
