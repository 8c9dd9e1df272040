"""The folder of the backups, and the key to them.

    FOLDER/repository      the engine's
    FOLDER/key.sops.yaml   its key, sealed to the operator's age recipients
    FOLDER/README          how to come by what is in it without rave
    FOLDER/lock            held while backups are added or taken away

The key lies with what it opens, and opens nothing without an age identity: that, and this folder,
is all that a host which is lost must not take with it.
"""

from __future__ import annotations

import json
import re
import secrets as random
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rave_cli import paths
from rave_cli.backups.engine import KEY_NAME, Engine, gone, is_there
from rave_cli.backups.kept import KnownBackups
from rave_cli.errors import ExitCode, RaveError
from rave_cli.machines.spec import Machine
from rave_cli.machines.store import list_machines
from rave_cli.secrets import policy, sops, store

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from rave_cli.secrets.identity import Keys

KEY = re.compile(r"[0-9a-f]{64}")

README = """\
Backups of machines of rave. With rave, and your age identity in its place:

    RAVE_BACKUP_FOLDER=THIS_FOLDER rave backup list

Without rave, the key is in key.sops.yaml (sops) and what it opens is a repository of restic:

    sops decrypt --extract '["repositoryKey"]' key.sops.yaml >KEYFILE
    restic --repo repository --password-file KEYFILE snapshots
"""


@dataclass(frozen=True)
class Vault:
    """An open folder of backups."""

    folder: Path
    engine: Engine

    def listing(self) -> KnownBackups:
        """Return what is in it.

        Raises:
            RaveError: as the engine.
        """
        machines = [entry for entry in list_machines(()) if isinstance(entry, Machine)]
        names = {machine.spec.instance_id: machine.name for machine in machines}
        return KnownBackups.of(self.engine.snapshots()).called(names)

    @contextmanager
    def changing(self, *, patient: bool = False) -> Iterator[None]:
        """Keep other commands from adding or taking away meanwhile; with `patient`, wait for them.

        Raises:
            RaveError: HOST if one does.
        """
        busy = f"another rave is making a backup in {self.folder}, or taking some away"
        with paths.lock(self.folder / "lock", busy=None if patient else busy):
            self.engine.unlock()
            yield


def default_folder() -> Path:
    """Return the folder that is used unless RAVE_BACKUP_FOLDER names one."""
    return paths.data_dir() / "backups"


def exists(folder: Path) -> bool:
    """Return whether there is a repository or a key to one."""
    return is_there(folder / "repository") or (folder / KEY_NAME).exists()


def create(folder: Path, keys: Keys, *, sparing: bool) -> Vault:
    """Make a folder of backups; what is there already must be nothing of one.

    Raises:
        RaveError: HOST if it cannot be written; SECRETS if the key cannot be sealed.
    """
    paths.make_dir(folder)
    key = random.token_hex(32)
    vault = Vault(folder, Engine(folder / "repository", key.encode(), sparing))
    # The key first: what it opens is of no use without it, and it alone does no harm.
    seal(folder, key, recipients(keys))
    paths.atomic_write(folder / "README", README.encode(), mode=0o600)
    vault.engine.create()
    return vault


def open_vault(folder: Path, keys: Keys, *, sparing: bool) -> Vault:
    """Open the folder of backups.

    Raises:
        RaveError: HOST if there is none; SECRETS if its key is gone, or none of `keys` opens that.
    """
    repository = folder / "repository"
    if not is_there(repository):
        raise gone(folder)
    return Vault(folder, Engine(repository, unseal(folder, keys).encode(), sparing))


def recipients(keys: Keys) -> tuple[str, ...]:
    """Return to whom the key is sealed: those of the secrets file, else the operator alone.

    Raises:
        RaveError: SECRETS as the policy of the secrets file.
    """
    file = store.default_file()
    named = policy.load(file).recipients if policy.find(file) is not None else ()
    own = keys.own.identities[0].recipient
    return named or (own,)


def seal(folder: Path, key: str, to: Sequence[str]) -> None:
    """Write the key so that only `to` can read it.

    Raises:
        RaveError: SECRETS if sops refuses; HOST if it cannot be written.
    """
    text = json.dumps({"repositoryKey": key}).encode()
    paths.atomic_write(folder / KEY_NAME, sops.encrypt(text, to, source="json"), mode=0o600)


def unseal(folder: Path, keys: Keys) -> str:
    """Return the key.

    Raises:
        RaveError: SECRETS if it is gone, changed, or not for `keys`.
    """
    place = folder / KEY_NAME
    if not place.exists():
        raise RaveError(
            f"the key to the backups is gone: there is no {place}",
            hint="put a copy of it back, or the key that you kept on paper:"
            " rave backup key --put-back",
            exit_code=ExitCode.SECRETS,
        )
    data = paths.read_trusted(place, exit_code=ExitCode.SECRETS)
    try:
        found = json.loads(store.decrypt(data, keys, output="json")).get("repositoryKey")
    except RaveError as error:
        raise RaveError(
            f"{place} cannot be opened: {error.message}",
            hint="put your age identity in its place (rave doctor identity), or the key that you"
            " kept on paper: rave backup key --put-back",
            exit_code=ExitCode.SECRETS,
            detail=error.detail,
        ) from error
    if not isinstance(found, str) or not KEY.fullmatch(found):
        raise RaveError(
            f"{place} holds no key to backups",
            hint="put a copy of it back, or: rave backup key --put-back",
            exit_code=ExitCode.SECRETS,
        )
    return found
