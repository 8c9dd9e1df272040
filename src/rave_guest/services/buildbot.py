"""CI: whether what is pushed to the forge is built, with what a build may not reach."""

from __future__ import annotations

import time
from functools import partial

from rave_guest import plan as plans
from rave_guest.check import Subject, check
from rave_guest.verdict import Verdict, failed, missing, passed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from rave_guest.system import System
    from rave_guest.wire.forge import PagureUser

# Of rave's own programs, by a secret of the catalog.
USER, TOKEN = "rave", "pagure/token"
PROJECT = "rave-smoke-ci"
JOURNEY = 600.0  # seconds for all of it, in an emulated guest on a busy host
STEP = 180.0  # seconds for one step of it, as nginx waits for an answer
LOOKS = 0.5  # seconds between two looks at a commit

# What a build of this machine runs: it fails if it reaches what is not its own.
BUILD = """\
#!/usr/bin/python3
import os, socket, sys
reached = [place for place in {places} if os.path.exists(place)]
for port in {ports}:
    try:
        socket.create_connection(("127.0.0.1", port), 5)
    except OSError:
        continue
    reached.append(port)
sys.exit(f"a build reaches {{reached}}" if reached else 0)
"""
PLACES = ["/run/secrets", "/run/postgresql", "/run/rave", "/data/pagure", "/var/lib/rave"]


def _about(about: Subject) -> dict[str, Any]:
    services = about.plan["services"]
    return {
        "port": plans.port_of(about.plan, "pagure", "web"),
        "secret": plans.secret(about.plan, TOKEN),
        "ports": sorted(port["port"] for one in services.values() for port in one["ports"]),
    }


@check(
    "buildbot.push", phase="health",
    title="Buildbot: what is pushed to the forge is built, reaching nothing, and the forge is told",
    # A build beside it makes a scrape late under emulation.
    needs=("buildbot.units", "buildbot-worker.units", "pagure.units", "pagure-worker.units",
           "prometheus.targets"),
    timeout=JOURNEY, arguments=_about, figures={"seconds": "ci_seconds"},
)  # fmt: skip
def push(arguments: Mapping[str, Any], system: System) -> Verdict:
    """Hook, master, worker and the forge's API have a part in it."""
    from rave_guest.wire.forge import PagureError, PagureUser

    token = system.secret(arguments["secret"])
    if token is None:
        return missing(arguments["secret"])
    forge = PagureUser(arguments["port"], USER, token, STEP)
    git = partial(forge.git, system)
    try:
        with forge.trying(PROJECT) as folder:
            address = forge.address(forge.create(PROJECT, private=False))
            git(folder, "clone", "--quiet", address, "one")
            commit = _commit(git, system, f"{folder}/one", arguments["ports"])
            git(f"{folder}/one", "push", "--quiet", "origin", "HEAD:main")
            return _built(forge, commit, time.monotonic() + JOURNEY / 2)
    except PagureError as error:
        return failed(str(error))


def _commit(git: partial[str], system: System, folder: str, ports: list[int]) -> str:
    script = BUILD.format(places=PLACES, ports=ports)
    # It may not open what it reads from: that is root's.
    write = 'mkdir "$1" && cat >"$1/run" && chmod 755 "$1/run"'
    system.run(["sh", "-c", write, "sh", f"{folder}/.ci"], STEP, user="nobody", stdin=script)
    git(folder, "add", "--all")
    who = ("-c", "user.name=rave", "-c", "user.email=rave@rave.invalid")
    git(folder, *who, "commit", "--quiet", "--message", "Say how it is built")
    return git(folder, "rev-parse", "HEAD")


def _built(forge: PagureUser, commit: str, until: float) -> Verdict:
    """Wait until the forge says what became of a commit."""
    began = time.monotonic()
    while time.monotonic() < until:
        told = forge.look(f"/{PROJECT}/c/{commit}/flag") or {}
        for flag in told.get("flags", []):
            if flag["status"] == "success":
                seconds = round(time.monotonic() - began, 2)
                return passed(f"built {seconds} s after the push", seconds=seconds)
            if flag["status"] != "pending":
                return failed(f"the forge says {flag['status']}: {flag['comment']}")
        time.sleep(LOOKS)
    return failed("the forge is not told what became of the commit")
