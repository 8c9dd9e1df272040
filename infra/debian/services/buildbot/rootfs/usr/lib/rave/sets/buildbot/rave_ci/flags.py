"""Says at a commit, in the forge, what becomes of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError

from buildbot.data.resultspec import Filter
from buildbot.reporters.base import ReporterBase
from buildbot.reporters.generators.build import BuildStartEndStatusGenerator
from buildbot.reporters.utils import getURLForBuild
from buildbot.util.state import StateMixin
from twisted.internet import defer, reactor, threads

from rave_ci import logs
from rave_ci.forge import RUN, described

if TYPE_CHECKING:
    from collections.abc import Generator

    from rave_ci.forge import Forge

SOON = 60  # seconds until it is said anew to a forge that did not take it


class Flags(ReporterBase, StateMixin):  # type: ignore[misc]
    """One flag of each commit that is built.

    What was begun is owed until the forge has taken its end, whoever is ended in between.
    """

    name = "flags"

    def checkConfig(self, forge: Forge) -> None:
        """Have nothing against it."""
        super().checkConfig([BuildStartEndStatusGenerator()])

    @defer.inlineCallbacks  # type: ignore[untyped-decorator]
    def reconfigService(self, forge: Forge) -> Generator[Any, Any, None]:
        """Take the forge, and begin with what was left to be said."""
        self._forge, self._turn = forge, defer.DeferredLock()
        # Of which commit each is that somebody wants built, by its number.
        self._owed: dict[str, list[str]] = yield self.getState("owed", {})
        self._said: dict[str, dict[str, str]] = {}
        yield super().reconfigService([BuildStartEndStatusGenerator()])
        reactor.callLater(0, self._turn.run, self._say)

    @defer.inlineCallbacks  # type: ignore[untyped-decorator]
    def sendMessage(self, reports: list[dict[str, Any]]) -> Generator[Any, Any, None]:
        """Say what has begun or ended."""
        (build,) = reports[0]["builds"]
        (source,) = build["buildset"]["sourcestamps"]
        self._owed[str(build["buildrequestid"])] = [source["project"], source["revision"]]
        yield self.setState("owed", self._owed)
        yield self._turn.run(self._say)

    @defer.inlineCallbacks  # type: ignore[untyped-decorator]
    def _say(self) -> Generator[Any, Any, None]:
        """Say of all that is owed how it is by now."""
        for request in list(self._owed):
            status, said = yield self._newest(int(request))
            try:
                if self._said.get(request) != said:
                    yield threads.deferToThread(self._forge.flag, *self._owed[request], **said)
            except OSError as error:
                # The project or the commit may have gone meanwhile.
                if not (isinstance(error, HTTPError) and error.code == 404):
                    logs.complain(f"the forge does not take what became of a commit: {error}")
                    reactor.callLater(SOON, self._turn.run, self._say)
                    return
            self._said[request] = said
            if status != "pending":
                del self._owed[request], self._said[request]
                yield self.setState("owed", self._owed)

    @defer.inlineCallbacks  # type: ignore[untyped-decorator]
    def _newest(self, request: int) -> Generator[Any, Any, tuple[str, dict[str, str]]]:
        """Return how it stands with somebody's wish: its last build's status, and a flag."""
        mine = Filter("buildrequestid", "eq", [request])
        builds = yield self.master.data.get(("builds",), filters=[mine])
        build = max(builds, key=lambda one: one["buildid"])
        status = described(build)
        url = getURLForBuild(self.master, build["builderid"], build["number"])
        return status, {"status": status, "comment": f"{RUN}: {status}", "url": url}
