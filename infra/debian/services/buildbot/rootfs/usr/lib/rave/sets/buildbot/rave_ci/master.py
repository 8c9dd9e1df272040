"""Buildbot, as it builds what is pushed to the forge."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from buildbot.config import BuilderConfig
from buildbot.config.master import MasterConfig
from buildbot.data.resultspec import Filter
from buildbot.db.connector import DBConnector
from buildbot.master import BuildMaster
from buildbot.process.factory import BuildFactory
from buildbot.process.properties import Interpolate
from buildbot.process.results import EXCEPTION, FAILURE
from buildbot.schedulers.triggerable import Triggerable
from buildbot.steps.master import MasterShellCommand
from buildbot.steps.shell import ShellCommand
from buildbot.steps.transfer import FileDownload
from buildbot.www.authz import Authz
from buildbot.www.authz.endpointmatchers import AnyControlEndpointMatcher
from twisted.application import app, service
from twisted.internet import defer, reactor

from rave_ci import logs
from rave_ci.called import MEET, NAME, Called
from rave_ci.flags import Flags
from rave_ci.forge import RUN, Forge
from rave_ci.pushes import BUILDER, Pushes

if TYPE_CHECKING:
    from collections.abc import Generator

ORIGIN = Path("/run/rave/origin")
# What systemd listens on for it, in the socket's order.
WEB, PUSHED = "systemd:domain=INET:index=0", 4
# How often a build is begun whose worker ends before it does, be it by what is built.
TRIES = 5
OUTPUT = 1 << 20  # bytes of a step's output that are kept
SOURCE = "source.tar"
# At the worker, of the same set.
BUILDS = ["python3", "-IS", "/usr/lib/rave/sets/buildbot", "rave_ci.run:main"]
# The worker reaches no forge: it is handed the files of the commit.
# The forge may be away for a while. What is handed over has 1 GiB at most.
FETCH = f"""
ulimit -f 2097152
export GIT_HTTP_LOW_SPEED_LIMIT=1 GIT_HTTP_LOW_SPEED_TIME=120 GIT_TERMINAL_PROMPT=0
rm -rf repository {SOURCE}
git init --quiet --bare repository
for wait in 10 20 40 80 0; do
    git -C repository fetch --quiet --depth 1 "$1" "$2" && break
    sleep "$wait"
done
git -C repository archive --output ../{SOURCE} "$2"
rm -rf repository
"""


class Limits(NamedTuple):
    """What a build may: seconds that it says nothing, and that it takes."""

    quiet: int
    longest: int


def settings(forge: Forge, origin: str, limits: Limits) -> dict[str, Any]:
    """Return Buildbot's configuration on a machine of this public origin."""
    return {
        "title": "RAVE",
        "titleURL": f"{origin}/",
        "buildbotURL": f"{origin}/buildbot/",
        "buildbotNetUsageData": None,
        "db": {"db_url": "sqlite:///state.sqlite"},
        "logMaxSize": OUTPUT,
        # Behind the portal's sign-in; people look, and nobody changes anything.
        "www": {
            "port": WEB,
            "plugins": {},
            "logfileName": "",
            "authz": Authz(allowRules=[AnyControlEndpointMatcher(role="nobody")]),
        },
        "protocols": {"pb": {"port": f"unix:{MEET}:mode=660"}},
        "workers": [Called()],
        "change_source": [Pushes(forge, PUSHED, name="pushes")],
        # Without one nothing would be built, it says. Its own list of changes is not used.
        "schedulers": [Triggerable(name=BUILDER, builderNames=[BUILDER])],
        "builders": [BuilderConfig(name=BUILDER, workernames=[NAME], factory=steps(limits))],
        "services": [Flags(forge)],
    }


class Fetch(MasterShellCommand):  # type: ignore[misc]
    """What goes wrong here is no fault of the commit's."""

    @defer.inlineCallbacks  # type: ignore[untyped-decorator]
    def run(self) -> Generator[Any, Any, int]:
        """Return what became of it."""
        mine = Filter("buildrequestid", "eq", [self.build.requests[0].id])
        begun = yield self.master.data.get(("builds",), filters=[mine])
        if len(begun) > TRIES:
            yield self.addCompleteLog("stdio", f"It was begun {len(begun) - 1} times in vain.\n")
            return int(EXCEPTION)
        result = yield super().run()
        return EXCEPTION if result == FAILURE else int(result)


def steps(limits: Limits) -> BuildFactory:
    """Return what a build is."""
    needed = {"haltOnFailure": True, "logEnviron": False}
    words = [Interpolate(f"%(src::{name})s") for name in ("repository", "revision")]
    return BuildFactory(
        [
            Fetch(["sh", "-euc", FETCH, "fetch", *words], name="fetch", **needed),
            FileDownload(mastersrc=SOURCE, workerdest=SOURCE, workdir="given", haltOnFailure=True),
            ShellCommand(command=["tar", "-xf", f"../given/{SOURCE}"], name="unpack", **needed),
            ShellCommand(
                command=BUILDS, name=RUN, description=RUN, descriptionDone=RUN,
                timeout=limits.quiet, maxTime=limits.longest,
                env={
                    "CI": "true",
                    "CI_PROJECT": Interpolate("%(src::project)s"),
                    "CI_BRANCH": Interpolate("%(src::branch)s"),
                    "CI_COMMIT": Interpolate("%(src::revision)s"),
                },
                **needed,
            ),
        ]
    )  # fmt: skip


class Settings(NamedTuple):
    """What Buildbot loads instead of a file."""

    forge: Forge
    origin: str
    limits: Limits

    def loadConfig(self) -> MasterConfig:
        """Return them as Buildbot keeps them."""
        return MasterConfig.loadFromDict(settings(*self), "settings")


_opened = DBConnector.setup


@defer.inlineCallbacks  # type: ignore[untyped-decorator]
def opened(store: DBConnector, **_: bool) -> Generator[Any, Any, None]:
    """Open Buildbot's database, and make it, or bring it to this release's form."""
    yield _opened(store, check_version=False)
    yield store.model.upgrade()
    # Whoever was killed while it started has claimed what looks for pushes, and nobody would look.
    yield store.masters.setAllMastersActiveLongTimeAgo()


def main() -> None:
    """Serve until the end. The program's words are the forge's address, and a build's limits."""
    logs.faults()
    address, *limits = sys.argv[1:]
    token = Path(os.environ["CREDENTIALS_DIRECTORY"]) / "forge-token"
    forge = Forge(address, token.read_text().strip() if token.exists() else "")
    origin = ORIGIN.read_text().strip() if ORIGIN.exists() else "https://rave.localhost"
    DBConnector.setup = opened
    master = BuildMaster(
        str(Path.cwd()), config_loader=Settings(forge, origin, Limits(*map(int, limits)))
    )
    application = service.Application("buildbot")
    master.setServiceParent(application)
    app.startApplication(application, False)
    reactor.run()
