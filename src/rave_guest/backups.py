"""What the host says of the backups that it has of this machine, for whoever watches from inside.

The host tells it with each backup; a machine that is not told any more sees by the time which it
was told that its next one is late.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress

from rave_guest import report
from rave_guest.refusal import Refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

PLACE = "/var/lib/rave/backups.json"
# Of the latest backup: its moment; when the next is late; when one was last restored to see whether
# it can be. Seconds since 1970; absent where there is none.
NAMES = ("at", "due", "restored")
# Of PostgreSQL's log: up to when the host has it, and when that is too long ago.
LOG_PLACE = "/var/lib/rave/log-kept.json"


def note(kept: object) -> None:
    """Keep what the host says.

    Raises:
        Refused: it is nothing of the kind, or cannot be kept.
    """
    if not isinstance(kept, dict) or not set(kept) <= set(NAMES):
        raise Refused("request", f"of backups the host says {', '.join(NAMES)}")
    if not all(type(value) is int and 0 < value < 1 << 40 for value in kept.values()):
        raise Refused("request", "times are seconds since 1970")
    try:
        report.write(PLACE, json.dumps(kept))
    except OSError as error:
        raise Refused("system", f"it cannot be noted: {error.strerror}") from error


def note_log(until: int, allowed: int) -> None:
    """Keep up to when the host has PostgreSQL's log, and for how many seconds that is enough.

    Raises:
        Refused: it cannot be kept.
    """
    try:
        report.write(LOG_PLACE, json.dumps({"at": until, "due": until + allowed}))
    except OSError as error:
        raise Refused("system", f"it cannot be noted: {error.strerror}") from error


def forget_log() -> None:
    """Expect no host to fetch PostgreSQL's log any more."""
    with suppress(FileNotFoundError):
        os.remove(LOG_PLACE)


def of(name: str) -> Callable[[], int | None]:
    """Return what reads one of NAMES; None if the host said nothing of it."""
    return lambda: _read(PLACE, name)


def of_log(name: str) -> Callable[[], int | None]:
    """The same of `at` or `due` of PostgreSQL's log."""
    return lambda: _read(LOG_PLACE, name)


def _read(place: str, name: str) -> int | None:
    try:
        found = json.loads(report.read(place) or "{}").get(name)
    except (ValueError, AttributeError):
        return None
    return found if type(found) is int else None
