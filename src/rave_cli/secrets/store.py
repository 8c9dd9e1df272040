"""The operator's secrets file: read it, open it, seal values into a new version, replace it."""

from __future__ import annotations

import hashlib
import json
from contextlib import contextmanager
from dataclasses import dataclass, field
from dataclasses import replace as changed
from typing import TYPE_CHECKING, Any

from rave_cli import paths
from rave_cli.errors import ExitCode, RaveError
from rave_cli.secrets import ages, ledger, policy, sops, structure, tree

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping
    from pathlib import Path

    from rave_cli.secrets.identity import Keys
    from rave_cli.secrets.policy import SopsPolicy

FILE_NAME = "secrets.sops.yaml"


@dataclass(frozen=True)
class Opened:
    """A secrets file that was read and decrypted. Values stay out of every repr."""

    data: bytes = field(repr=False)
    values: Mapping[str, str] = field(repr=False)


def default_file() -> Path:
    """Return the secrets file that is used without `--file`."""
    return paths.config_dir() / FILE_NAME


def place(file: Path | None) -> Path:
    """Return where the secrets file is: the one that was named, else the operator's own."""
    return (file or default_file()).absolute()


def read(file: Path) -> bytes:
    """Return the encrypted file.

    Raises:
        RaveError: SECRETS if it is missing, or somebody else may have written it (anybody can
            encrypt values of their own to its recipients); HOST if it cannot be read.
    """
    if not file.exists():
        raise RaveError(
            f"there is no secrets file {file}",
            hint="rave secrets init",
            exit_code=ExitCode.SECRETS,
        )
    return paths.read_trusted(file, exit_code=ExitCode.SECRETS)


def decrypt(data: bytes, keys: Keys, *, output: sops.Format) -> bytes:
    """Decrypt a secrets file that sops may be given.

    Raises:
        RaveError: SECRETS if it has something that sops could act on, the keys do not fit, or it
            was changed.
    """
    for finding in structure.unsafe(data):
        raise RaveError(
            f"the secrets file is refused: {finding.message}",
            hint=finding.hint or "rave secrets validate",
            exit_code=ExitCode.SECRETS,
        )
    result = try_decrypt(data, keys, output=output)
    if isinstance(result, sops.Fault):
        raise RaveError(
            result.message, hint=result.hint, exit_code=ExitCode.SECRETS, detail=result.detail
        )
    return result


def try_decrypt(data: bytes, keys: Keys, *, output: sops.Format) -> bytes | sops.Fault:
    """Decrypt a secrets file that was found safe, or say why not and which keys were tried.

    Raises:
        RaveError: HOST if sops is missing.
    """
    result = sops.try_decrypt(data, keys.text, output=output)
    if isinstance(result, sops.Fault) and result.code == "identity":
        return changed(result, message=f"{result.message}; tried: {keys.tried}")
    return result


def open_values(data: bytes, keys: Keys) -> Opened:
    """Decrypt a secrets file into its values.

    Raises:
        RaveError: as `decrypt`; also SECRETS if a value is not text.
    """
    return Opened(data, names_of(decrypt(data, keys, output="json")))


def names_of(plaintext: bytes) -> dict[str, str]:
    """Return the values of a decrypted document (JSON) by name: the path joined with `/`.

    Raises:
        RaveError: SECRETS if a value is not text. The message names it, without the value.
    """
    values: dict[str, str] = {}

    def walk(node: object, path: tuple[str, ...]) -> None:
        if isinstance(node, dict):
            for key, child in node.items():
                walk(child, (*path, key))
        elif isinstance(node, str):
            values["/".join(path)] = node
        else:
            raise RaveError(
                f"the secret {'/'.join(path)} is {type(node).__name__} instead of text",
                hint="rave secrets edit, and put the value in quotes",
                exit_code=ExitCode.SECRETS,
            )

    walk(json.loads(plaintext), ())
    return values


def nest(values: Mapping[str, str]) -> dict[str, Any]:
    """Return values by name as the document that sops encrypts: `a/b` is key b in map a.

    Raises:
        RaveError: SECRETS if one name is the beginning of another.
    """
    document: dict[str, Any] = {}
    for name, value in values.items():
        *parents, last = name.split("/")
        place = document
        for parent in parents:
            place = place.setdefault(parent, {})
            if not isinstance(place, dict):
                raise _clash(name)
        if last in place:
            raise _clash(name)
        place[last] = value
    return document


def seal(values: Mapping[str, str], allowed: SopsPolicy, keys: Keys) -> bytes:
    """Encrypt values for the policy's recipients and prove that they can be read back.

    Raises:
        RaveError: SECRETS if sops fails, or what it wrote does not decrypt to the same values.
    """
    return seal_text(json.dumps(nest(values)).encode(), "json", values, allowed, keys)


def seal_text(
    plaintext: bytes,
    source: sops.Format,
    values: Mapping[str, str],
    allowed: SopsPolicy,
    keys: Keys,
) -> bytes:
    """Encrypt a document whose values are `values`; otherwise as `seal`.

    Raises:
        RaveError: as `seal`; also if none of `keys` is a recipient of the policy.
    """
    if not set(keys.recipients) & set(allowed.recipients):
        raise RaveError(
            f"your age identity ({keys.tried}) is not among the recipients in {allowed.source}, "
            "so you could not read what you write",
            hint=f"add {keys.recipients[0]} to {allowed.source}",
            exit_code=ExitCode.SECRETS,
        )
    rule = None if allowed.rule == policy.DEFAULT_RULE else allowed.rule
    sealed = sops.encrypt(plaintext, allowed.recipients, source=source, rule=rule)
    faults = [f for f in structure.inspect(sealed, allowed).findings if f.severity == "error"]
    if faults or open_values(sealed, keys).values != values:
        raise RaveError(
            "what sops wrote cannot be used; nothing was changed",
            hint="rave doctor sops",
            exit_code=ExitCode.SECRETS,
            detail=tuple(f"{f.place}: {f.message}" if f.place else f.message for f in faults),
        )
    return sealed


def replace(file: Path, sealed: bytes, allowed: SopsPolicy, *, new: Collection[str]) -> None:
    """Put a sealed version in place and remember it; `new` are the secrets with a new value.

    Raises:
        RaveError: HOST if the disk is full or the place cannot be written.
    """
    before = structure.written(read(file)) if file.exists() else None
    paths.atomic_write(file, sealed, mode=0o600)
    found = structure.inspect(sealed, allowed)
    remember(file, sealed, found)
    ages.note(file, found.names, new=new, before=before)


def remember(file: Path, data: bytes, found: structure.Structure) -> None:
    """Note a version in the ledger, if its time can be read.

    Raises:
        RaveError: HOST if the ledger cannot be written.
    """
    if found.lastmodified is not None:
        digest = hashlib.sha256(data).hexdigest()
        entry = ledger.LedgerEntry(digest, found.lastmodified.isoformat(), found.recipients)
        ledger.record(file, entry)


@contextmanager
def locked(file: Path) -> Iterator[None]:
    """Keep other rave commands from writing the same file.

    Raises:
        RaveError: HOST if one is at it.
    """
    name = hashlib.sha256(str(file.absolute()).encode()).hexdigest()[:16]
    place = paths.state_dir() / "secrets" / f"{name}.lock"
    with paths.lock(place, busy=f"another rave command is changing {file}"):
        yield


def document_names(text: bytes) -> dict[str, str]:
    """Return the values by name of a plaintext YAML document, as a strict reader sees it.

    Raises:
        TreeError: it is not a tree of non-empty texts, or sops would see something else in it.
    """
    values: dict[str, str] = {}
    for path, node in tree.leaves(tree.parse(text)):
        name = "/".join(path)
        if "sops" in path[:1]:
            raise tree.TreeError(f"line {node.line}: the key 'sops' is reserved")
        if not isinstance(node, tree.Scalar) or node.empty:
            raise tree.TreeError(f"line {node.line}: {name or 'the document'} has no text")
        if node.taken_for is not None:
            raise tree.TreeError(
                f"line {node.line}: {name} is {node.taken_for} to sops; put it in quotes"
            )
        for fault in filter(None, map(structure.key_fault, path)):
            raise tree.TreeError(f"line {node.line}: a key of {name} {fault}")
        values[name] = node.text
    return values


def _clash(name: str) -> RaveError:
    return RaveError(
        f"the secret {name} and another one cannot both exist: one name begins with the other",
        hint="rave secrets edit",
        exit_code=ExitCode.SECRETS,
    )
