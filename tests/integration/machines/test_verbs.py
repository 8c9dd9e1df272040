"""What is done to machines between their boots, under the real QEMU and with the tiny guest."""

from __future__ import annotations

import os
import signal
import threading
import time
from typing import TYPE_CHECKING

import pytest

from rave_cli.errors import RaveError
from rave_cli.machines import changes, disks, leftovers, lifecycle, status, store, waiting, watching
from rave_cli.machines.names import stored_names
from rave_cli.machines.qemu import processes
from rave_cli.machines.qemu.qmp import Qmp
from rave_cli.machines.watching import Watcher
from tests.integration.machines.test_boot import boot

if TYPE_CHECKING:
    from tests.integration.machines.conftest import MakeMachine

pytestmark = pytest.mark.integration


def told(watcher: Watcher, last: str) -> list[str]:
    """Look until something is told; return all that was told by then."""
    found: list[str] = []
    deadline = time.monotonic() + 60
    while not found or found[-1] != last:
        assert time.monotonic() < deadline, found
        watcher.sleep(0.05)
        found += [c.state if c.what == "state" else f"-{c.stage}" for c in watcher.look()]
    return found


def test_a_machine_is_watched_waited_for_renamed_and_pruned(make: MakeMachine) -> None:
    machine = make("tiny.do=ready")
    with Watcher(()) as watcher:
        assert told(watcher, "stopped") == ["stopped"]
        starting = threading.Thread(target=boot, args=(machine,))
        starting.start()
        waiting.wait("tiny", "services", timeout=120)
        found = told(watcher, "running")
        assert [word for word in found if word.startswith("-")] == ["-systemd", "-services"]
        starting.join()

        found_now = status.of(machine, thorough=True)
        assert found_now.resident_mib is not None
        assert found_now.proportional_mib is not None
        assert 20 < found_now.proportional_mib <= found_now.resident_mib + 1
        assert found_now.process is not None
        assert 0.1 < found_now.process.cpu_seconds < 120

        with Qmp.connect(machine.qmp_socket, timeout=5) as monitor:
            monitor.execute("stop", timeout=5)
        assert told(watcher, "paused") == ["paused"]
        with Qmp.connect(machine.qmp_socket, timeout=5) as monitor:
            monitor.execute("cont", timeout=5)
        assert told(watcher, "running") == ["running"]

        pid = processes.find(machine)
        assert pid is not None
        os.kill(pid.pid, signal.SIGKILL)
        assert told(watcher, "stopped") == ["stopped"]
    assert "had not said that it shuts down" in status.of(machine).detail

    (left,) = leftovers.find(images=False)
    assert (left.kind, left.place) == ("sockets", machine.runtime)
    assert leftovers.remove(left)
    changes.rename("tiny", "other")
    assert stored_names() == ["other"]
    other = store.load("other")
    _, seen = boot(other)
    # The tiny guest lets nobody in; up to that all is as it was under the old name.
    assert seen[-1].name == "ssh-banner"
    assert lifecycle.stop(other).rung == "acpi"
    assert status.of(other).detail == ""


def test_a_disk_grows_stopped_and_running_and_never_shrinks(make: MakeMachine) -> None:
    machine = make("tiny.do=ready")
    assert disks.virtual_size(machine.disk) == 1 << 30
    changes.resize("tiny", disk_gib=2)
    assert disks.virtual_size(machine.disk) == 2 << 30
    boot(store.load("tiny"))
    # The tiny guest cannot be asked to grow anything; its disk is larger all the same.
    assert changes.resize("tiny", disk_gib=3).grown is False
    with Qmp.connect(machine.qmp_socket, timeout=5) as monitor:
        (disk,) = monitor.execute("query-block", timeout=5)
    assert disk["inserted"]["image"]["virtual-size"] == 3 << 30
    with pytest.raises(RaveError, match="a disk never shrinks"):
        changes.resize("tiny", disk_gib=2)
    lifecycle.stop(machine)
    assert disks.virtual_size(machine.disk) == 3 << 30


def test_watching_costs_next_to_nothing(make: MakeMachine) -> None:
    boot(make("tiny.do=ready"))
    with Watcher(()) as watcher:
        watcher.look()
        before = time.thread_time()
        began = time.monotonic()
        while time.monotonic() - began < 2 * watching.ASKS:
            watcher.sleep(watching.GLANCE)
            watcher.look()
        used = time.thread_time() - before
    assert used / (2 * watching.ASKS) < 0.01
