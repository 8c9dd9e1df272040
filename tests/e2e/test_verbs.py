"""What is done to a machine between its boots, with a real guest: sizes, names, what it keeps.

All of it is done at once, since each boot takes half a minute on a busy host.
"""

from __future__ import annotations

import json
import os
import signal
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.conftest import Site

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

MOVED = "moved"


def data_gib(site: Site, name: str) -> float:
    """Return the size of the file system of the guest's data in GiB."""
    done = site.rave("vm", "exec", name, "--", "df", "--block-size=1", "--output=size", "/data")
    return int(done.stdout.split()[1]) / (1 << 30)


def await_size(site: Site, name: str, gib: int) -> None:
    """Wait until the data's file system fills a disk of `gib`: at boot it grows meanwhile."""
    deadline = time.monotonic() + 60
    while data_gib(site, name) < 0.9 * gib:
        assert time.monotonic() < deadline, data_gib(site, name)
        time.sleep(1)


def inside(site: Site, name: str, *words: str) -> str:
    """Run a program as root in the guest."""
    return site.rave("vm", "exec", "--sudo", name, "--", *words).stdout


def jail(site: Site, name: str) -> str:
    """What fail2ban says of its jail in this boot."""
    return inside(site, name, "fail2ban-client", "status", "sshd")


@dataclass(frozen=True)
class Changed:
    """A machine that was stopped, changed and started: how it was before and what was said."""

    gib: int
    machine_id: str
    secrets: list[str]
    detail: str
    running: Any
    stopped: Any
    logged_in: bool


@pytest.fixture(scope="module")
def changed(site: Site) -> Iterator[Changed]:
    """The demo machine with a larger disk, less memory and another name, in its next boot."""
    site.rave("up", "--profile", "demo", "--base", "debian", "--skip-smoke", timeout=600)
    gib = site.json("vm", "status", "demo")["diskGiB"]
    running = site.json("vm", "set", "demo", "--disk", str(gib + 4))
    assert data_gib(site, "demo") > 0.9 * (gib + 4)
    if "Total banned:\t0" in jail(site, "demo"):
        site.rave("smoke", "run", "--vm", "demo", "--phase", "security")
    machine_id = inside(site, "demo", "cat", "/etc/machine-id")
    secrets = site.json("secrets", "install", "demo")["secrets"]
    site.rave("vm", "stop", "demo")
    detail = site.json("vm", "status", "demo")["detail"]
    stopped = site.json("vm", "set", "demo", "--disk", str(gib + 8), "--memory", "1792")
    site.rave("vm", "rename", "demo", MOVED)
    try:
        site.rave("vm", "start", MOVED)
        waited = site.rave("vm", "wait", MOVED, "--for", "ssh-auth", "--timeout", "60", check=False)
        yield Changed(
            gib=gib, machine_id=machine_id, secrets=sorted(secret["name"] for secret in secrets),
            detail=detail, running=running, stopped=stopped, logged_in=waited.returncode == 0,
        )  # fmt: skip
    finally:
        if site.rave("vm", "status", MOVED, check=False).returncode == 0:
            site.rave("vm", "stop", MOVED)
            back(site)
        # Those who come after these tests want it, whatever failed here.
        site.rave("vm", "start", "demo")


def back(site: Site) -> None:
    """Give the stopped machine its name and its memory again."""
    site.rave("vm", "rename", MOVED, "demo")
    site.rave("vm", "set", "demo", "--memory", "2048")


def test_a_disk_grows_with_its_file_system_running_or_stopped(site: Site, changed: Changed) -> None:
    gib = changed.gib
    assert (changed.running["diskGiB"], changed.running["fileSystem"]) == (gib + 4, "grown")
    assert (changed.stopped["diskGiB"], changed.stopped["fileSystem"]) == (
        gib + 8, "at the next start",
    )  # fmt: skip
    await_size(site, MOVED, gib + 8)
    total = inside(site, MOVED, "grep", "MemTotal", "/proc/meminfo")
    assert 1500 < int(total.split()[1]) / 1024 < 1792


def test_a_renamed_machine_is_the_same_machine(site: Site, changed: Changed) -> None:
    assert changed.detail == ""
    assert changed.logged_in
    assert inside(site, MOVED, "cat", "/etc/machine-id") == changed.machine_id


def test_a_stopped_machine_keeps_its_secrets(site: Site, changed: Changed) -> None:
    found = inside(site, MOVED, "find", "-L", "/run/secrets", "-type", "f", "-printf", "%P\\n")
    assert sorted(found.split()) == changed.secrets
    assert site.json("secrets", "install", MOVED)["changed"] == []


def test_a_lifted_ban_does_not_come_back_with_the_next_boot(site: Site, changed: Changed) -> None:
    """fail2ban read the refused logins of the boot before and banned the operator again."""
    assert "Total banned:\t0" in jail(site, MOVED)


@pytest.mark.parametrize(
    "ending",
    [
        "systemctl restart rave-command.service",
        "systemctl kill --signal=KILL --kill-who=main rave-command.service; sleep 300",
    ],
    ids=["restarted", "killed"],
)
def test_a_command_whose_runner_in_the_guest_ends_is_not_waited_for(
    site: Site, changed: Changed, ending: str
) -> None:
    began = time.monotonic()
    words = ("vm", "exec", "--sudo", "--timeout", "200", MOVED, "--", "sh", "-c", ending)
    done = site.rave(*words, check=False)
    assert time.monotonic() - began < 100
    assert "stopped or restarted" in done.stderr
    assert inside(site, MOVED, "echo", "on") == "on\n"


def test_a_guest_that_powers_off_by_itself_and_a_qemu_that_is_killed_are_told_apart(
    site: Site, changed: Changed
) -> None:
    site.rave("vm", "exec", MOVED, "--", "sudo", "systemctl", "poweroff", "--no-block", check=False)
    site.rave("vm", "wait", MOVED, "--for", "stopped", "--timeout", "60")
    assert site.json("vm", "status", MOVED)["detail"] == ""
    back(site)
    site.rave("vm", "start", "demo")
    os.kill(site.json("vm", "status", "demo")["pid"], signal.SIGKILL)
    site.rave("vm", "wait", "demo", "--for", "stopped", "--timeout", "20")
    assert "had not said that it shuts down" in site.json("vm", "status", "demo")["detail"]
    site.rave("vm", "restart", "demo")
    lines = site.rave("vm", "watch", "demo", "--json", "--timeout", "0").stdout.splitlines()
    assert [json.loads(line)["state"] for line in lines] == ["running"]
