"""Reads what may not be there, and may be of any type, from a JSON object that others wrote."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic_core import from_json

if TYPE_CHECKING:
    from collections.abc import Mapping

SHORT = 512
LONG = 4096

# A word of each sender for what happened, and ours.
ACTIONS = {
    "opened": "open", "new": "open", "added": "create", "created": "create", "closed": "close",
    "reopened": "reopen", "updated": "update", "edited": "update", "edit": "update",
    "synchronize": "update", "synchronized": "update", "merged": "merge", "deleted": "delete",
    "drop": "delete", "rebased": "update",
}  # fmt: skip


class MalformedPayloadError(ValueError):
    """A body that is no JSON object."""


def parse(body: bytes) -> dict[str, Any]:
    """Return the JSON object that a body is.

    The parser is the one by which consumers read it: what it refuses (other encodings than UTF-8,
    half a surrogate, NaN, 200 levels) nobody would be able to read.

    Raises:
        MalformedPayloadError: if it is none.
    """
    try:
        found = from_json(body, allow_inf_nan=False)
    except ValueError as fault:
        raise MalformedPayloadError("the body is not JSON in UTF-8") from fault
    if not isinstance(found, dict):
        raise MalformedPayloadError("the body is JSON, but no object")
    return found


def at(payload: Mapping[str, Any], *path: str) -> object:
    """Return what lies at a path, or None."""
    found: object = payload
    for name in path:
        if not isinstance(found, dict):
            return None
        found = found.get(name)
    return found


def text(payload: Mapping[str, Any], *path: str, most: int = SHORT) -> str:
    """Return a text at a path, one line without control characters, or nothing."""
    found = at(payload, *path)
    return clean(found, most) if isinstance(found, str) else ""


def clean(words: str, most: int = SHORT) -> str:
    """Return a text of others in one line: what cannot be printed becomes a space."""
    cut = words[:most]
    return "".join(c if c.isprintable() else " " for c in cut).strip()


def first(*found: str) -> str:
    """Return the first that is not empty."""
    return next((words for words in found if words), "")


def number(payload: Mapping[str, Any], *path: str) -> int | None:
    """Return a number at a path, or None; what no sender counts to is none."""
    found = at(payload, *path)
    if isinstance(found, bool) or not isinstance(found, int) or not 0 <= found < 2**53:
        return None
    return found


def branch(ref: str) -> str:
    """Return the name of a branch or tag without where git keeps it."""
    return ref.removeprefix("refs/heads/").removeprefix("refs/tags/")


def action(word: str) -> str:
    """Return our word for what happened, or the sender's."""
    return ACTIONS.get(word, word)


def pushed(before: str, after: str) -> str:
    """Return what a push did to its branch; git writes zeros for what is not there."""
    if after and not after.strip("0"):
        return "delete"
    return "create" if before and not before.strip("0") else "update"
