"""`rave secrets init` and `rotate`: the identity, the policy and a value for every secret."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rave_cli import age, paths
from rave_cli.errors import ExitCode, RaveError
from rave_cli.secrets import generate, identity, policy, store

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from rave_cli.profiles.catalog import Secret
    from rave_cli.secrets.identity import Keys


@dataclass(frozen=True)
class Initialized:
    """What `init` found or made. `added` names the secrets that got a value."""

    file: Path
    key_file: Path
    recipient: str
    policy: Path
    made_key: bool
    made_policy: bool
    added: tuple[str, ...]
    kept: tuple[str, ...]

    def document(self) -> dict[str, Any]:
        """Return the result for JSON."""
        return {
            "file": str(self.file),
            "keyFile": str(self.key_file),
            "recipient": self.recipient,
            "policy": str(self.policy),
            "madeKey": self.made_key,
            "madePolicy": self.made_policy,
            "added": list(self.added),
            "kept": list(self.kept),
        }


def init(
    file: Path, catalog: Mapping[str, Secret], *, recipients: Sequence[str] = ()
) -> Initialized:
    """Make what is missing: the age identity, `.sops.yaml`, and values in the secrets file.

    Existing values, an existing policy and an existing identity stay as they are.

    Args:
        file: the secrets file.
        catalog: the secrets there should be.
        recipients: further operators (age1...) who may read the file; only for a new policy.

    Raises:
        RaveError: USAGE for a recipient that is none; SECRETS if the existing file, policy or
            identity cannot be used; HOST if something cannot be written.
    """
    _check_recipients(recipients)
    keys, made_key = identity.ensure()
    with store.locked(file):
        made_policy = _ensure_policy(file, keys, recipients)
        allowed = policy.load(file)
        existing = store.open_values(store.read(file), keys).values if file.exists() else {}
        values = generate.complete(existing, catalog)
        added = tuple(name for name in values if name not in existing)
        if added:
            store.replace(file, store.seal(values, allowed, keys), allowed)
    return Initialized(
        file=file,
        key_file=keys.path,
        recipient=keys.recipients[0],
        policy=allowed.source,
        made_key=made_key,
        made_policy=made_policy,
        added=added,
        kept=tuple(existing),
    )


def rotate(
    file: Path, catalog: Mapping[str, Secret], names: Sequence[str], keys: Keys
) -> tuple[str, ...]:
    """Give secrets new values and return the names of all that changed.

    Raises:
        RaveError: USAGE if a name is not in the catalog; SECRETS if the file cannot be used.
    """
    unknown = sorted(set(names) - set(catalog))
    if unknown:
        raise RaveError(
            f"there is no secret {unknown[0]!r} in the catalog",
            hint="rave secrets list",
            exit_code=ExitCode.USAGE,
        )
    allowed = policy.load(file)
    with store.locked(file):
        existing = store.open_values(store.read(file), keys).values
        values = generate.renew(existing, catalog, frozenset(names))
        store.replace(file, store.seal(values, allowed, keys), allowed)
    return tuple(name for name, value in values.items() if existing.get(name) != value)


def _ensure_policy(file: Path, keys: Keys, recipients: Sequence[str]) -> bool:
    source = policy.find(file)
    if source is None:
        text = policy.render([*dict.fromkeys([*keys.recipients, *recipients])], file.name)
        paths.atomic_write(file.absolute().parent / policy.NAME, text)
        return True
    if recipients:
        raise RaveError(
            f"the policy {source} is there already, so --recipient has no place to go",
            hint=f"add the recipient to {source}, then: rave secrets edit --reencrypt",
            exit_code=ExitCode.USAGE,
        )
    return False


def _check_recipients(recipients: Sequence[str]) -> None:
    for recipient in recipients:
        fault = age.check_recipient(recipient)
        if fault is not None:
            raise RaveError(
                f"{recipient!r} is not an age recipient: {fault}",
                hint="age-keygen -y KEYFILE prints the recipient of a key file",
                exit_code=ExitCode.USAGE,
            )
