"""A real QEMU that is killed while its guest writes: what was synced is there, and the machine goes
on with the next command, whatever was being done to it.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from rave_cli.errors import RaveError
from rave_cli.machines import changes, lifecycle, snapshots, status, store, suspend
from rave_cli.machines.logfiles import older
from rave_cli.machines.qemu import logs, processes
from tests import kills
from tests.integration.machines.test_boot import boot, wait_for_process
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from rave_cli.machines.spec import Machine
    from tests.integration.machines.conftest import MakeMachine

pytestmark = pytest.mark.integration

# Kills of each verb, each with a boot of some seconds.
KILLS = max(1, 15 // kills.STRIDE)

# Where guest.c puts a number: a cluster of its own for each.
CLUSTER, PLACES = 1 << 16, 8000


def told(machine: Machine) -> list[int]:
    """Return the numbers that the guest has said are synced, in this boot."""
    found = []
    for place in (older(machine.stage_file), machine.stage_file):
        with suppress(OSError):
            for line in place.read_text().splitlines():
                with suppress(ValueError):
                    found.append(json.loads(line).get("count", 0))
    return [number for number in found if number]


def synced_is_there(machine: Machine, raw: Path) -> None:
    """Nothing of the last numbers that the guest called synced is missing from its disk."""
    # Only leaked clusters (3) may be left behind.
    check = ["qemu-img", "check", "-q", str(machine.disk)]
    assert subprocess.run(check, check=False).returncode in (0, 3)
    subprocess.run(["qemu-img", "convert", "-O", "raw", machine.disk, raw], check=True)
    last = told(machine)[-1]
    with raw.open("rb") as disk:
        for number in range(max(1, last - 50), last + 1):
            disk.seek((number % PLACES + 1) * CLUSTER)
            assert int.from_bytes(disk.read(4), "little") == number


def goes_on(machine: Machine) -> None:
    """Let a machine go on as its status tells."""
    if status.of(machine).state == "suspended":
        suspend.resume(machine)
    elif processes.find(machine) is None:
        boot(store.load(machine.name))
    before = len(told(machine))
    until(lambda: len(told(machine)) > before)


def snapshot(machine: Machine) -> None:
    if snapshots.names(machine):
        snapshots.delete(machine, "one")
    snapshots.create(machine, "one")


def grow(machine: Machine) -> None:
    changes.resize(machine.name, disk_gib=store.load(machine.name).spec.disk_gib + 1)


VERBS: dict[str, Callable[[Machine], object]] = {
    "nothing": lambda _machine: None,
    "start": lambda machine: boot(store.load(machine.name)),
    "suspend": suspend.suspend,
    "resume": suspend.resume,
    "snapshot": snapshot,
    "set": grow,
    "stop": lifecycle.stop,
}
# Those that start the QEMU which is killed.
BEGIN = {"start", "resume"}


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("verb", VERBS)
def test_what_was_synced_outlives_a_qemu_that_is_killed(
    make: MakeMachine, tmp_path: Path, verb: str
) -> None:
    machine = make("tiny.do=write")
    chance = random.Random(verb)  # noqa: S311 - the same points in each run

    def do() -> None:
        # What fails with its QEMU says so; nothing else may go wrong.
        with suppress(RaveError):
            VERBS[verb](machine)

    for _ in range(KILLS):
        goes_on(machine)
        enough = len(told(machine)) + chance.randrange(60)
        until(lambda: len(told(machine)) >= enough)  # noqa: B023 - called at once
        if verb == "start":
            lifecycle.kill(machine)
        if verb == "resume":
            suspend.suspend(machine)
        doing = threading.Thread(target=do)
        doing.start()
        running = wait_for_process(machine) if verb in BEGIN else processes.find(machine)
        time.sleep(chance.uniform(0, 2.0 if verb == "start" else 0.4))
        if running is not None:
            with suppress(ProcessLookupError):
                os.kill(running.pid, signal.SIGKILL)
        doing.join()
        kills.count()
        until(lambda: processes.find(machine) is None)
        logs.settle(machine)
        found = status.of(machine)
        assert found.state in ("stopped", "suspended"), found
        if told(machine):
            synced_is_there(machine, tmp_path / "raw")
        for name in snapshots.names(machine):
            snapshots.load(machine, name)
    goes_on(machine)
    assert lifecycle.stop(machine).rung == "acpi"
    assert processes.find(machine) is None
