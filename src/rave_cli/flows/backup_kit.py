"""Make the page that is kept outside of this host."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rave_cli import paths
from rave_cli.backups import kit
from rave_cli.backups import vault as folders
from rave_cli.errors import ExitCode, RaveError
from rave_cli.flows import away
from rave_cli.flows import vault as vaults
from rave_cli.secrets import identity

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from rave_cli.settings import Settings


@dataclass(frozen=True)
class BackupKit:
    """A page that was made: where it is, and whether the key on it is sealed."""

    place: Path
    sealed: bool
    checksum: str

    def document(self) -> dict[str, object]:
        """Return it for JSON."""
        return {"file": str(self.place), "sealed": self.sealed, "checksum": self.checksum}


def make(place: Path, settings: Settings, ask: Callable[[], str] | None) -> BackupKit:
    """Write the page; `ask` returns the passphrase that the key is sealed to, None leaves it as it
    is.

    Raises:
        RaveError: USAGE if the file is there, or lies with the backups, or the passphrase is short;
            as opening the folder; HOST if it cannot be written.
    """
    target = vaults.opened(settings)
    place = place.expanduser().absolute()
    if place.exists() or place.is_symlink():
        raise RaveError(
            f"there is {place} already", hint="name another file", exit_code=ExitCode.USAGE
        )
    if place.is_relative_to(target.folder):
        raise RaveError(
            f"{place} lies with what it opens",
            hint="name a file elsewhere, print it, and delete it",
            exit_code=ExitCode.USAGE,
        )
    passphrase = None if ask is None else ask()
    if passphrase is not None and len(passphrase) < kit.SHORTEST_PASSPHRASE:
        raise RaveError(
            f"a passphrase has {kit.SHORTEST_PASSPHRASE} characters at least",
            hint="five words that do not belong together are a good one",
            exit_code=ExitCode.USAGE,
        )
    keys = identity.load()
    key = target.engine.key.decode()
    other = away.named() if away.is_named() else None
    facts = kit.KitFacts(
        platform.node(), target.folder, folders.recipients(keys), keys.own.place,
        None if other is None else str(other), other is not None and "ca" in other.shown,
    )  # fmt: skip
    text = kit.page(facts, key, passphrase, () if other is None else other.told())
    paths.atomic_write(place, text.encode(), mode=0o600)
    kit.noted(target.folder, key, is_sealed=passphrase is not None)
    return BackupKit(place, passphrase is not None, kit.checksum(key))
