"""Where the catalog comes from: the flake through Nix, or the copy baked into this package."""

from __future__ import annotations

import hashlib
import os
import re
from typing import TYPE_CHECKING
from urllib.parse import quote

from rave_cli import nixstore, paths, process
from rave_cli.errors import ExitCode, RaveError
from rave_cli.profiles.catalog import Catalog, parse
from rave_cli.profiles.names import BAKED

if TYPE_CHECKING:
    from pathlib import Path

# Of which characters every Nix takes a path for a flake's.
_PLAIN = re.compile(r"[A-Za-z0-9/._+-]+")

# From 2.20 on Nix reads repositories by libgit2. 2.8 needs the link, 2.26 refuses it; between them
# nothing was tried.
ESCAPES_SINCE = (2, 20)

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

    A path with more than plain characters is escaped as in every URL. A Nix that reads no escapes,
    Debian 12's for one, gets a link in the runtime directory; a newer one follows no link.

    Raises:
        RaveError: USAGE if it has such a path and is no git checkout; HOST if the link cannot be
            made.
    """
    if _PLAIN.fullmatch(str(flake)):
        return f"{flake}#{attribute}"
    if not (flake / ".git").exists():
        raise _odd(flake)
    place = quote(str(flake)) if _reads_escapes() else str(_linked(flake))
    return f"git+file:{place}#{attribute}"


def _reads_escapes() -> bool:
    """Whether Nix is of those that read git's files themselves."""
    said = process.run([process.require("nix"), "--version"], timeout=10).text
    found = re.search(r"(\d+)\.(\d+)", said)
    return found is not None and (int(found[1]), int(found[2])) >= ESCAPES_SINCE


def _linked(flake: Path) -> Path:
    name = hashlib.sha256(os.fsencode(flake)).hexdigest()[:16]
    link = paths.private_dir(paths.runtime_dir()) / f"checkout-{name}"
    if not _PLAIN.fullmatch(str(link)):
        raise _odd(flake)
    with paths.refusing(link):
        draft = link.with_name(f"{link.name}.{os.getpid()}")
        draft.unlink(missing_ok=True)
        draft.symlink_to(flake)
        draft.replace(link)
    return link


def _odd(flake: Path) -> RaveError:
    return RaveError(
        f"Nix cannot read a flake at {flake}: the path has more than letters, digits and ._+-",
        hint="use a git clone of rave, or put it where the path is plain",
        exit_code=ExitCode.USAGE,
    )


def evaluate(flake: Path) -> bytes:
    """Return `profileMetadata` of a flake as JSON text, evaluated by Nix without a network.

    Raises:
        RaveError: BUILD if the evaluation fails.
    """
    asked = installable(flake, "profileMetadata")
    done = process.run(
        ["nix", "--offline", "eval", "--json", asked],
        env={"NIX_CONFIG": NIX_CONFIG, **nixstore.environment()},
        timeout=60,
    )
    if not done.ok:
        raise RaveError(
            f"the flake in {flake} cannot be evaluated",
            hint=f"nix eval --json '{asked}'",
            exit_code=ExitCode.BUILD,
            detail=done.tail(),
        )
    return done.stdout
