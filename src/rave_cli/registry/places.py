"""Where things were pushed to from here: the statements that are kept, read without verifying them.

`rave pool show` looks here each time, so nothing is imported that a signature takes.
"""

from __future__ import annotations

import base64
import hashlib
import json
from typing import TYPE_CHECKING

from rave_cli import paths

if TYPE_CHECKING:
    from pathlib import Path

    from rave_cli.registry.reference import Reference


def folder() -> Path:
    """Return where the statements are kept."""
    return paths.data_dir() / "pushed"


def statement_file(kind: str, name: str, reference: Reference) -> Path:
    """Return the file of a statement: one for each thing, place and digest."""
    digest = hashlib.sha256(str(reference).encode()).hexdigest()[:16]
    return folder() / f"{kind}-{name}-{digest}.dsse.json"


def pushed_to(kind: str, name: str) -> list[str]:
    """Return the references under which a thing was pushed, with their digests, in order.

    Args:
        kind: `image` or `job`.
        name: of it.

    Raises:
        RaveError: HOST if somebody else may have written a statement, or one cannot be read.
    """
    found = (_reference(paths.read_trusted(place)) for place in _files(kind, name))
    return sorted(reference for reference in found if reference is not None)


def _files(kind: str, name: str) -> list[Path]:
    return list(folder().glob(f"{kind}-{name}-*.dsse.json"))


def _reference(raw: bytes) -> str | None:
    try:
        statement = json.loads(base64.b64decode(json.loads(raw)["payload"]))
        return str(statement["predicate"]["reference"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
