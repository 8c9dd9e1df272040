"""The disk of the forge of a real development machine is full while somebody pushes.

RAVE_DEVELOPMENT_MACHINE names a running machine of this home for it; else one is made.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest

from rave_cli.machines import status, store
from tests.integration.development import ASKED_FOR
from tests.integration.development.guest import Guest, eventually
from tests.integration.development.storm import tell

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rave_cli.machines.spec import Machine

pytestmark = [
    *ASKED_FOR,
    pytest.mark.timeout(7200),
]

PROJECT = "rave-faults-full"
REPOSITORY = f"/data/pagure/repositories/{PROJECT}.git"
# What somebody pushes, and what is left for it, in MiB: less than that, and enough for the database
# and the others in the meantime.
LARGE, LEFT = 48, 16
FILL = (
    "left=$(df --output=avail -B1M /data | tail -1);"
    f" fallocate -l $((left - {LEFT}))M /data/rave-faults && df -B1M /data | tail -1"
)
FREE = "rm -f /data/rave-faults"
UNITS = ("pagure.service", "pagure-worker.service", "nginx.service")

# Pushes a file of so many MiB that nothing makes smaller, from a clone on another disk. Prints
# whether that was taken, what git said of it, and the commit.
PUSH = """
import json, os, subprocess, sys, tempfile
from base64 import b64encode
sys.path.insert(0, "/usr/lib/rave")
from rave_guest.wire.forge import PagureUser
port, project, size = sys.argv[1:]
with open("/run/secrets/pagure/token") as file:
    token = file.read().strip()
user = PagureUser(int(port), "rave", token, 300)
if user.look("/" + project) is None:
    user.create(project, private=False)
shown = "Authorization: Basic " + b64encode(f"rave:{token}".encode()).decode()
env = os.environ | {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "http.extraHeader",
                    "GIT_CONFIG_VALUE_0": shown}
with tempfile.TemporaryDirectory(dir="/var/tmp") as place:
    def git(*words, check=True):
        return subprocess.run(["git", "-C", place, *words], env=env, check=check, text=True,
                              capture_output=True)
    git("clone", "--quiet", user.address(project), ".")
    with open(place + "/" + os.urandom(4).hex(), "wb") as file:
        for _ in range(int(size)):
            file.write(os.urandom(1 << 20))
    git("add", "--all")
    git("-c", "user.name=rave", "-c", "user.email=rave@rave.invalid", "commit", "-qm", "Push")
    done = git("push", "--quiet", "origin", "HEAD:main", check=False)
    print(json.dumps({"taken": done.returncode == 0, "said": done.stderr,
                      "commit": git("rev-parse", "HEAD").stdout.strip()}))
"""


@pytest.fixture
def guest(machine: Machine) -> Iterator[Guest]:
    found = Guest(machine)
    found.delete(PROJECT)
    yield found
    found.run("sh", "-c", FREE)
    found.delete(PROJECT)


def push(guest: Guest, size: int) -> dict[str, Any]:
    """Push so many MiB; return what came of it."""
    plan = store.plan(guest.machine)
    assert plan is not None
    (port,) = plan.services["pagure"].ports
    words = ("python3", "-I", "-c", PUSH, str(port.port), PROJECT, str(size))
    found: dict[str, Any] = json.loads(guest.run(*words, timeout=900))
    return found


def git(guest: Guest, *words: str) -> str:
    """Ask the repository itself."""
    words = ("runuser", "-u", "pagure", "--", "git", "-C", REPOSITORY, *words)
    return guest.run(*words, timeout=600).strip()


def processes(guest: Guest) -> str:
    return guest.run("systemctl", "show", "-P", "MainPID", *UNITS)


def test_a_push_for_which_there_is_no_room_is_refused_and_the_next_one_taken(
    guest: Guest,
) -> None:
    before = push(guest, 1)
    assert before["taken"], before
    running = processes(guest)
    tell(guest.run("sh", "-c", FILL).strip())
    began = time.monotonic()
    refused = push(guest, LARGE)
    tell(f"refused after {time.monotonic() - began:.0f} s", **refused)
    # That it is the disk is in the forge's journal alone (docs/explanation/faults.md).
    assert not refused["taken"]
    # What was taken is there and whole, and of what was not, nothing is in anybody's way.
    assert git(guest, "rev-parse", "main") == before["commit"]
    git(guest, "fsck", "--full", "--strict")
    left = guest.run("find", REPOSITORY, "-name", "tmp_*", "-o", "-name", "incoming-*")
    assert left == ""
    guest.run("sh", "-c", FREE)
    after = push(guest, LARGE)
    assert after["taken"], after
    assert git(guest, "rev-list", "--count", f"{before['commit']}..main") == "1"
    assert git(guest, "rev-parse", "main") == after["commit"]
    git(guest, "fsck", "--full", "--strict")
    assert processes(guest) == running
    eventually(lambda: status.of(guest.machine).state == "running")
