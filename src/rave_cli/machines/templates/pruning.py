"""What gives the space of templates back: drafts of killed commands, and templates themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rave_cli.errors import RaveError
from rave_cli.machines.leftovers import Leftover
from rave_cli.machines.templates import kept

if TYPE_CHECKING:
    from collections.abc import Iterator


def find(*, templates: bool) -> list[Leftover]:
    """Return the drafts that killed commands have left; with `templates` all templates, too: they
    are made again when they are asked for.
    """
    return [*_drafts(), *(_whole() if templates else ())]


def remove(leftover: Leftover) -> bool:
    """Remove one of them; returns whether it was there still.

    Raises:
        RaveError: HOST if it cannot be removed, or another command is busy with it.
    """
    name = leftover.place.name
    if not leftover.place.is_dir():
        return False
    draft = kept.DRAFT.fullmatch(name)
    if draft is None:
        kept.delete(name)
        return True
    with kept.locked(draft["name"]):
        kept.sweep(draft["name"])
    return True


def _drafts() -> Iterator[Leftover]:
    for place in kept.drafts():
        found = kept.DRAFT.fullmatch(place.name)
        if found is None or not _idle(found["name"]):
            continue
        doing = "making" if found[1] == "new" else "deleting"
        why = f"a command was killed while {doing} template {found['name']}"
        yield Leftover("template", place, why, size=kept.size_of(place))


def _whole() -> Iterator[Leftover]:
    for name in kept.names():
        place = kept.folder() / name
        yield Leftover("template", place, "it is made again when needed", size=kept.size_of(place))


def _idle(name: str) -> bool:
    """Return whether no other command has the template's lock."""
    try:
        with kept.locked(name):
            return True
    except RaveError:
        return False
