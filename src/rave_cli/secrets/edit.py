"""Editing the secrets file: nothing that was typed is lost, and nothing wrong is written."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rave_cli import paths
from rave_cli.errors import ExitCode, RaveError
from rave_cli.secrets import draft, policy, store, tree, values

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from rave_cli.profiles.catalog import Secret
    from rave_cli.secrets.draft import KeptDraft
    from rave_cli.secrets.identity import Keys
    from rave_cli.secrets.policy import SopsPolicy


def edit(
    file: Path,
    catalog: Mapping[str, Secret],
    keys: Keys,
    *,
    editor: Callable[[Path], None],
    again: Callable[[str], bool],
    resume: Callable[[KeptDraft], bool],
) -> bool:
    """Let `editor` change the plaintext, then replace the file; return whether it changed.

    Args:
        file: the secrets file.
        catalog: what the values must look like.
        keys: the operator's keys.
        editor: changes the file it is given and returns.
        again: told what is wrong with the edited text; true opens the editor once more.
        resume: told of a text that an earlier edit left; true goes on with it, false throws it
            away.

    Raises:
        RaveError: SECRETS if the file cannot be opened or the text stays wrong; the file is then
            as it was, and the text is kept (see `draft`). HOST if there is no place in memory.
    """
    allowed = policy.load(file)
    with store.locked(file):
        data = store.read(file)
        before = store.decrypt(data, keys, output="yaml")
        with draft.held(file, data, before, resume) as text:
            while True:
                editor(text)
                with paths.refusing(text):
                    after = text.read_bytes()
                if after == before:
                    return False
                try:
                    sealed = _sealed(after, before, allowed, catalog, keys)
                except RaveError as fault:
                    if fault.exit_code is not ExitCode.SECRETS or not again(_told(fault)):
                        raise
                else:
                    store.replace(file, sealed, allowed, new=_changed(before, after))
                    return True


def discard(file: Path) -> int:
    """Throw away the texts that earlier edits left; return how many there were.

    Raises:
        RaveError: HOST if an edit is going on.
    """
    with store.locked(file):
        return draft.discard(file)


def reencrypt(file: Path, keys: Keys) -> None:
    """Write the file anew for the policy's recipients, with a new data key.

    Raises:
        RaveError: as `edit`.
    """
    allowed = policy.load(file)
    with store.locked(file):
        text = store.decrypt(store.read(file), keys, output="yaml")
        sealed = store.seal_text(text, "yaml", _document(text), allowed, keys)
        store.replace(file, sealed, allowed, new=())


def _sealed(
    after: bytes, before: bytes, allowed: SopsPolicy, catalog: Mapping[str, Secret], keys: Keys
) -> bytes:
    """Return the new version of the file.

    Raises:
        RaveError: SECRETS if the text cannot be used, or a value that was changed does not fit the
            catalog. What was wrong before the edit is `validate`'s business.
    """
    new = _document(after)
    try:
        old = set(values.check(store.document_names(before), catalog))
    except tree.TreeError:
        old = set()
    faults = [one for one in values.check(new, catalog) if one.severity == "error"]
    if wrong := [f"{fault.place}: {fault.message}" for fault in faults if fault not in old]:
        raise _unusable(wrong[0], *wrong[1:])
    return store.seal_text(after, "yaml", new, allowed, keys)


def _changed(before: bytes, after: bytes) -> list[str]:
    """Return the names with another value; none where the one before cannot be read."""
    try:
        old = store.document_names(before)
    except tree.TreeError:
        return []
    return [name for name, value in _document(after).items() if old.get(name) != value]


def _document(text: bytes) -> dict[str, str]:
    try:
        return store.document_names(text)
    except tree.TreeError as fault:
        raise _unusable(str(fault)) from fault


def _unusable(why: str, *more: str) -> RaveError:
    return RaveError(
        f"the text cannot be used, nothing was changed: {why}",
        hint="rave secrets edit",
        exit_code=ExitCode.SECRETS,
        detail=more,
    )


def _told(fault: RaveError) -> str:
    return "\n  ".join((fault.message, *fault.detail))
