"""Marks: lines that rave puts into each service that keeps something, to see whether a restore has
them. They lie where no service looks: in a table, a list, a stream, a file of rave's own.

Asked for as {"put": "0123456789abcdef"}, {"read": true} or {"remove": true}; answered with each
service's lines as their number and the sum of them.
"""

from __future__ import annotations

import hashlib
import os
import re

from rave_guest import registry
from rave_guest.refusal import Refused
from rave_guest.state import keeping

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

WORD = re.compile(r"[0-9a-f]{16}")
LINES = 64


def carried_out(plan: Mapping[str, Any], wanted: object) -> dict[str, dict[str, object]]:
    """Put, read or remove the marks, and return what there is then of each service.

    Raises:
        Refused: that is no request; or a service does not do it.
    """
    lines = _lines(wanted)
    found: dict[str, dict[str, object]] = {}
    states = keeping.kept(plan)
    for name in keeping.order(states):
        path = states[name]["path"]
        # One that has not run yet keeps nothing.
        if os.path.isdir(path):
            module: Any = registry.service(name)
            try:
                there = sorted(module.marks(plan, path, lines))
            except OSError as error:
                raise Refused("provider", f"{name} cannot be marked: {error}") from error
            sum_ = hashlib.sha256("\n".join(there).encode()).hexdigest()
            found[name] = {"count": len(there), "sha256": sum_}
    return found


def _lines(wanted: object) -> list[str] | None:
    """Return the lines to put, none to remove them, None to leave them.

    Raises:
        Refused: that is no request.
    """
    if wanted == {"read": True}:
        return None
    if wanted == {"remove": True}:
        return []
    word = wanted.get("put") if isinstance(wanted, dict) and len(wanted) == 1 else None
    if not isinstance(word, str) or not WORD.fullmatch(word):
        raise Refused("request", "marks are put, with a word of 16 hex digits, read or removed")
    return [f"{word}-{number:03}" for number in range(LINES)]
