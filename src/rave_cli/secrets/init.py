"""`rave secrets init` and `rotate`: the identity, the policy and a value for every secret."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rave_cli import age, paths
from rave_cli.errors import ExitCode, RaveError
from rave_cli.secrets import generate, identity, overlap, policy, store

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from rave_cli.profiles.catalog import Secret
    from rave_cli.secrets.identity import Keys
    from rave_cli.secrets.overlap import Previous
    from rave_cli.secrets.policy import SopsPolicy


RECIPIENTS = "SOPS_AGE_RECIPIENTS"
# Each gives sops a holder of the data key that no policy of ours can name.
OTHER_HOLDERS = (
    "SOPS_AZURE_KEYVAULT_URLS", "SOPS_GCP_KMS_IDS", "SOPS_HUAWEICLOUD_KMS_IDS", "SOPS_KMS_ARN",
    "SOPS_PGP_FP", "SOPS_VAULT_URIS",
)  # fmt: skip


@dataclass(frozen=True)
class Initialized:
    """What `init` found or made.

    `key_file` is where the identity is from: a file, or the name of a variable of sops; `added`
    names the secrets that got a value.
    """

    file: Path
    key_file: str
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
            "keyFile": self.key_file,
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
        recipients: further operators (age1...) who may read the file, and SOPS_AGE_RECIPIENTS with
            them; a policy that is there already must name them.

    Raises:
        RaveError: USAGE for a recipient that is none or not in the policy, or if the environment
            names other holders of the data key; SECRETS if the existing file, policy or identity
            cannot be used; HOST if something cannot be written.
    """
    wanted = tuple(dict.fromkeys([*recipients, *_recipients_of_sops()]))
    _check_recipients(wanted)
    with store.locked(file):
        made_policy = _refuse_less_than(wanted, file)
        keys, made_key = identity.ensure()
        if made_policy:
            _make_policy(file, keys, wanted)
        allowed = policy.load(file)
        existing = store.open_values(store.read(file), keys).values if file.exists() else {}
        values = generate.complete(existing, catalog)
        added = tuple(name for name in values if name not in existing)
        if added:
            store.replace(file, store.seal(values, allowed, keys), allowed, new=added)
    return Initialized(
        file=file,
        key_file=keys.own.place,
        recipient=keys.recipients[0],
        policy=allowed.source,
        made_key=made_key,
        made_policy=made_policy,
        added=added,
        kept=tuple(existing),
    )


def rotate(
    file: Path,
    catalog: Mapping[str, Secret],
    names: Sequence[str],
    keys: Keys,
    *,
    previous: Previous = "refused",
) -> tuple[str, ...]:
    """Give secrets new values and return the names of all that changed.

    Args:
        file: the secrets file.
        catalog: the secrets there are.
        names: whose values.
        keys: what opens the file.
        previous: what becomes of the values before; with `forgotten` none is made anew.

    Raises:
        RaveError: USAGE if a name is not in the catalog, its value is the operator's to write, or
            one value of it counts at a time and two are to; SECRETS if the file cannot be used.
    """
    unknown = sorted(set(names) - set(catalog))
    if unknown:
        raise RaveError(
            f"there is no secret {unknown[0]!r} in the catalog",
            hint="rave secrets list",
            exit_code=ExitCode.USAGE,
        )
    if given := [name for name in names if catalog[name].given]:
        raise RaveError(
            f"{given[0]} is what its operator wrote: no other value can be made for it",
            hint="rave secrets edit",
            exit_code=ExitCode.USAGE,
        )
    if previous != "refused":
        overlap.refuse_single(names, catalog)
    allowed = policy.load(file)
    with store.locked(file):
        existing = store.open_values(store.read(file), keys).values
        values = _renewed(existing, catalog, names, previous)
        changed = tuple(name for name, value in values.items() if existing.get(name) != value)
        # What is left alone is as old as it was.
        new = () if previous == "forgotten" else changed
        store.replace(file, store.seal(values, allowed, keys), allowed, new=new)
    return changed


def _renewed(
    existing: Mapping[str, str],
    catalog: Mapping[str, Secret],
    names: Sequence[str],
    previous: Previous,
) -> dict[str, str]:
    if previous == "forgotten":
        return overlap.forgotten(existing, names)
    made = generate.renew(existing, catalog, frozenset(names))
    return overlap.kept(made, existing, names) if previous == "kept" else made


def _refuse_less_than(recipients: Sequence[str], file: Path) -> bool:
    """Refuse, before anything is made, to let fewer read than were asked for.

    Returns whether a policy is to be made.
    """
    if policy.find(file) is None:
        _refuse_other_holders()
        return True
    if recipients:
        _require_recipients(policy.load(file), recipients)
    return False


def _make_policy(file: Path, keys: Keys, recipients: Sequence[str]) -> None:
    own = [one.recipient for one in keys.own.identities]
    text = policy.render([*dict.fromkeys([*own, *recipients])], file.name)
    paths.atomic_write(file.absolute().parent / policy.NAME, text)


def _recipients_of_sops() -> tuple[str, ...]:
    """Return the recipients that the environment gives sops."""
    listed = os.environ.get(RECIPIENTS, "").split(",")
    return tuple(filter(None, map(str.strip, listed)))


def _refuse_other_holders() -> None:
    """Refuse, rather than leave out, other holders of the data key that the environment names."""
    named = [name for name in OTHER_HOLDERS if os.environ.get(name)]
    if named:
        raise RaveError(
            f"{', '.join(named)} would let sops write for keys other than age's, which rave does"
            " not do",
            hint=f"env {' '.join(f'-u {name}' for name in named)} rave secrets init",
            exit_code=ExitCode.USAGE,
        )


def _require_recipients(allowed: SopsPolicy, recipients: Sequence[str]) -> None:
    for recipient in recipients:
        if recipient not in allowed.recipients:
            raise RaveError(
                f"the policy {allowed.source} is there already and does not name {recipient},"
                f" which --recipient or {RECIPIENTS} asks for",
                hint=f"add it to {allowed.source}, then: rave secrets edit --reencrypt",
                exit_code=ExitCode.USAGE,
            )


def _check_recipients(recipients: Sequence[str]) -> None:
    for recipient in recipients:
        fault = age.check_recipient(recipient)
        if fault is not None:
            raise RaveError(
                f"{recipient!r} is not an age recipient: {fault}",
                hint="age-keygen -y KEYFILE prints the recipient of a key file",
                exit_code=ExitCode.USAGE,
            )
