"""The socket that a service of the platform listens on. It outlives the process: whoever connects
while systemd starts the service anew, because it was told to or after a crash, waits and is not
refused.

systemd keeps it where the unit has FileDescriptorStoreMax=, from the first start until the unit is
stopped, and hands it to each process that it starts meanwhile (sd_notify(3), FDSTORE=1;
sd_listen_fds(3)).
"""

from __future__ import annotations

import os
import socket

from rave_platform import lifetime

NAME = "http"
FIRST_HANDED = 3  # SD_LISTEN_FDS_START
# Connections that wait to be accepted.
BACKLOG = 512


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens there, the one of the process before if systemd kept it.

    Its connections send at once. asyncio asks for that only where a socket was made with
    IPPROTO_TCP: otherwise the body of an answer waits for the acknowledgement of its head, which a
    peer may delay by 40 ms.

    Raises:
        OSError: if somebody else listens there.
    """
    found = handed()
    if found is not None and port and found.getsockname()[:2] == (host, port):
        return found
    if found is not None:
        # The settings name another place now.
        found.close()
        lifetime.notify(f"FDSTOREREMOVE=1\nFDNAME={NAME}")
    listening = socket.create_server((host, port), backlog=BACKLOG)
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    lifetime.notify(f"FDSTORE=1\nFDNAME={NAME}", listening.fileno())
    return listening


def handed() -> socket.socket | None:
    """Return the socket that systemd kept of the process before, if it was started with one."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        return None
    names = os.environ.get("LISTEN_FDNAMES", "").split(":")
    if NAME not in names:
        return None
    found = socket.socket(fileno=FIRST_HANDED + names.index(NAME))
    # For no program that this one starts.
    found.set_inheritable(False)
    return found
