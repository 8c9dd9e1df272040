"""rave itself is killed while it has something done in a real development machine.

RAVE_DEVELOPMENT_MACHINE names a running machine of this home for it; else one is made.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from rave_guest import delivering
from tests import kills
from tests.integration.development import ASKED_FOR
from tests.integration.development.clone import ROOT
from tests.integration.development.guest import Guest, eventually
from tests.integration.development.storm import Webhooks, tell

if TYPE_CHECKING:
    from pathlib import Path

    from rave_cli.machines.spec import Machine

pytestmark = [
    *ASKED_FOR,
    pytest.mark.timeout(7200),
]

RAVE = (sys.executable, "-m", "rave_cli")
SEED = int(os.environ.get("RAVE_DEVELOPMENT_SEED", "1"))
SHORTLY = 3.0  # seconds within which it is killed after a step was told
# Seconds after which a smoke run is killed: before, and while, people sign in and command.
KILLED_AFTER = (3, 10, 25)
REPLAYED, REPLAYS, REPLAY = 5, 8, 10.0  # events, kills, and seconds within which each falls
SILENT = {
    "cwd": ROOT, "stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL,
}  # fmt: skip


def killed_after(seconds: float, *argv: str) -> bool:
    """Run rave, and kill it after a time; return whether it still ran."""
    with subprocess.Popen([*RAVE, *argv], **SILENT, stderr=subprocess.DEVNULL) as running:  # type: ignore[call-overload]
        time.sleep(seconds)
        if running.poll() is not None:
            return False
        running.kill()
        kills.count()
    return True


def killed_at(line_before: str, *argv: str) -> None:
    """Run rave, and kill it soon after it has told a line."""
    with subprocess.Popen([*RAVE, *argv], **SILENT, stderr=subprocess.PIPE, text=True) as running:  # type: ignore[call-overload]
        said = []
        for line in running.stderr:
            said.append(line)
            if line_before in line:
                break
        assert running.poll() is None, said
        time.sleep(random.Random(SEED).uniform(0, SHORTLY))  # noqa: S311 - the same each time
        running.kill()
        kills.count()


def runs(*argv: str) -> None:
    """Run rave, which has to succeed."""
    done = subprocess.run(
        [*RAVE, *argv], cwd=ROOT, check=False, capture_output=True, text=True, timeout=1800,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_a_killed_replay_hands_over_all_or_nothing_and_the_next_one_passes(
    machine: Machine,
) -> None:
    guest, draw = Guest(machine), random.Random(SEED)  # noqa: S311 - the same each time
    with Webhooks(guest) as hooks:
        eventually(lambda: len(hooks.acknowledged) >= REPLAYED)
    assert hooks.odd() == []
    before, events = Counter(guest.handed_over()), hooks.acknowledged[:REPLAYED]
    replay = ("events", "replay", machine.name, *events)
    fell = sum(killed_after(draw.uniform(0, REPLAY), *replay) for _ in range(REPLAYS))
    runs(*replay)
    hooks.settle()
    found = Counter(guest.handed_over()) - before
    tell(f"{fell} of {REPLAYS} replays killed; {found.total()} handed over again")
    # Each time under another name (rave_platform/domain/handover.py), all of them or none.
    again = Counter(name.partition(".")[0] for name in found)
    assert set(found.values()) == {1}
    assert again.keys() == set(events)
    assert len(set(again.values())) == 1
    assert REPLAYS - fell + 1 <= again[events[0]] <= REPLAYS + 1


# As what the step before each is told (src/rave_guest/services/agents.py).
BEFORE = {
    "code": "pass  an agent makes it in the forge",
    "approval": "pass  the chat tells it, with a link to the merge request",
}
FLOW = ("flow", "hello-world", "--machine")


@pytest.mark.parametrize("step", list(BEFORE))
def test_what_a_killed_flow_has_left_is_deleted_and_the_next_one_passes(
    machine: Machine, step: str
) -> None:
    killed_at(BEFORE[step], *FLOW, machine.name)
    began = time.monotonic()
    eventually(lambda: Guest(machine).forge(delivering.PROJECT) is None)
    tell(f"{step}: its project is gone after {time.monotonic() - began:.0f} s")
    runs(*FLOW, machine.name)
    tell(f"{step}: the next one passes after {time.monotonic() - began:.0f} s")


def test_a_killed_smoke_run_is_in_nobodys_way(machine: Machine, tmp_path: Path) -> None:
    smoke = (
        "smoke", "run", "--vm", machine.name, "--output", str(tmp_path),
        "--phase", "sign-in", "--phase", "chat-control",
    )  # fmt: skip
    for seconds in KILLED_AFTER:
        assert killed_after(seconds, *smoke)
    runs(*smoke)
