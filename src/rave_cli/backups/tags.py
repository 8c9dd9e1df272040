"""What is known of a snapshot, as its tags: a mark with a version, and facts as `name=value`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


def written(mark: str, version: str, facts: Mapping[str, Any]) -> tuple[str, ...]:
    """Return facts as tags; the engine splits them at commas, so no value may have one."""
    return (f"{mark}={version}", *(f"{key}={value}" for key, value in facts.items()))


def facts_of(snapshot: Mapping[str, Any], mark: str, version: str) -> dict[str, str] | None:
    """Return the facts that a snapshot's tags say; None if it has not this mark and version."""
    pairs = (str(tag).partition("=") for tag in snapshot.get("tags") or ())
    facts = {key: value for key, _, value in pairs}
    return facts if facts.get(mark) == version else None
