"""Where the catalog comes from: the flake through Nix, or the copy baked into this package."""

from __future__ import annotations

import hashlib
import os
import re
from typing import TYPE_CHECKING

from rave_cli import paths, process
from rave_cli.errors import ExitCode, RaveError
from rave_cli.profiles.catalog import Catalog, parse
from rave_cli.profiles.names import BAKED

if TYPE_CHECKING:
    from pathlib import Path

# What Nix says where this user has neither a store nor a daemon to ask.
NO_STORE = (
    r"could not set permissions on '/nix|"
    r"creating directory '/nix|opening lock file '/nix.*Permission denied|big-lock"
    r"|cannot connect to (?:socket|daemon)|'/nix/store'.*not (?:exist|allowed)"
)

# Of which characters every Nix takes a path for a flake's.
_PLAIN = re.compile(r"[A-Za-z0-9/._+-]+")

# Settings that `nix eval` needs whatever the user's nix.conf says.
NIX_CONFIG = "experimental-features = nix-command flakes\nwarn-dirty = false\n"


def load_catalog(flake: Path | None) -> Catalog:
    """Return the flake's catalog; without a flake or without Nix, the baked copy.

    Raises:
        RaveError: BUILD if the flake cannot be evaluated; HOST if its catalog is not understood.
    """
    if flake is None or process.find("nix") is None:
        return parse(BAKED.read_bytes())
    return parse(evaluate(flake))


def installable(flake: Path, attribute: str) -> str:
    """Return what Nix calls an attribute of a flake.

    Debian 12's Nix cannot take every path: a blank in one is no URL, escaped or not. Such a
    checkout is named by a link in the runtime directory.

    Raises:
        RaveError: USAGE if it has such a path and is no git checkout; HOST if the link cannot be
            made.
    """
    if _PLAIN.fullmatch(str(flake)):
        return f"{flake}#{attribute}"
    name = hashlib.sha256(os.fsencode(flake)).hexdigest()[:16]
    link = paths.private_dir(paths.runtime_dir()) / f"checkout-{name}"
    if not (flake / ".git").exists() or not _PLAIN.fullmatch(str(link)):
        raise RaveError(
            f"Nix cannot read a flake at {flake}: the path has more than letters, digits and ._+-",
            hint="use a git clone of rave, or put it where the path is plain",
            exit_code=ExitCode.USAGE,
        )
    with paths.refusing(link):
        draft = link.with_name(f"{link.name}.{os.getpid()}")
        draft.unlink(missing_ok=True)
        draft.symlink_to(flake)
        draft.replace(link)
    return f"git+file:{link}#{attribute}"


def evaluate(flake: Path) -> bytes:
    """Return `profileMetadata` of a flake as JSON text, evaluated by Nix without a network.

    Raises:
        RaveError: BUILD if the evaluation fails; HOST if this user has no Nix store.
    """
    asked = installable(flake, "profileMetadata")
    done = process.run(
        ["nix", "--offline", "eval", "--json", asked],
        env={"NIX_CONFIG": NIX_CONFIG},
        timeout=60,
    )
    if not done.ok:
        if re.search(NO_STORE, done.error_text):
            raise no_store(done.tail(4))
        raise RaveError(
            f"the flake in {flake} cannot be evaluated",
            hint=f"nix eval --json '{asked}'",
            exit_code=ExitCode.BUILD,
            detail=done.tail(),
        )
    return done.stdout


def no_store(said: tuple[str, ...]) -> RaveError:
    """Return the error of a user who may not write the Nix store; `said` are Nix's words."""
    return RaveError(
        "the Nix store cannot be written by this user, and no Nix daemon runs",
        hint="sudo -i   (the Debian base is built as root, from a checkout of root's own)",
        exit_code=ExitCode.HOST,
        detail=said,
    )
