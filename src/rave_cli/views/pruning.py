"""Shows what can be given back, and asks before it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rave_cli.flows import pruning
from rave_cli.views.consent import agreed

if TYPE_CHECKING:
    from rave_cli.machines.leftovers import Leftover
    from rave_cli.show import Show


def shown_and_removed(
    show: Show, found: list[Leftover], *, dry_run: bool, yes: bool
) -> tuple[list[Leftover], list[dict[str, Any]], str]:
    """Show what was found, and remove it if that is agreed to.

    Returns:
        What was removed, and the result as documents and as a sentence.
    """
    for leftover in found:
        show.note(f"{leftover.place} ({leftover.size / (1 << 20):.1f} MiB): {leftover.why}")
    removed: list[Leftover] = []
    if not dry_run and found and agreed(show, f"Remove these {len(found)}?", yes=yes):
        removed = pruning.remove(found)
    documents = [entry.document | {"removed": entry in removed} for entry in found]
    what = "nothing to remove" if not found else f"{len(removed)} of {len(found)} removed"
    return removed, documents, what
