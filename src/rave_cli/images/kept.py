"""The images that rave keeps: one for each package of a flake that was built here."""

from __future__ import annotations

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
    """Give up an image: Nix may collect its output, and who needs it builds it again.

    Raises:
        RaveError: HOST if it is being built, or a file cannot be removed.
    """
    place = ImagePlace(attr)
    with paths.lock(place.lock, busy=f"the image {attr} is being built"):
        for path in (place.manifest, place.plan, place.out_link):
            with paths.refusing(path):
                path.unlink(missing_ok=True)
