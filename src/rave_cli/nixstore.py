"""Which Nix store the Debian base is built in: the host's for root, else one of the user's own.

Its derivations use nothing of any other store, so a store can lie anywhere, and neither a daemon
nor a right to write /nix is needed.
Docs: docs/adr/0021-the-rights-of-a-build.md.
"""

from __future__ import annotations

import os
from pathlib import Path

from rave_cli import paths

HOST_STORE = Path("/nix/store")


def directory() -> Path:
    """Return the store's directory."""
    return HOST_STORE if os.getuid() == 0 else _own() / "store"


def environment() -> dict[str, str]:
    """Return what Nix's processes need to use the store, straight: no daemon's settings count."""
    if os.getuid() == 0:
        return {"NIX_REMOTE": "local"}
    place = _own()
    return {
        "NIX_REMOTE": "local",
        "NIX_STORE_DIR": str(place / "store"),
        "NIX_STATE_DIR": str(place / "var"),
        "NIX_LOG_DIR": str(place / "log"),
    }


def _own() -> Path:
    # Nix wants no symbolic link on the way to its store.
    return paths.data_dir().resolve() / "nix"
