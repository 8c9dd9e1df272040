"""Says at a commit, in the forge, what becomes of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from buildbot.reporters.base import ReporterBase
from buildbot.reporters.generators.build import BuildStartEndStatusGenerator
from twisted.internet import threads

from rave_ci.forge import RUN, described

if TYPE_CHECKING:
    from rave_ci.forge import Forge


class Flags(ReporterBase):  # type: ignore[misc]
    """One flag of each commit that is built."""

    name = "flags"

    def checkConfig(self, forge: Forge) -> None:
        """Have nothing against it."""
        super().checkConfig([BuildStartEndStatusGenerator()])

    def reconfigService(self, forge: Forge) -> Any:
        """Take the forge."""
        self._forge = forge
        return super().reconfigService([BuildStartEndStatusGenerator()])

    def sendMessage(self, reports: list[dict[str, Any]]) -> Any:
        """Say what has begun or ended."""
        (build,) = reports[0]["builds"]
        (source,) = build["buildset"]["sourcestamps"]
        status = described(build)
        return threads.deferToThread(
            self._forge.flag, source["project"], source["revision"],
            status=status, comment=f"{RUN}: {status}", url=build["url"],
        )  # fmt: skip
