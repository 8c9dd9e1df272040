"""What a guest sees of itself when something did not come up (rave_guest/symptoms.py), as a value.

It comes from the guest, so nothing in it is trusted: what is not of the right type is left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rave_cli.text import line

if TYPE_CHECKING:
    from collections.abc import Mapping

# As many as a guest of ours tells, and no more of any other.
MOST_UNITS = 6
MOST_WORDS = 4
LONGEST = 240


@dataclass(frozen=True)
class FailedUnit:
    """A systemd unit that did not come up: `result` is systemd's own word for why (Result=),
    `restarts` how often it was tried again, `said` its last lines.
    """

    name: str
    result: str = ""
    restarts: int = 0
    said: tuple[str, ...] = ()


@dataclass(frozen=True)
class Symptoms:
    """What a guest sees of itself. Of the file system of which least is left: where it is, size and
    free space in bytes, free inodes; None, or empty, where the guest does not tell. `oom_kills`
    counts this boot, `kernel` holds the kernel's last errors.
    """

    size: int | None = None
    free: int | None = None
    free_inodes: int | None = None
    read_only: bool = False
    oom_kills: int = 0
    kernel: tuple[str, ...] = ()
    units: tuple[FailedUnit, ...] = ()
    disk: str = ""


def read(told: object) -> Symptoms | None:
    """Take apart what a report carries as its symptoms; None if that is nothing of the kind."""
    if not isinstance(told, dict):
        return None
    units = told.get("units")
    entries = units[:MOST_UNITS] if isinstance(units, list) else []
    return Symptoms(
        size=_count(told.get("size_bytes")),
        free=_count(told.get("free_bytes")),
        free_inodes=_count(told.get("free_inodes")),
        read_only=told.get("read_only") is True,
        oom_kills=_count(told.get("oom_kills")) or 0,
        kernel=_lines(told.get("kernel")),
        units=tuple(_unit(entry) for entry in entries if isinstance(entry, dict)),
        disk=_text(told.get("disk")),
    )


def _unit(entry: Mapping[str, Any]) -> FailedUnit:
    return FailedUnit(
        _text(entry.get("unit")) or "?",
        _text(entry.get("result")),
        _count(entry.get("restarts")) or 0,
        _lines(entry.get("said")),
    )


def _count(value: object) -> int | None:
    plain = isinstance(value, int) and not isinstance(value, bool)
    return value if plain and 0 <= value < 1 << 63 else None  # type: ignore[operator, return-value]


def _text(value: object) -> str:
    return line(value[:LONGEST]).strip() if isinstance(value, str) else ""


def _lines(value: object) -> tuple[str, ...]:
    found = [_text(entry) for entry in value[:MOST_WORDS]] if isinstance(value, list) else []
    return tuple(entry for entry in found if entry)
