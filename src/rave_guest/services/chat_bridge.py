"""The chat bridge: what it keeps, and whether it answers what people command."""

from __future__ import annotations

from functools import partial

from rave_guest import conversing
from rave_guest.spans import traces  # noqa: F401 - what it provides
from rave_guest.state import sqlite

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

    from rave_guest.system import System
    from rave_guest.verdict import Verdict

STORE = "bridge.db"

_step = partial(conversing.step, phase="chat-control", needs=("chat-bridge.units",))


@_step(
    "command", "what people command in chat is answered",
    figures={"seconds": "chat_command_seconds"},
)  # fmt: skip
@_step("unknown", "what is no command is answered with what was meant")
@_step("permission", "nobody commands more than their groups may")
@_step("killed", "a command is answered once, though the bridge is killed")
def step(arguments: Mapping[str, Any], system: System) -> Verdict:
    """A step of the one conversation that these checks are about."""
    return conversing.verdict(arguments, system)


def keep(_plan: Mapping[str, Any], path: str, folder: str) -> Iterator[tuple[str, Iterator[bytes]]]:
    """A copy of its store as of one moment, made by SQLite while the bridge goes on."""
    return sqlite.kept("chat bridge", path, STORE, folder)


def put(folder: str, target: str, _ours: str) -> None:
    """Lay the store where it looks."""
    sqlite.put(folder, target, STORE)


def marks(_plan: Mapping[str, Any], path: str, lines: list[str] | None) -> list[str]:
    """A table of rave's own in its store (state/marks.py)."""
    return sqlite.marks("chat bridge", f"{path}/{STORE}", lines)
