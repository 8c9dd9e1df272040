"""What is new in the forge: told by its hook, and looked for in case nobody told."""

from __future__ import annotations

import socket
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from buildbot.changes.base import ReconfigurablePollingChangeSource
from buildbot.util.state import StateMixin
from twisted.internet import defer, reactor, threads
from twisted.internet.interfaces import IReadDescriptor
from zope.interface import implementer

from rave_ci import logs
from rave_ci.forge import project_of

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from rave_ci.forge import Forge

# Whose builds they are.
BUILDER = "pushes"
LOOKS = 600  # seconds between two looks at all projects
SOON = 30  # seconds until it looks anew for a forge that was away
KEPT = 30 * 86400  # seconds that the output of builds is kept
LONGEST = 4096  # bytes
PATIENCE = 1.0  # seconds


@implementer(IReadDescriptor)
class Told:
    """Where the forge says in which place something was pushed: a socket of systemd's.

    Twisted would set the socket's mode, which is systemd's business.
    """

    def __init__(self, number: int, take: Callable[[str], None]) -> None:
        """`take` is called with each place; `number` is the socket's."""
        self._listening, self._take = socket.socket(fileno=number), take

    def fileno(self) -> int:
        """Return what is waited for."""
        return self._listening.fileno()

    def doRead(self) -> None:
        """Take what one has to say, who has it ready."""
        with suppress(OSError), self._listening.accept()[0] as said:
            said.settimeout(PATIENCE)
            self._take(said.recv(LONGEST).decode(errors="replace"))

    def connectionLost(self, reason: object) -> None:
        """Listen no more."""
        self._listening.close()

    def logPrefix(self) -> str:
        """Return whose faults are told."""
        return "pushed"


class Pushes(ReconfigurablePollingChangeSource, StateMixin):  # type: ignore[misc]
    """Compares the branches of projects with what they were when it looked last."""

    def checkConfig(self, forge: Forge, listening: int) -> None:
        """Have nothing against it."""
        super().checkConfig(pollInterval=LOOKS, pollAtLaunch=True)

    def reconfigService(self, forge: Forge, listening: int) -> Any:
        """Take the forge, and where it tells of pushes: a descriptor."""
        self._forge, self._listening = forge, listening
        self._told, self._all_at = set[str](), 0.0
        return super().reconfigService(pollInterval=LOOKS, pollAtLaunch=True)

    def activate(self) -> Any:
        """Listen, and look at once."""
        reactor.addReader(Told(self._listening, self._hear))
        return super().activate()

    def _hear(self, place: str) -> None:
        if project := project_of(place):
            self._told.add(project)
            self.doPoll()

    @defer.inlineCallbacks  # type: ignore[untyped-decorator]
    def poll(self) -> Generator[Any, Any, None]:
        """Look at the projects that were told of, or at all."""
        told, self._told = self._told, set()
        try:
            if told and reactor.seconds() < self._all_at:
                yield self._look(sorted(told), (yield self.getState("heads", {})))
            else:
                yield self._all()
        except OSError as error:
            logs.complain(f"the forge does not say what was pushed: {error}")
            # It will be back before it is time to look again.
            self._told |= told
            reactor.callLater(SOON, self.doPoll)

    @defer.inlineCallbacks  # type: ignore[untyped-decorator]
    def _all(self) -> Generator[Any, Any, None]:
        projects = yield threads.deferToThread(self._forge.projects)
        known = yield self.getState("heads", {})
        yield self._look(projects, {name: known[name] for name in projects if name in known})
        yield self.master.db.logs.deleteOldLogChunks(int(time.time()) - KEPT)
        self._all_at = reactor.seconds() + LOOKS

    @defer.inlineCallbacks  # type: ignore[untyped-decorator]
    def _look(
        self, projects: list[str], known: dict[str, dict[str, str]]
    ) -> Generator[Any, Any, None]:
        for project in projects:
            found = yield threads.deferToThread(self._forge.heads, project)
            seen = set(known.get(project, {}).values())
            for branch, commit in found.items():
                if commit not in seen:
                    yield self._changed(project, branch, commit)
                seen.add(commit)
            if known.get(project) != found:
                known[project] = found
                # After what is to be built is noted: what is broken off is looked at once more.
                yield self.setState("heads", known)

    @defer.inlineCallbacks  # type: ignore[untyped-decorator]
    def _changed(self, project: str, branch: str, commit: str) -> Generator[Any, Any, None]:
        if not (yield threads.deferToThread(self._forge.wanted, project, commit)):
            return
        # Without a scheduler between: it would note what is to be built after this has returned.
        builder = yield self.master.data.updates.findBuilderId(BUILDER)
        source = {
            "codebase": "", "repository": self._forge.source(project), "project": project,
            "branch": branch, "revision": commit,
        }  # fmt: skip
        yield self.master.data.updates.addBuildset(
            waited_for=False, reason=f"pushed to {branch}", sourcestamps=[source],
            builderids=[builder],
        )  # fmt: skip
