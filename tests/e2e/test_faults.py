"""What a real machine survives: kill -9 and Ctrl-C of the CLI, a dead QEMU, two at once."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from tests.e2e.conftest import Site, machines, qemu_processes

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

LAUNCH = ["vm", "launch-local", "--profile", "demo", "--base", "debian", "--memory", "1024"]


def start(site: Site, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [site.rave_path, *words], cwd=site.checkout, env=site.env, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL,
    )  # fmt: skip


@pytest.fixture
def alone(site: Site) -> Site:
    """The site with its demo machine stopped, so that two cores suffice."""
    site.rave("vm", "stop", "demo", check=False)
    for name in machines(site):
        if name != "demo":
            site.rave("vm", "delete", name, "--force", check=False)
    assert qemu_processes(site) == []
    return site


@pytest.mark.parametrize("after", [0.3, 1.0, 3.0, 8.0])
def test_kill_9_of_the_cli_at_any_stage(alone: Site, after: float) -> None:
    child = start(alone, *LAUNCH, "--name", "victim")
    time.sleep(after)
    child.kill()
    child.communicate()
    listed = {machine["name"]: machine for machine in alone.json("vm", "list")}
    running = bool(qemu_processes(alone))
    assert ("victim" in listed and listed["victim"]["state"] != "stopped") == running
    alone.rave("vm", "delete", "victim", "--force", check="victim" in listed)
    assert "victim" not in machines(alone)
    assert qemu_processes(alone) == []


@pytest.mark.parametrize("after", [0.5, 2.0, 6.0])
def test_ctrl_c_of_the_cli_at_any_stage(alone: Site, after: float) -> None:
    child = start(alone, *LAUNCH, "--name", "victim")
    time.sleep(after)
    child.send_signal(signal.SIGINT)
    _, said = child.communicate(timeout=30)
    assert child.returncode == 130, said
    assert "Traceback" not in said
    assert qemu_processes(alone) == []
    alone.rave("vm", "delete", "victim", "--force", check=False)
    assert "victim" not in machines(alone)


def test_a_qemu_that_is_killed_during_the_boot_is_noticed_at_once(alone: Site) -> None:
    child = start(alone, *LAUNCH, "--name", "victim")
    while not qemu_processes(alone):
        time.sleep(0.05)
    time.sleep(1.5)
    for pid in qemu_processes(alone):
        os.kill(pid, signal.SIGKILL)
    began = time.monotonic()
    _, said = child.communicate(timeout=60)
    # Before the stage that it was killed in has had its time.
    assert time.monotonic() - began < 20
    assert child.returncode == 5
    assert "error:" in said
    assert "hint:" in said
    alone.rave("vm", "delete", "victim", "--force")


def test_two_launches_of_one_name_make_one_machine(alone: Site) -> None:
    children = [start(alone, *LAUNCH, "--name", "twin") for _ in range(2)]
    said = [child.communicate(timeout=180)[1] for child in children]
    codes = sorted(child.returncode for child in children)
    assert codes[0] == 0, said
    assert codes[1] in {2, 3}, said
    assert len(qemu_processes(alone)) == 1
    alone.rave("vm", "delete", "twin", "--force")


@pytest.mark.parametrize("after", [4.0, 12.0])
def test_a_cancelled_job_leaves_no_machine(site: Site, tmp_path: Path, after: float) -> None:
    """CI systems cancel with SIGTERM; the fresh machine must not outlive the job."""
    site.rave("vm", "stop", "demo", check=False)
    before = machines(site)
    child = subprocess.Popen(
        [site.rave_path, "smoke", "run", "--profile", "demo", "--base", "debian", "--output",
         str(tmp_path)],
        cwd=site.checkout, env=site.env, text=True, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    time.sleep(after)
    child.terminate()
    _, said = child.communicate(timeout=60)
    assert child.returncode == 128 + signal.SIGTERM, said
    assert "Traceback" not in said
    assert machines(site) == before
    assert qemu_processes(site) == []
