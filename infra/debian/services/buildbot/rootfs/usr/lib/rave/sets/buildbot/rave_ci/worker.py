"""Builds once, in a unit that reaches nothing but its master."""

from __future__ import annotations

import socket
from pathlib import Path

from buildbot_worker.bot import Worker
from twisted.application import app, service
from twisted.internet import reactor

from rave_ci import logs
from rave_ci.called import MEET, NAME, WORD

HANDED = 3  # SD_LISTEN_FDS_START
PLACE = "/var/tmp/build"  # noqa: S108 - the unit's own


def main() -> None:
    """Build what the master asks for, and end when it is gone."""
    # One connection is one build: the next one's stays for the next.
    socket.socket(fileno=HANDED).accept()
    Path(PLACE).mkdir()
    logs.faults()
    worker = Worker(
        None, None, NAME, WORD, PLACE, keepalive=0, umask=0o022, maxRetries=1,
        connection_string=f"unix:{MEET}",
    )  # fmt: skip
    application = service.Application(NAME)
    worker.setServiceParent(application)
    app.startApplication(application, False)
    reactor.run()
