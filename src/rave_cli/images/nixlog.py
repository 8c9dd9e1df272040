"""Nix's machine-readable log (`--log-format internal-json`) as typed events.

Each line is `@nix ` and a JSON object; anything else is text that some program wrote. The numbers
are those of Nix's logging.hh: activity 105 is a build, result 101 a line of its log, 104 its phase,
105 progress. A newer Nix may say more than is understood here: that is ignored, never a fault.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, TypeGuard

PREFIX = "@nix "
BUILD, BUILDS = 105, 104
LOG_LINE, PHASE, PROGRESS = 101, 104, 105
ERROR, WARNING = 0, 1

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_DERIVATION = re.compile(r"/[0-9a-z]{32}-(?P<name>.+)\.drv$")


@dataclass(frozen=True)
class Message:
    """Something Nix itself says. Level 0 is an error, 1 a warning, more is talk."""

    level: int
    text: str


@dataclass(frozen=True)
class BuildStarted:
    """A derivation is being built. `name` is without hash and suffix."""

    id: int
    name: str


@dataclass(frozen=True)
class Stopped:
    """An activity, whatever it was, has ended."""

    id: int


@dataclass(frozen=True)
class BuildLine:
    """A builder wrote a line."""

    id: int
    text: str


@dataclass(frozen=True)
class BuildPhase:
    """A builder says what it does now."""

    id: int
    text: str


@dataclass(frozen=True)
class BuildsProgress:
    """How many derivations are done, of how many."""

    done: int
    total: int


NixEvent = Message | BuildStarted | Stopped | BuildLine | BuildPhase | BuildsProgress


class LogReader:
    """Turns lines into events. It remembers which activity counts all builds."""

    def __init__(self) -> None:
        self._builds: set[int] = set()

    def read(self, line: str) -> NixEvent | None:
        """Return what a line says, or None if that does not matter. Never raises."""
        text = line.rstrip("\r\n")
        if not text.startswith(PREFIX):
            return Message(ERROR, plain(text)) if text.strip() else None
        try:
            record = json.loads(text.removeprefix(PREFIX))
        except (ValueError, RecursionError):
            return None
        if not isinstance(record, dict):
            return None
        return self._event(record)

    def _event(self, record: dict[str, Any]) -> NixEvent | None:
        action, number = record.get("action"), record.get("id")
        if action == "msg":
            level = record.get("level")
            return Message(level if _is_int(level) else WARNING, plain(record.get("msg")))
        if not _is_int(number):
            return None
        if action == "start":
            return self._started(number, record)
        if action == "stop":
            self._builds.discard(number)
            return Stopped(number)
        return self._result(number, record) if action == "result" else None

    def _started(self, number: int, record: dict[str, Any]) -> NixEvent | None:
        if record.get("type") == BUILDS:
            self._builds.add(number)
        if record.get("type") != BUILD:
            return None
        fields = _fields(record)
        path = fields[0] if fields and isinstance(fields[0], str) else ""
        match = _DERIVATION.search(path)
        return BuildStarted(number, match["name"] if match else path)

    def _result(self, number: int, record: dict[str, Any]) -> NixEvent | None:
        fields = _fields(record)
        kind = record.get("type")
        if kind in (LOG_LINE, PHASE) and fields and isinstance(fields[0], str):
            text = plain(fields[0])
            return BuildLine(number, text) if kind == LOG_LINE else BuildPhase(number, text)
        counts = fields[:2]
        if kind == PROGRESS and number in self._builds and len(counts) == 2:
            done, total = counts
            return BuildsProgress(done, total) if _is_int(done) and _is_int(total) else None
        return None


def plain(text: object) -> str:
    """Return text without colours; anything but text becomes the empty string."""
    return _COLOUR.sub("", text) if isinstance(text, str) else ""


def _fields(record: dict[str, Any]) -> list[Any]:
    fields = record.get("fields")
    return fields if isinstance(fields, list) else []


def _is_int(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)
