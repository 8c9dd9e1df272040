"""What a command in the chat of a running machine costs, from sending it to having its answer.

Usage: python -m benchmarks.bench_chat MACHINE [ROUNDS]

Somebody of this host signs in through the machine's single sign-on and says each of COMMANDS in
each of ROUNDS (20) rounds, one once the last is answered; they hear of news as clients do, by a
request that the homeserver keeps until there are some. `sent` is until the homeserver has the
command, `answer` until they have its answer; `inside` is between the two messages by the
homeserver's own clock.
"""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING, Any

from tests.integration.development.people import chatting

from benchmarks.measure import report, summary
from rave_cli.machines import store
from rave_guest import commanding

if TYPE_CHECKING:
    from rave_guest.chat import Chat

# Who may ask for these in the smoke suite's room.
USER, GROUP = "rave-bench-chat", commanding.GROUP
COMMANDS = ("!rave help", "!rave status")
LIMIT = 1.0  # seconds


def answered(talk: Chat, text: str) -> dict[str, float]:
    """Say a command; return the seconds until it was sent, answered, and answered inside."""
    room, client = talk.command_room, talk.one
    began = time.perf_counter()
    event = client.send(room, text)
    sent = time.perf_counter()
    deed = commanding.heard(talk, client, event)
    over = time.perf_counter()
    if deed is None:
        raise TimeoutError(f"{text} has no answer")
    asked, said = (
        client.ask("GET", f"/rooms/{room}/event/{name}")["origin_server_ts"]
        for name in (event, deed.event)
    )
    return {"sent": sent - began, "answer": over - began, "inside": (said - asked) / 1000}


def main(name: str, rounds: int = 20) -> int:
    """Print the figures; exit with 1 if the p50 is above LIMIT."""
    found: dict[str, list[dict[str, float]]] = {text: [] for text in COMMANDS}
    before = os.getloadavg()
    with chatting(store.load(name), USER, GROUP) as talk:
        for number in range(rounds + 1):
            for text, kept in found.items():
                figures = answered(talk, text)
                # The first warms up: whoever has just come in is new to every cache.
                if number:
                    kept.append(figures)
    every = [figures for kept in found.values() for figures in kept]
    parts: dict[str, Any] = {
        part: summary([figures[part] for figures in every]) for part in ("sent", "answer", "inside")
    }
    each = {text: summary([one["answer"] for one in kept]) for text, kept in found.items()}
    report("chat", {"load": before, "seconds": {**parts, **each}, "limit": LIMIT})
    return int(parts["answer"]["p50"] > LIMIT)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], *map(int, sys.argv[2:])))
