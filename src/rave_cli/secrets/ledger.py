"""What rave last wrote or proved of each secrets file, so that a rollback is noticed.

Putting back an older file is invisible to sops: every version is valid. The ledger lies in the
operator's own state directory, out of reach of somebody who can only edit the file.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from rave_cli import paths
from rave_cli.errors import ExitCode, RaveError
from rave_cli.secrets.findings import Finding, warning

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from rave_cli.secrets.structure import Structure


@dataclass(frozen=True)
class Entry:
    """One version of a secrets file: its digest, its time (RFC 3339) and who could read it."""

    sha256: str
    lastmodified: str
    recipients: tuple[str, ...]


def place() -> Path:
    """Return the ledger's file."""
    return paths.state_dir() / "secrets" / "ledger.json"


def recall(file: Path) -> Entry | None:
    """Return what is known of a secrets file.

    Raises:
        RaveError: HOST if the ledger cannot be read.
    """
    known = _load().get(str(file.absolute()))
    return None if known is None else _entry(known)


def record(file: Path, entry: Entry) -> None:
    """Remember a version of a secrets file.

    Raises:
        RaveError: HOST if the ledger cannot be read or written.
    """
    entries = _load() | {str(file.absolute()): asdict(entry)}
    text = json.dumps(entries, indent=2, sort_keys=True).encode()
    paths.atomic_write(place(), text + b"\n", mode=0o600)


def compare(known: Entry, sha256: str, structure: Structure) -> Iterator[Finding]:
    """Yield what is suspicious about a file, given the version known last."""
    then, found = datetime.fromisoformat(known.lastmodified), structure.lastmodified
    if found is not None and found < then:
        yield warning(
            "rollback",
            f"the file is from {found.isoformat()}, older than the version of "
            f"{known.lastmodified} that was here: rotated values may have come back",
            hint="restore the newer version, or accept this one: rave secrets edit --reencrypt",
        )
    elif found == then and sha256 != known.sha256:
        yield warning(
            "changed",
            f"the file differs from the version of {known.lastmodified} but claims the same time",
        )
    for recipient in structure.recipients:
        if recipient not in known.recipients:
            yield warning(
                "recipient-new",
                f"{recipient} can read the file now and could not read the version known last",
            )


def _load() -> dict[str, Any]:
    path = place()
    if not path.exists():
        return {}
    try:
        entries = json.loads(path.read_bytes())
        for entry in entries.values():
            _entry(entry)
    except (OSError, ValueError, AttributeError, KeyError, TypeError) as error:
        raise RaveError(
            f"{path} cannot be read: {error}",
            hint=f"rm {path}   (rave then forgets which versions it has seen)",
            exit_code=ExitCode.HOST,
        ) from error
    return dict(entries)


def _entry(raw: dict[str, Any]) -> Entry:
    datetime.fromisoformat(raw["lastmodified"])
    return Entry(raw["sha256"], raw["lastmodified"], tuple(raw["recipients"]))
