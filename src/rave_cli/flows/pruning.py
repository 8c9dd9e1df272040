"""What can be given back: of dead machines and killed commands, images and templates."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rave_cli.machines import leftovers
from rave_cli.machines.templates import pruning

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rave_cli.machines.leftovers import Leftover


def find(*, images: bool, templates: bool, updates: bool = False) -> list[Leftover]:
    """Return it: leftovers, and if asked for images that no machine is made from, templates, and
    what updates keep of before.
    """
    found = leftovers.find(images=images, updates=updates)
    return [*found, *pruning.find(templates=templates)]


def remove(found: Sequence[Leftover]) -> list[Leftover]:
    """Remove it; returns what is gone. What somebody has begun to use since stays."""
    return [
        leftover
        for leftover in found
        if (pruning if leftover.kind == "template" else leftovers).remove(leftover)
    ]
