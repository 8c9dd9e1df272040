"""What is done to a machine between its boots, with a real guest: sizes, names, restarts, waits."""

from __future__ import annotations

import json
import os
import signal
import time
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.e2e.conftest import Site

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]


@pytest.fixture
def demo(site: Site) -> str:
    """A running demo machine."""
    site.rave("up", "--profile", "demo", "--base", "debian", "--skip-smoke", timeout=600)
    return "demo"


def root_gib(site: Site, name: str) -> float:
    """Return the size of the guest's root file system in GiB."""
    done = site.rave("vm", "exec", name, "--", "df", "--block-size=1", "--output=size", "/")
    return int(done.stdout.split()[1]) / (1 << 30)


def await_size(site: Site, name: str, gib: int) -> None:
    """Wait until the root file system fills a disk of `gib`: at boot it grows in the background."""
    deadline = time.monotonic() + 60
    while root_gib(site, name) < 0.9 * gib:
        assert time.monotonic() < deadline, root_gib(site, name)
        time.sleep(1)


def test_a_disk_grows_with_its_file_system_running_or_stopped(site: Site, demo: str) -> None:
    gib = site.json("vm", "status", demo)["diskGiB"]
    document = site.json("vm", "set", demo, "--disk", str(gib + 4))
    assert (document["diskGiB"], document["fileSystem"]) == (gib + 4, "grown")
    assert root_gib(site, demo) > 0.9 * (gib + 4)
    site.rave("vm", "stop", demo)
    document = site.json("vm", "set", demo, "--disk", str(gib + 8), "--memory", "1792")
    assert document["fileSystem"] == "at the next start"
    site.rave("vm", "start", demo)
    await_size(site, demo, gib + 8)
    total = site.rave("vm", "exec", demo, "--", "grep", "MemTotal", "/proc/meminfo").stdout
    assert 1500 < int(total.split()[1]) / 1024 < 1792
    site.rave("vm", "stop", demo)
    site.rave("vm", "set", demo, "--memory", "2048")
    site.rave("vm", "start", demo)


def test_a_renamed_machine_is_the_same_machine(site: Site, demo: str) -> None:
    before = site.rave("vm", "exec", demo, "--", "cat", "/etc/machine-id").stdout
    site.rave("vm", "stop", demo)
    assert site.json("vm", "status", demo)["detail"] == ""
    site.rave("vm", "rename", demo, "moved")
    try:
        site.rave("vm", "start", "moved")
        site.rave("vm", "wait", "moved", "--for", "ssh-auth", "--timeout", "60")
        assert site.rave("vm", "exec", "moved", "--", "cat", "/etc/machine-id").stdout == before
    finally:
        site.rave("vm", "stop", "moved")
        site.rave("vm", "rename", "moved", demo)


@pytest.mark.parametrize(
    "ending",
    [
        "systemctl restart rave-command.service",
        "systemctl kill --signal=KILL --kill-whom=main rave-command.service; sleep 300",
    ],
    ids=["restarted", "killed"],
)
def test_a_command_whose_runner_in_the_guest_ends_is_not_waited_for(
    site: Site, demo: str, ending: str
) -> None:
    began = time.monotonic()
    words = ("vm", "exec", "--sudo", "--timeout", "200", demo, "--", "sh", "-c", ending)
    done = site.rave(*words, check=False)
    assert time.monotonic() - began < 100
    assert "stopped or restarted" in done.stderr
    assert site.rave("vm", "exec", demo, "--", "echo", "on").stdout == "on\n"


def test_a_guest_that_powers_off_by_itself_and_a_qemu_that_is_killed_are_told_apart(
    site: Site, demo: str
) -> None:
    site.rave("vm", "exec", demo, "--", "sudo", "systemctl", "poweroff", "--no-block", check=False)
    site.rave("vm", "wait", demo, "--for", "stopped", "--timeout", "60")
    assert site.json("vm", "status", demo)["detail"] == ""
    site.rave("vm", "start", demo)
    os.kill(site.json("vm", "status", demo)["pid"], signal.SIGKILL)
    site.rave("vm", "wait", demo, "--for", "stopped", "--timeout", "20")
    assert "had not said that it shuts down" in site.json("vm", "status", demo)["detail"]
    site.rave("vm", "restart", demo)
    lines = site.rave("vm", "watch", demo, "--json", "--timeout", "0").stdout.splitlines()
    assert [json.loads(line)["state"] for line in lines] == ["running"]
