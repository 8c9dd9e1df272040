"""What is pushed to a real development machine is built, whatever of it is killed.

Asked for as test_up.py is. RAVE_DEVELOPMENT_MACHINE names a running machine of this home for it;
else one is made. When each falls a seed gives: RAVE_DEVELOPMENT_SEED (1).
"""

from __future__ import annotations

import json
import os
import random
import time
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING

import pytest

from rave_cli.errors import RaveError
from rave_cli.flows import accounts
from rave_cli.machines import store
from tests.integration.development import ASKED_FOR
from tests.integration.development.guest import Guest, eventually
from tests.integration.development.pages import sign_in, text
from tests.integration.development.people import origin
from tests.integration.portal import chromium
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from rave_cli.machines.spec import Machine

pytestmark = [
    *ASKED_FOR,
    pytest.mark.timeout(7200),
]

CHROMIUM = os.environ.get("RAVE_CHROMIUM")
PROJECT, PERSON = "rave-builds", "rave-builds"
SEED = int(os.environ.get("RAVE_DEVELOPMENT_SEED", "1"))
STARTED = 20.0  # seconds within which a program falls that has just been started
SILENT = 20  # seconds that a build may say nothing, where that is tried

# Pushes a commit to a public project of the forge, which is made if there is none.
PUSH = """
import os, subprocess, sys, tempfile
from base64 import b64encode
sys.path.insert(0, "/usr/lib/rave")
from rave_guest.wire.forge import PagureUser
port, project, script = sys.argv[1:]
with open("/run/secrets/pagure/token") as file:
    token = file.read().strip()
user = PagureUser(int(port), "rave", token, 120)
if user.look("/" + project) is None:
    user.create(project, private=False)
shown = "Authorization: Basic " + b64encode(f"rave:{token}".encode()).decode()
env = os.environ | {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "http.extraHeader",
                    "GIT_CONFIG_VALUE_0": shown}
with tempfile.TemporaryDirectory() as place:
    def git(*words):
        return subprocess.run(["git", "-C", place, *words], env=env, check=True, text=True,
                              capture_output=True).stdout.strip()
    git("clone", "--quiet", user.address(project), ".")
    os.makedirs(place + "/.ci", exist_ok=True)
    with open(place + "/.ci/run" if script else place + "/another", "w") as file:
        file.write("#!/bin/sh\\n" + script + "\\n# " + os.urandom(8).hex() + "\\n")
        os.chmod(file.name, 0o755)
    git("add", "--all")
    git("-c", "user.name=rave", "-c", "user.email=rave@rave.invalid", "commit", "-qm", "Push")
    git("push", "--quiet", "origin", "HEAD:main")
    print(git("rev-parse", "HEAD"))
"""

# Prints how many builds of a commit have come to which end, and how many are claimed.
BUILDS = """
import json, sqlite3, sys
store = sqlite3.connect("file:/var/lib/buildbot/state.sqlite?mode=ro", uri=True)
found = store.execute(
    "select builds.results, buildrequests.id from builds"
    " join buildrequests on buildrequests.id = builds.buildrequestid"
    " join buildset_sourcestamps s on s.buildsetid = buildrequests.buildsetid"
    " join sourcestamps on sourcestamps.id = s.sourcestampid"
    " where sourcestamps.revision = ?", sys.argv[1:]).fetchall()
(claims,) = store.execute("select count(*) from changesource_masters").fetchone()
json.dump([[result for result, _ in found], len({request for _, request in found}), claims],
          sys.stdout)
"""
SUCCESS, AGAIN = 0, 5


@dataclass
class Builds(Guest):
    """The machine, as somebody has it who pushes to its forge."""

    projects: set[str] = field(default_factory=set)

    def push(self, script: str, project: str = PROJECT) -> str:
        """Push a commit whose build runs `script`, or one that says nothing of builds."""
        self.projects.add(project)
        plan = store.plan(self.machine)
        assert plan is not None
        (port,) = plan.services["pagure"].ports
        return self.run("python3", "-I", "-c", PUSH, str(port.port), project, script).strip()

    def flags(self, commit: str, project: str = PROJECT) -> list[str]:
        """Return what the forge says of a commit."""
        told = self.forge(f"{project}/c/{commit}/flag") or {}
        return [flag["status"] for flag in told.get("flags", [])]

    def ends(self, commit: str) -> str:
        """Wait until the forge says what became of a commit."""
        eventually(lambda: self.flags(commit) not in ([], ["pending"]))
        (status,) = self.flags(commit)
        return status

    def builds(self, commit: str) -> tuple[list[int], int, int]:
        """Return the results of a commit's builds, how often it was wanted, and who looks for
        pushes.
        """
        results, wanted, claims = json.loads(self.run("python3", "-I", "-c", BUILDS, commit))
        return results, wanted, claims

    def runs(self, unit: str) -> bool:
        """Return whether a unit runs."""
        return self.run("systemctl", "show", "-P", "ActiveState", unit).strip() == "active"

    def fall(self, unit: str) -> None:
        """End a unit as nothing but the kernel could."""
        self.run("systemctl", "kill", "--signal=KILL", unit)

    def builds_now(self) -> bool:
        """Return whether a build is at its sleep."""
        return "sleep 31" in self.run("sh", "-c", "ps -u buildbot-worker -o args= || true")


@pytest.fixture(scope="module")
def guest(machine: Machine) -> Iterator[Builds]:
    found = Builds(machine)
    found.delete(PROJECT)
    yield found
    found.delete(*found.projects)


def test_a_push_starts_the_master_however_often_it_is_killed_meanwhile(guest: Builds) -> None:
    chance = random.Random(SEED)  # noqa: S311 - a seed's
    guest.run("systemctl", "stop", "buildbot.service")
    commit = guest.push("true")
    for _ in range(3):
        eventually(lambda: guest.runs("buildbot.service"))
        time.sleep(chance.uniform(0, STARTED))
        guest.fall("buildbot.service")
    assert guest.ends(commit) == "success"
    results, wanted, claims = guest.builds(commit)
    assert ([result for result in results if result != AGAIN], wanted, claims) == ([SUCCESS], 1, 1)


@pytest.mark.parametrize("unit", ["buildbot.service", "buildbot-worker.service"])
def test_a_build_of_which_a_part_is_killed_begins_anew(guest: Builds, unit: str) -> None:
    commit = guest.push("sleep 31")
    eventually(guest.builds_now)
    guest.fall(unit)
    assert guest.ends(commit) == "success"
    results, wanted, claims = guest.builds(commit)
    assert (results[-1], set(results[:-1]), wanted, claims) == (SUCCESS, {AGAIN}, 1, 1)


def test_a_flag_waits_for_a_forge_that_is_away(guest: Builds) -> None:
    commit = guest.push("sleep 31")
    eventually(guest.builds_now)
    guest.run("systemctl", "stop", "pagure.service")
    eventually(lambda: not guest.builds_now())
    guest.run("systemctl", "start", "pagure.service")
    assert guest.ends(commit) == "success"


def test_a_build_that_never_ends_is_ended(guest: Builds) -> None:
    unit = guest.run("systemctl", "cat", "buildbot.service")
    (start,) = [line for line in unit.splitlines() if line.startswith("ExecStart=")]
    place = "/run/systemd/system/buildbot.service.d"
    told = f"[Service]\nExecStart=\n{' '.join(start.split()[:-2])} {SILENT} {SILENT}\n"
    guest.run("sh", "-c", f'mkdir -p {place} && cat >{place}/test.conf <<"E"\n{told}E')
    try:
        guest.run("sh", "-c", "systemctl daemon-reload && systemctl restart buildbot.service")
        commit = guest.push("setsid sleep 1000 & exec sleep 1000")
        assert guest.ends(commit) == "failure"
        eventually(lambda: not guest.run("sh", "-c", "ps -u buildbot-worker -o args= || true"))
    finally:
        guest.run("rm", "-r", place)
        guest.run("sh", "-c", "systemctl daemon-reload && systemctl restart buildbot.service")


def test_what_says_nothing_of_builds_is_not_built(guest: Builds) -> None:
    other = f"{PROJECT}-not"
    guest.delete(other)
    commit = guest.push("", other)
    # What was pushed afterwards is looked at afterwards.
    assert guest.ends(guest.push("true")) == "success"
    assert guest.flags(commit, other) == []
    assert guest.builds(commit)[0] == []


@pytest.mark.parametrize("path", ["/buildbot/", "/buildbot/api/v2/builds", "/buildbot/ws"])
def test_who_has_not_signed_in_sees_no_builds(guest: Builds, path: str) -> None:
    status, body = guest.request(origin(guest.machine), "GET", path)
    assert status in (HTTPStatus.SEE_OTHER, HTTPStatus.UNAUTHORIZED)
    assert b"buildbot" not in body.lower()


@pytest.mark.skipif(not CHROMIUM, reason="RAVE_CHROMIUM: not named")
def test_who_has_signed_in_sees_builds_as_they_go(guest: Builds, tmp_path: Path) -> None:
    gone = {"user": PERSON}
    with suppress(RaveError):
        accounts.ask(guest.machine.name, "delete", **gone)
    about = {"name": "Alice Liddell", "email": "", "groups": [], "password": True}
    once = accounts.ask(guest.machine.name, "add", **gone, **about).password
    here = origin(guest.machine)
    try:
        with chromium.running(str(CHROMIUM), tmp_path / "profile") as page:
            page.open(f"{here}/buildbot/", width=1100)
            sign_in(page, PERSON, str(once), "a new one, of mine")
            until(lambda: "Buildbot" in text(page))
            assert str(page.ask("location.href")).startswith(f"{here}/buildbot/")
            page.ask("location.hash = '#/builders/1'")
            until(lambda: shown(page))
            before = shown(page)
            guest.push("echo of this page")
            # It hears of it over its websocket: nothing is loaded anew.
            until(lambda: shown(page) > before)
            page.picture(tmp_path / "builds.png")
            # The form of the sign-in has hints of the browser's own, too.
            assert [said for said in page.complaints if "Content Security Policy" in said] == []
    finally:
        accounts.ask(guest.machine.name, "delete", **gone)


def shown(page: chromium.Chromium) -> int:
    """Return the number of the last build that a page of builds leads to."""
    links = "[...document.querySelectorAll('a[href*=\"/builds/\"]')].map(a => a.href)"
    found: list[str] = page.ask(links) or []
    return max((int(link.rpartition("/")[2]) for link in found), default=0)
