"""What the guest allows itself, measured in it; and properties that only time brings out."""

from __future__ import annotations

import os
import re
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from rave_guest.clock import TOLERANCE

if TYPE_CHECKING:
    from tests.e2e.conftest import Site

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

# docs/explanation/security-model.md; the exceptions have their reason in their drop-ins.
EXPOSURE, OPERATOR = 4.5, {"ssh.service", "rave-command.service"}


def root(site: Site, *words: str) -> str:
    return site.rave("vm", "exec", "demo", "--sudo", "--", *words).stdout


def test_systemd_finds_every_unit_little_exposed(site: Site) -> None:
    shown = root(site, "systemd-analyze", "--no-pager", "security")
    found = {
        u: float(e) for u, e in re.findall(r"^(\S+\.service)\s+([\d.]+) ", shown, re.MULTILINE)
    }
    assert len(found) >= 15
    assert {unit for unit, exposure in found.items() if exposure > EXPOSURE} == OPERATOR


def test_processors_are_shared_between_processes_so_that_niceness_counts(site: Site) -> None:
    controllers = root(site, "cat", "/sys/fs/cgroup/system.slice/cgroup.subtree_control").split()
    assert "memory" in controllers
    assert not {"cpu", "cpuset", "io"} & set(controllers)


def test_its_clock_goes_by_what_the_host_says_of_its_counter(site: Site) -> None:
    """Where a guest finds out by itself on a busy host, all that it waits for comes too late."""
    told = re.search(r"tsc_early_khz=(\d+)", root(site, "cat", "/proc/cmdline"))
    assert told
    (found,) = re.findall(r"tsc: Detected (\d+)\.\d+ MHz processor", root(site, "dmesg"))
    assert int(told[1]) // 1000 == int(found)


def test_what_the_initrd_loads_while_systemd_starts_is_all_there(site: Site) -> None:
    loaded = {line.split()[0] for line in root(site, "cat", "/proc/modules").splitlines()}
    wanted = Path("infra/debian/initrd/modules/later").read_text().replace("-", "_").split()
    assert set(wanted) <= loaded


def test_what_the_initrd_runs_beforehand_is_over_and_nothing_of_it_failed(site: Site) -> None:
    assert not root(site, "sh", "-c", "ps -U 65534 -o pid=,args= || true").split()
    # It tells faults alone, and there; of a boot without any the console may have nothing.
    console = site.json("vm", "console", "demo", "--lines", "1000")["lines"]
    assert not [line for line in console if "rave-initrd:" in line]


@pytest.mark.parametrize(
    ("place", "options"),
    [
        ("/dev", {"nosuid", "noexec"}),
        ("/dev/shm", {"nosuid", "nodev", "noexec"}),
        ("/tmp", {"nosuid", "nodev", "noexec"}),
    ],
)
def test_what_everybody_may_write_to_runs_nothing(
    site: Site, place: str, options: set[str]
) -> None:
    assert options <= set(root(site, "findmnt", "-no", "OPTIONS", place).strip().split(","))


def behind(site: Site) -> float:
    """Return how many seconds the guest's clock is behind the host's."""
    return time.time() - float(root(site, "date", "+%s.%N"))


def test_the_clock_is_right_after_the_host_slept(site: Site) -> None:
    pid = site.json("vm", "status", "demo")["pid"]
    os.kill(pid, signal.SIGSTOP)
    try:
        time.sleep(8)
    finally:
        os.kill(pid, signal.SIGCONT)
    wait_for_the_right_time(site)


def test_a_clock_that_was_set_wrong_is_set_by_the_hosts(site: Site) -> None:
    root(site, "date", "-s", "8 seconds ago")
    wait_for_the_right_time(site)
    assert "off the host's: set" in root(site, "journalctl", "-b", "-u", "rave-ready", "-o", "cat")


def wait_for_the_right_time(site: Site) -> None:
    deadline = time.monotonic() + 30
    while (seconds := behind(site)) > 2 * TOLERANCE:
        assert time.monotonic() < deadline, f"{seconds:.1f} s behind"


def test_what_nobody_else_tells_is_a_metric(site: Site) -> None:
    shown = root(site, "cat", "/run/rave/metrics/rave.prom")
    for name in (
        "rave_clock_offset_seconds", "rave_certificate_not_after_seconds",
        "rave_filesystem_errors", "rave_hung_tasks",
    ):  # fmt: skip
        assert re.search(rf"^{name} \S+$", shown, re.MULTILINE), name
