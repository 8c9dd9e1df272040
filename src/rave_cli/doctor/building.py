"""Examinations of what images are built with, and of what is kept of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rave_cli.doctor.examination import Diagnosis, examination
from rave_cli.images import kept
from rave_cli.images import nix as driver
from rave_cli.machines import leftovers

if TYPE_CHECKING:
    from pathlib import Path

GIVE_BACK = "rave prune --dry-run"


@examination("nix", "does Nix run, and what does it build?")
def nix() -> Diagnosis:
    """Run Nix and say how it would build."""
    return Diagnosis("ok", driver.describe())


@examination("store", "is space held by images that nobody uses?")
def store() -> Diagnosis:
    """Add up the images that rave keeps, and those that no machine is made from."""
    stale = _stale()
    images = kept.images()
    size = sum(image.size for _, image in images)
    unused = [entry for entry in leftovers.find(images=True) if entry.kind == "image"]
    idle = sum(entry.size for entry in unused)
    facts = {"images": len(images), "bytes": size, "unused": len(unused), "unusedBytes": idle}
    detail = f"{len(images)} images, {size / 2**30:.1f} GiB"
    if stale:
        detail += f"; {len(stale)} links to images that are gone: {', '.join(map(str, stale))}"
        facts["staleLinks"] = len(stale)
        return Diagnosis("warn", detail, advice=GIVE_BACK, facts=facts)
    if unused:
        detail += f"; no machine is made from {len(unused)} of them, {idle / 2**30:.1f} GiB"
        return Diagnosis("ok", detail, advice=GIVE_BACK, facts=facts)
    return Diagnosis("ok", detail, facts=facts)


def _stale() -> list[Path]:
    """Return the out-links that lead nowhere: what they named was collected or moved."""
    folder = kept.directory()
    links = sorted(folder.iterdir()) if folder.is_dir() else []
    return [link for link in links if link.is_symlink() and not link.exists()]
