"""What outlives a reboot: the encrypted file, root's alone.

The age identity that opens it comes with each boot from the host, so that the disk alone opens
nothing. A host with an older rave hands none over; then the identity is kept beside the file.
"""

from __future__ import annotations

import os
from collections import namedtuple
from contextlib import suppress

KEY, FILE = "age.key", "secrets.sops.yaml"
# The machine that they were given to: a clone has its original's disk, and not its identity. Of its
# id the disk has no more than tells two machines apart: whoever has it whole could answer as the
# machine. (A digest would do, too; hashlib takes a guest longer to import than all else here.)
INSTANCE, TOLD = "instance", 8


class KeptSecrets(namedtuple("KeptSecrets", ("key", "file"))):
    """Age key and encrypted file as they are kept for the next boot; None where there is none."""

    __slots__ = ()
    key: bytes | None
    file: bytes | None


def handed(path: str) -> bytes | None:
    """Return the age identity that the host handed over at this boot, or None."""
    return _content(path)


def kept(store: str) -> KeptSecrets:
    """Return what is kept in a directory."""
    return KeptSecrets(_content(f"{store}/{KEY}"), _content(f"{store}/{FILE}"))


def foreign(store: str, instance: str) -> bool:
    """Return whether what is kept was given to another machine."""
    given = _content(f"{store}/{INSTANCE}")
    return given is not None and given != _mark(instance)


def forget(store: str) -> None:
    """Remove all that is kept."""
    for name in (FILE, KEY, INSTANCE):
        with suppress(FileNotFoundError):
            os.unlink(f"{store}/{name}")


def keep(
    store: str, key: bytes | None, file: bytes, *, unchanged: bool, instance: str = ""
) -> None:
    """Keep the encrypted file for the next boot; what says the same already is left alone.

    Args:
        store: the directory.
        key: the age identity if it must be kept, too; None removes one that is there.
        file: the encrypted file.
        unchanged: whether the file decrypts to the same values as the one that is kept.
        instance: the id of this machine, if it has one.
    """
    os.makedirs(store, 0o700, exist_ok=True)
    os.chmod(store, 0o700)
    before = kept(store)
    if key is None:
        forget_key(store)
    elif before.key != key:
        _replace(f"{store}/{KEY}", key)
    if not (unchanged and before.key == key and before.file is not None):
        _replace(f"{store}/{FILE}", file)
    if instance and _content(f"{store}/{INSTANCE}") != _mark(instance):
        _replace(f"{store}/{INSTANCE}", _mark(instance))
    fd = os.open(store, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def forget_key(store: str) -> None:
    """Remove an age identity from the disk."""
    with suppress(FileNotFoundError):
        os.unlink(f"{store}/{KEY}")


def restore(store: str, before: KeptSecrets) -> None:
    """Let the directory hold what it held before, or nothing."""
    for name, data in ((KEY, before.key), (FILE, before.file)):
        path = f"{store}/{name}"
        if data is not None:
            _replace(path, data)
        elif os.path.exists(path):
            os.unlink(path)


def _mark(instance: str) -> bytes:
    return instance[:TOLD].encode()


def _content(path: str) -> bytes | None:
    if not os.path.exists(path):
        return None
    with open(path, "rb") as stream:
        return stream.read()


def _replace(path: str, data: bytes) -> None:
    temporary = f"{path}.new"
    with suppress(FileNotFoundError):
        os.unlink(temporary)
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o400)
    with os.fdopen(fd, "wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(fd)
    os.rename(temporary, path)
