"""The images that rave keeps: one for each package of a flake that was built here."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from rave_cli import paths
from rave_cli.errors import RaveError
from rave_cli.images.build import ImagePlace
from rave_cli.images.manifest import load_image

if TYPE_CHECKING:
    from pathlib import Path

    from rave_cli.images.manifest import Image


def directory() -> Path:
    """Return where they are kept: a manifest and a link into the Nix store for each."""
    return ImagePlace("").directory


def pulled() -> Path:
    """Return where images are that were pulled from registries: a folder for each."""
    return paths.data_dir() / "images"


def is_pulled(folder: Path) -> bool:
    """Return whether a folder is one of an image that was pulled."""
    return folder.parent == pulled() and folder.is_dir() and not folder.is_symlink()


def images() -> list[tuple[Path, Image]]:
    """Return each image with the place of its manifest; one that cannot be read is left out."""
    found = []
    for place in sorted(directory().glob("*.json")):
        if not place.name.endswith(".plan.json"):
            try:
                found.append((place, load_image(place)))
            except RaveError:
                continue
    return found


def forget(attr: str) -> None:
    """Give up an image: Nix may collect its output, and who needs it builds it again, or pulls it.

    Raises:
        RaveError: HOST if it is being built, or a file cannot be removed.
    """
    place = ImagePlace(attr)
    with paths.lock(place.lock, busy=f"the image {attr} is being built"):
        if place.out_link.is_symlink() and is_pulled(target := place.out_link.readlink()):
            remove_pulled(target)
        for path in (place.manifest, place.plan, place.out_link):
            with paths.refusing(path):
                path.unlink(missing_ok=True)


def remove_pulled(folder: Path) -> None:
    """Remove an image that was pulled; no machine may be made from it.

    Raises:
        RaveError: HOST if it cannot be removed.
    """
    with paths.refusing(folder):
        shutil.rmtree(folder)


def unlinked() -> list[Path]:
    """Return the images that were pulled and that no link leads to: another took their place, or a
    pull was killed.
    """
    found = {link.readlink() for link in directory().glob("*") if link.is_symlink()}
    return [place for place in sorted(pulled().glob("*")) if place not in found]
