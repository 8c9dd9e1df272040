"""What the chat bridge costs: time from a command to its answer, and memory.

Usage: python -m benchmarks.bench_bridge [COMMANDS]

Starts a Synapse (from its locked set, with SQLite), a nats-server and a bridge of its own. A person
says each of COMMANDS (60) commands once the last is answered, and reads the room by a sync that is
open meanwhile, as clients do: `answer` is from sending the command to having its answer. `heard` is
the part of it after which Synapse has the command.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests import sets
from tests.integration.platform.homeserver import US, chat
from tests.waiting import until

from benchmarks.measure import report, summary

if TYPE_CHECKING:
    from tests.integration.platform.homeserver import Chat, Person

COMMANDS = {
    "status": "!rave status",
    "run": "!rave run ai-engineer bench Measure it",
    "not-understood": "!rave statsu",
}


def run_synapse(place: Path) -> list[str]:
    """Return what runs Synapse."""
    sets.fill("matrix", place / "set")
    return [sys.executable, "-IS", str(place / "set"), "synapse.app.homeserver"]


def answered(person: Person, room: str, text: str, since: str) -> tuple[float, float, str]:
    """Say a command; return the seconds until it was heard and answered, and where to read on."""
    began = time.perf_counter()
    command = person.say(room, text)
    heard = time.perf_counter() - began
    while True:
        found = person.ask("GET", f"/sync?timeout=30000&since={since}")
        since = str(found["next_batch"])
        rooms = found.get("rooms", {}).get("join", {})
        for event in rooms.get(room, {}).get("timeline", {}).get("events", []):
            if event["content"].get("rave.deed") == f"answer:{command}":
                return heard, time.perf_counter() - began, since


def measure(person: Person, room: str, number: int) -> dict[str, Any]:
    """Measure each kind of command in turn."""
    since = str(person.ask("GET", "/sync?timeout=0")["next_batch"])
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in COMMANDS}
    for at in range(number + len(COMMANDS)):
        name = list(COMMANDS)[at % len(COMMANDS)]
        heard, answer, since = answered(person, room, COMMANDS[name], since)
        # The first of each warms up.
        if at >= len(COMMANDS):
            times[name].append((heard, answer))
    every = [pair for pairs in times.values() for pair in pairs]
    return {
        "heard": summary([heard for heard, _ in every]),
        "answer": summary([answer for _, answer in every]),
        **{name: summary([answer for _, answer in pairs]) for name, pairs in times.items()},
    }


def begin(found: Chat) -> tuple[Person, str]:
    """Start everything; return somebody and a room in which the bridge is."""
    found.nats.start()
    found.start_synapse()
    person = found.person("alice")
    room = person.create_room(US)
    found.allow(room, staff=["status", "run"])
    found.groups(staff=["alice"])
    found.bridge.start()
    until(lambda: US in person.members(room), pause=0.05)
    return person, room


def main(many: str = "60") -> int:
    """Measure and print."""
    with tempfile.TemporaryDirectory(prefix="rave-bridge-") as place:
        found = chat(Path(place), run_synapse)
        try:
            person, room = begin(found)
            figures = measure(person, room, int(many))
            memory = round(found.peak(), 1)
        finally:
            found.close()
    report("bridge", {**figures, "peak_mib": memory})
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
