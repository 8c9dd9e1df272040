"""The webhook dispatcher: how its events are asked for, and handed over again.

A program of its own set answers, beside the dispatcher: Python's imports take it seconds under
emulation, and the store takes both. It becomes the dispatcher's user before it opens anything.
"""

from __future__ import annotations

import json
import subprocess

from rave_guest.refusal import Refused
from rave_guest.spans import traces  # noqa: F401 - what it provides
from rave_guest.state import sqlite

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Any

# What the modes differ in is how long events are kept, which the dispatcher alone sees to.
PROGRAM = (
    "/usr/bin/python3", "-IS", "/usr/lib/rave/sets/webhook-dispatcher", "rave_platform.events",
    "/etc/rave/webhook-dispatcher/safe.toml",
)  # fmt: skip
STORE = "events.db"
TIMEOUT = 90.0  # seconds; an emulated guest on a busy host takes its time
MOST_ANSWER = 7 << 20  # bytes: the door's own answer has 8 MiB at most


def events(
    action: str, arguments: Mapping[str, Any], program: Sequence[str] = PROGRAM
) -> dict[str, Any]:
    """Let the dispatcher's program carry out an action on its events, and return its answer.

    Raises:
        Refused: at stage `absent` if there is no such event; at `provider` if it cannot answer.
    """
    try:
        done = subprocess.run(
            [*program, *words(action, arguments)],
            stdin=subprocess.DEVNULL, capture_output=True, timeout=TIMEOUT, check=False,
        )  # fmt: skip
        if done.returncode:
            raise _refused(done.stderr.decode(errors="replace"))
        if len(done.stdout) > MOST_ANSWER:
            raise Refused("input", "that is more than can be shown at once: ask for fewer events")
        answer = json.loads(done.stdout)
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        raise Refused("provider", f"the webhook dispatcher does not answer: {error}") from error
    named = {"list": "events", "show": "event"}.get(action)
    found: dict[str, Any] = {named: answer} if named else answer
    return found


def words(action: str, arguments: Mapping[str, Any]) -> list[str]:
    """Return an action as the program's words (rave_platform/events.py)."""
    if action == "replay-dead":
        return ["replay", "--dead"]
    if action == "replay":
        return ["replay", *arguments["events"]]
    if action == "show":
        return ["show", arguments["event"]]
    named = ((f"--{name}", str(arguments[name])) for name in sorted(arguments))
    return ["list", *(word for pair in named for word in pair)]


def _refused(said: str) -> Refused:
    why = said.strip().splitlines()[-1] if said.strip() else "it says nothing"
    return Refused("absent" if why.startswith("there is no event") else "provider", why)


def keep(_plan: Mapping[str, Any], path: str, folder: str) -> Iterator[tuple[str, Iterator[bytes]]]:
    """A copy of its store as of one moment, made by SQLite while the dispatcher goes on."""
    return sqlite.kept("webhook dispatcher", path, STORE, folder)


def put(folder: str, target: str, _ours: str) -> None:
    """Lay the store where it looks."""
    sqlite.put(folder, target, STORE)


def marks(_plan: Mapping[str, Any], path: str, lines: list[str] | None) -> list[str]:
    """A table of rave's own in its store (state/marks.py)."""
    return sqlite.marks("webhook dispatcher", f"{path}/{STORE}", lines)
