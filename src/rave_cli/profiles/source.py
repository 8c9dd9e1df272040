"""Where the catalog comes from: the flake through Nix, or the copy baked into this package."""

from __future__ import annotations

from pathlib import Path

from rave_cli import process
from rave_cli.errors import ExitCode, RaveError
from rave_cli.profiles.catalog import Catalog, parse

BAKED = Path(__file__).with_name("catalog.json")

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


def evaluate(flake: Path) -> bytes:
    """Return `profileMetadata` of a flake as JSON text, evaluated by Nix without a network.

    Raises:
        RaveError: BUILD if the evaluation fails.
    """
    done = process.run(
        ["nix", "--offline", "eval", "--json", f"{flake}#profileMetadata"],
        env={"NIX_CONFIG": NIX_CONFIG},
        timeout=60,
    )
    if not done.ok:
        raise RaveError(
            f"the flake in {flake} cannot be evaluated",
            hint=f"nix eval --json '{flake}#profileMetadata'",
            exit_code=ExitCode.BUILD,
            detail=done.tail(),
        )
    return done.stdout
