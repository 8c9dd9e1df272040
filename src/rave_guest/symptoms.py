"""What this machine sees of itself when something does not come up; the host names the cause.

Looked at only then, so that a boot that goes well does not pay for it. All of it is bounded, for
it travels in one report.
"""

from __future__ import annotations

import json
from contextlib import suppress

from rave_guest import report, vitals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

FULL = 32 << 20  # bytes below which a disk counts as full, as for the host (machines/causes.py)
FEW_INODES = 64  # the same for the files that can still be made
MOST_UNITS = 6
MOST_WORDS = 2  # lines of each
LONGEST = 240  # characters of a line
JOURNAL_LINES = 160  # that are searched for the last words of all of them
SECONDS = 10.0  # for each program that is asked
PROPERTIES = "Id,ActiveState,SubState,Result,NRestarts"


def look(units: list[str]) -> dict[str, Any]:
    """What tells why `units` did not come up. Whatever cannot be had is left out."""
    place, disk = vitals.scarcest()
    found: dict[str, Any] = {
        "disk": place,
        "size_bytes": disk.f_blocks * disk.f_frsize,
        "free_bytes": disk.f_bavail * disk.f_frsize,  # what root keeps back is of no use to them
        "free_inodes": disk.f_favail,
        "read_only": vitals.readonly(),
        "oom_kills": oom_kills(report.read("/proc/vmstat")),
    }
    if found["read_only"] or found["free_bytes"] < FULL or found["free_inodes"] < FEW_INODES:
        # That explains the rest, and programs are slow to start where all is failing.
        return found
    # A program that hangs or is missing must not cost the report.
    with suppress(OSError, ValueError):
        found["units"] = of_units(units[:MOST_UNITS])
        if found["oom_kills"]:
            found["kernel"] = errors_of_the_kernel()
    return found


def oom_kills(vmstat: str) -> int:
    """How many processes the kernel has killed for lack of memory since boot (proc(5))."""
    for line in vmstat.splitlines():
        name, _, value = line.partition(" ")
        if name == "oom_kill":
            return int(value)
    return 0


def of_units(names: list[str]) -> list[dict[str, Any]]:
    """State, result and last words of units."""
    from rave_guest import facts
    from rave_guest.system import run

    if not names:
        return []
    shown = run(["systemctl", "show", "--no-pager", "-p", PROPERTIES, "--", *names], SECONDS)
    properties = facts.properties(shown.stdout)
    chosen = [word for name in names for word in ("-u", name)]
    lines = run([*JOURNAL, "-o", "json", "-n", str(JOURNAL_LINES), *chosen], SECONDS)
    words = last_words(lines.stdout.splitlines())
    return [
        {
            "unit": name,
            "state": entry.get("ActiveState", ""),
            "result": entry.get("Result", ""),
            "restarts": int(entry.get("NRestarts") or 0),
            "said": words.get(name, []),
        }
        for name, entry in ((name, properties.get(name, {})) for name in names)
    ]


JOURNAL = ("journalctl", "--no-pager", "--quiet", "--boot")


def last_words(lines: Iterable[str]) -> dict[str, list[str]]:
    """The last lines of each unit, of the journal as JSON: those that name a fault, else any, else
    what PID 1 says of it.
    """
    faults: dict[str, list[str]] = {}
    own: dict[str, list[str]] = {}
    of_it: dict[str, list[str]] = {}
    for line in lines:
        entry = json.loads(line)
        text, unit = _text(entry.get("MESSAGE")), entry.get("UNIT")
        if unit in of_it and text.startswith(FAILED):
            continue
        names_fault = any(word in text.lower() for word in FAULTS)
        told = of_it if unit else faults if names_fault else own
        _keep(told, unit or entry.get("_SYSTEMD_UNIT", ""), text)
    return of_it | own | faults


# What lines say that name a fault, rather than tell what was going on (a stack trace, a banner).
FAULTS = (
    "error", "fatal", "fail", "emerg", "cannot", "can't", "could not", "denied", "invalid",
    "no such", "no space", "refused", "killed", "panic:",
)  # fmt: skip
# How PID 1 ends what it says of a unit that did not start; why is in what it said before.
FAILED = "Failed to start "
DIGITS = {ord(digit): None for digit in "0123456789"}


def _text(message: object) -> str:
    """A message; one that is no UTF-8 comes as numbers (systemd.journal-fields(7))."""
    if isinstance(message, list):
        message = bytes(message).decode(errors="replace")
    return message[:LONGEST] if isinstance(message, str) else ""


def _keep(words: dict[str, list[str]], unit: str, text: str) -> None:
    # A unit that starts over and over says the same over and over, with another process id.
    bare = text.translate(DIGITS)
    others = [line for line in words.get(unit, []) if line.translate(DIGITS) != bare]
    words[unit] = [*others, text][-MOST_WORDS:]


def errors_of_the_kernel() -> list[str]:
    """The kernel's last errors: whom it killed."""
    from rave_guest.system import run

    lines = run([*JOURNAL, "-k", "-p", "err", "-o", "cat", "-n", "4"], SECONDS).stdout.splitlines()
    return [line[:LONGEST] for line in lines]
