"""Files that steer the service or hold secrets: nobody else may have written or read them."""

from __future__ import annotations

import os
import stat


class UntrustedFileError(Exception):
    """A file that somebody else could have written, or could read: which, and why."""


def require_ours(descriptor: int, name: object, *, secret: bool = False) -> None:
    """See to it that an open file is ours or root's, that nobody else can write it, or read it.

    Raises:
        UntrustedFileError: if not.
    """
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode):
        raise UntrustedFileError(f"{name} is no regular file")
    if found.st_uid not in {0, os.geteuid()}:
        raise UntrustedFileError(f"{name} belongs to somebody else (uid {found.st_uid})")
    if stat.S_IMODE(found.st_mode) & (0o077 if secret else 0o022):
        what, mode = ("read", "0400") if secret else ("write", "0644")
        raise UntrustedFileError(f"others may {what} {name}; it needs mode {mode}")
