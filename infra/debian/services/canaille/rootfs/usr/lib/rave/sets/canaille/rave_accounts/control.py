"""Ways to Canaille from this machine: one JSON document in, one out, over a socket.

The operator's is a socket that root alone can open. Another, over which one may only ask which
groups somebody is in, is handed over by systemd where a service is to have it.

Request: {"action": "show", "arguments": {...}}
Answer:  {"ok": true, "answer": {...}}, or {"ok": false, "reason": "absent", "error": "why"}

It serves from within Canaille, which takes seconds to start under emulation, and one request after
another, so that two changes never meet: they are the operator's alone.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from canaille.backends import Backend

from rave_accounts.accounts import Refused

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from flask import Flask

    Actions = Mapping[str, Callable[..., dict[str, Any]]]

MAX_REQUEST = 64 << 10  # bytes
FIRST_HANDED = 3  # SD_LISTEN_FDS_START
PATIENCE = 10.0  # seconds for a request to arrive, and for its answer to be taken


class Control(threading.Thread):
    """Serves requests until the process ends."""

    def __init__(self, app: Flask, listener: socket.socket, actions: Actions) -> None:
        """Let whoever can open a socket that listens carry out these actions."""
        super().__init__(daemon=True)
        self._app, self._listener, self._actions = app, listener, actions

    def run(self) -> None:
        """Serve one after another; a fault of one does not end it."""
        while True:
            connection, _ = self._listener.accept()
            with connection:
                connection.settimeout(PATIENCE)
                try:
                    answer = self.answer(receive(connection))
                    connection.sendall(json.dumps(answer).encode())
                except OSError as error:
                    logging.warning("a request was lost: %s", error)

    def answer(self, request: bytes) -> dict[str, Any]:
        """Carry out a request and return its answer."""
        try:
            document = json.loads(request)
            act, arguments = self._actions[document["action"]], document["arguments"]
            with self._app.app_context(), session():
                return {"ok": True, "answer": act(**arguments)}
        except Refused as error:
            return {"ok": False, "reason": error.reason, "error": str(error)}
        except Exception as error:
            # What it was about may hold what is not for a log.
            logging.exception("a request failed")
            return {"ok": False, "reason": "system", "error": type(error).__name__}


@contextmanager
def session() -> Iterator[None]:
    """As Backend.session, which leaves its transaction open where an action is refused (0.3.6)."""
    Backend.instance.setup()
    try:
        yield
    finally:
        Backend.instance.teardown()


def own(address: str) -> socket.socket:
    """Return a socket at `address`, in a directory that admits nobody else."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(address)
    Path(address).chmod(0o600)
    listener.listen()
    return listener


def handed(name: str) -> socket.socket | None:
    """Return the socket that systemd handed over under a name (sd_listen_fds(3)); None without."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        return None
    names = os.environ.get("LISTEN_FDNAMES", "").split(":")
    return socket.socket(fileno=FIRST_HANDED + names.index(name)) if name in names else None


def receive(connection: socket.socket) -> bytes:
    """Return a request, which ends where its sender says that it ends."""
    data = b""
    while len(data) <= MAX_REQUEST:
        piece = connection.recv(MAX_REQUEST)
        if not piece:
            break
        data += piece
    return data
