"""What rave last wrote or proved of each secrets file, so that a rollback is noticed.

Putting back an older file is invisible to sops: every version is valid. The ledger lies in the
operator's own state directory, out of reach of somebody who can only edit the file.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict

from rave_cli import paths
from rave_cli.records import RecordFormat
from rave_cli.secrets.findings import Finding, warning

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from rave_cli.secrets.structure import Structure


def _moment(text: str) -> str:
    if datetime.fromisoformat(text).tzinfo is None:
        raise ValueError("a time without its zone")
    return text


# A time with its zone (RFC 3339).
Moment = Annotated[str, AfterValidator(_moment)]


@dataclass(frozen=True)
class LedgerEntry:
    """One version of a secrets file: its digest, its time (RFC 3339) and who could read it."""

    sha256: str
    lastmodified: Moment
    recipients: tuple[str, ...]


class Ledger(BaseModel):
    """What is known of each secrets file, by its absolute path."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    files: dict[str, LedgerEntry] = {}


# The ledger of 0.1.0 had no version: it was the files themselves.
LEDGER = RecordFormat(
    title="the ledger of secrets files",
    shape=Ledger,
    version=1,
    upgrades={0: lambda files: {"files": files}},
    unversioned=0,
)


def place() -> Path:
    """Return the ledger's file."""
    return paths.state_dir() / "secrets" / "ledger.json"


def recall(file: Path) -> LedgerEntry | None:
    """Return what is known of a secrets file.

    Raises:
        RaveError: HOST if the ledger cannot be read.
    """
    return _load().files.get(str(file.absolute()))


def record(file: Path, entry: LedgerEntry) -> None:
    """Remember a version of a secrets file.

    Raises:
        RaveError: HOST if the ledger cannot be read or written.
    """
    files = _load().files | {str(file.absolute()): entry}
    LEDGER.write(place(), Ledger(files=dict(sorted(files.items()))), mode=0o600)


def compare(known: LedgerEntry, sha256: str, structure: Structure) -> Iterator[Finding]:
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


def _load() -> Ledger:
    path = place()
    if not path.exists():
        return Ledger()
    hint = f"mv {path} {path}.damaged   (rave then forgets which versions it has seen)"
    return LEDGER.read(path, hint=hint)
