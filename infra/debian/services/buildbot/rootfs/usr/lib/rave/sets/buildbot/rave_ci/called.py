"""A worker that systemd starts when somebody comes to its socket: one for each build."""

from __future__ import annotations

import socket
from typing import Any

from buildbot.worker.latent import AbstractLatentWorker
from twisted.internet import defer

NAME = "worker"
# What both say for want of a password: who reaches the sockets is settled by their owners.
WORD = "socket"
CALL = "/run/buildbot-worker"
MEET = "/run/buildbot/worker"


class Called(AbstractLatentWorker):  # type: ignore[misc]
    """It ends when its build has."""

    def checkConfig(self) -> None:
        """Have nothing against it."""
        super().checkConfig(NAME, WORD, build_wait_timeout=0, max_builds=1)

    def reconfigService(self) -> Any:
        """Take its settings."""
        return super().reconfigService(NAME, WORD, build_wait_timeout=0, max_builds=1)

    def start_instance(self, build: object) -> Any:
        """Let systemd start it."""
        with socket.socket(socket.AF_UNIX) as call:
            call.connect(CALL)
        return defer.succeed(True)

    def stop_instance(self, fast: bool = False) -> Any:
        """It ends by itself when it has lost its master."""
        return defer.succeed(True)
