"""`rave secrets list`: which secrets there are, whose they are, and whether the file has them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from rave_cli.errors import ExitCode, RaveError
from rave_cli.secrets import ages, identity, store, structure, tree

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from rave_cli.profiles.catalog import Secret
    from rave_cli.secrets.ages import Age


@dataclass(frozen=True)
class Listed:
    """A secret of the catalog. `path` is its place in a guest.

    `since` is the time (RFC 3339) since when it has its value, or, unless `made`, for longer; None
    if nothing is known of that. `due` says that it is to be renewed for its age, `lasting` why it
    is not.
    """

    name: str
    description: str
    owner: str
    mode: str
    path: str
    present: bool
    since: str | None = None
    made: bool = False
    due: bool = False
    lasting: str | None = None


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
    data = store.read(file) if file.exists() else None
    present = set() if data is None else _names(file, data)
    known = {} if data is None else ages.of(file, present, structure.written(data))
    late = set(ages.due(known, catalog))
    keys = identity.find()
    return Listing(
        file,
        keys.recipients[0] if keys else None,
        tuple(
            _listed(name, secret, known.get(name), present=name in present, due=name in late)
            for name, secret in catalog.items()
        ),
    )


def due(file: Path, catalog: Mapping[str, Secret]) -> tuple[str, ...]:
    """Return the secrets of a file that are to be renewed for their age; needs no key.

    Raises:
        RaveError: SECRETS if the file is missing or cannot be read as one.
    """
    data = store.read(file)
    return ages.due(ages.of(file, _names(file, data), structure.written(data)), catalog)


def names(file: Path) -> set[str]:
    """Return the names of the secrets of a file; needs no key. None if there is no such file.

    Raises:
        RaveError: SECRETS if it cannot be read as one.
    """
    return _names(file, store.read(file)) if file.exists() else set()


def _listed(name: str, secret: Secret, age: Age | None, *, present: bool, due: bool) -> Listed:
    return Listed(
        name, secret.description, secret.owner, secret.mode,
        secret.path or f"/run/secrets/{name}", present,
        since=age.since.isoformat() if age else None,
        made=age is not None and age.made,
        due=due,
        lasting=secret.lasting,
    )  # fmt: skip


def _names(file: Path, data: bytes) -> set[str]:
    try:
        return {"/".join(path) for path, _ in tree.leaves(tree.parse(data))}
    except tree.TreeError as error:
        raise RaveError(
            f"{file} cannot be read: {error}",
            hint="rave secrets validate",
            exit_code=ExitCode.SECRETS,
        ) from error
