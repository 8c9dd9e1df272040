"""What this host trusts: its store of authorities, to which rave's own is added on request."""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rave_cli import paths, process
from rave_cli.errors import ExitCode, RaveError

if TYPE_CHECKING:
    from collections.abc import Sequence

# Seconds.
UPDATES = 120.0


@dataclass(frozen=True)
class TrustStore:
    """Where a system keeps authorities of its own, and what takes up what changed there."""

    folder: Path
    command: tuple[str, ...]

    def place(self, name: str) -> Path:
        """Return where an authority of that name lies."""
        return self.folder / f"{name}.crt"


# update-ca-certificates(8): Debian, Ubuntu, Alpine; update-ca-trust(8): Fedora and its kin.
STORES = (
    TrustStore(Path("/usr/local/share/ca-certificates"), ("update-ca-certificates",)),
    TrustStore(Path("/etc/pki/ca-trust/source/anchors"), ("update-ca-trust", "extract")),
)


def store(stores: Sequence[TrustStore] = STORES) -> TrustStore | None:
    """Return this host's store; None if it has none that rave knows."""
    return next((one for one in stores if process.find(one.command[0])), None)


def steps(certificate: Path, name: str, found: TrustStore | None) -> tuple[str, ...]:
    """Return the commands by which an authority comes to be trusted: by this host's programs, and
    by browsers that have a store of their own (NSS: Firefox, Chromium).
    """
    quoted = shlex.quote(str(certificate))
    browser = f'certutil -d sql:"$HOME/.pki/nssdb" -A -t C,, -n {name} -i {quoted}'
    if found is None:
        return (browser,)
    command = shlex.join(found.command)
    copy = f"sudo install -D -m 644 {quoted} {shlex.quote(str(found.place(name)))}"
    return (f"{copy} && sudo {command}", browser)


def add(certificate: Path, name: str, found: TrustStore | None) -> bool:
    """Let this host trust an authority; returns whether that is new.

    Raises:
        RaveError: HOST if there is no store, it may not be written, or does not take it.
    """
    if found is None:
        known = ", ".join(one.command[0] for one in STORES)
        raise RaveError(
            f"this host has no store of authorities that rave knows ({known})",
            hint=f"give {certificate} to whatever is to trust it",
            exit_code=ExitCode.HOST,
        )
    place, data = found.place(name), paths.read_trusted(certificate)
    if place.exists() and place.read_bytes() == data:
        return False
    if not os.access(found.folder if found.folder.exists() else found.folder.parent, os.W_OK):
        raise RaveError(
            f"{found.folder} is not yours to write",
            hint=steps(certificate, name, found)[0],
            exit_code=ExitCode.HOST,
        )
    paths.atomic_write(place, data)
    done = process.run(found.command, timeout=UPDATES)
    if not done.ok:
        raise RaveError(
            f"{found.command[0]} failed: {' '.join(done.tail(1)) or 'it does not say why'}",
            hint=f"sudo {shlex.join(found.command)}",
            exit_code=ExitCode.HOST,
            detail=done.tail(6),
        )
    return True
