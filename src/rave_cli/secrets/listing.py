"""`rave secrets list`: which secrets there are, whose they are, and whether the file has them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from rave_cli.errors import ExitCode, RaveError
from rave_cli.secrets import identity, store, tree

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from rave_cli.profiles.catalog import Secret


@dataclass(frozen=True)
class Listed:
    """A secret of the catalog. `path` is its place in a guest."""

    name: str
    description: str
    owner: str
    mode: str
    path: str
    present: bool


@dataclass(frozen=True)
class Listing:
    """The secrets of the catalog, and the operator's recipient if there is an identity."""

    file: Path
    recipient: str | None
    entries: tuple[Listed, ...]

    def document(self) -> dict[str, Any]:
        """Return the listing for JSON."""
        return {
            "file": str(self.file),
            "recipient": self.recipient,
            "secrets": [asdict(entry) for entry in self.entries],
        }


def listing(file: Path, catalog: Mapping[str, Secret]) -> Listing:
    """List the secrets of the catalog; reads names from the encrypted file without a key.

    Raises:
        RaveError: SECRETS if the file or the key file is there and cannot be read as one.
    """
    present = _names(file) if file.exists() else set()
    keys = identity.find()
    return Listing(
        file,
        keys.recipients[0] if keys else None,
        tuple(
            Listed(
                name, secret.description, secret.owner, secret.mode,
                secret.path or f"/run/secrets/{name}", name in present,
            )
            for name, secret in catalog.items()
        ),
    )  # fmt: skip


def _names(file: Path) -> set[str]:
    try:
        return {"/".join(path) for path, _ in tree.leaves(tree.parse(store.read(file)))}
    except tree.TreeError as error:
        raise RaveError(
            f"{file} cannot be read: {error}",
            hint="rave secrets validate",
            exit_code=ExitCode.SECRETS,
        ) from error
