"""The operator's way to Canaille: one JSON document in, one out, over a socket that root can open.

Request: {"action": "show", "arguments": {...}}
Answer:  {"ok": true, "answer": {...}}, or {"ok": false, "reason": "absent", "error": "why"}

It serves from within Canaille, which takes seconds to start under emulation, and one request after
another, so that two changes never meet.
"""

from __future__ import annotations

import json
import logging
import socket
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from canaille.backends import Backend

from rave_accounts.accounts import ACTIONS, Refused

if TYPE_CHECKING:
    from flask import Flask

MAX_REQUEST = 64 << 10  # bytes
PATIENCE = 10.0  # seconds for a request to arrive, and for its answer to be taken


class Control(threading.Thread):
    """Serves requests until the process ends."""

    def __init__(self, app: Flask, address: str) -> None:
        """Listen at `address`, a socket in a directory that admits nobody else."""
        super().__init__(daemon=True)
        self._app = app
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(address)
        Path(address).chmod(0o600)
        self._listener.listen()

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
                    logging.warning("a request of the operator was lost: %s", error)

    def answer(self, request: bytes) -> dict[str, Any]:
        """Carry out a request and return its answer."""
        try:
            document = json.loads(request)
            act, arguments = ACTIONS[document["action"]], document["arguments"]
            with self._app.app_context(), Backend.instance.session():
                return {"ok": True, "answer": act(**arguments)}
        except Refused as error:
            return {"ok": False, "reason": error.reason, "error": str(error)}
        except Exception as error:
            # What it was about may hold what is not for a log.
            logging.exception("a request of the operator failed")
            return {"ok": False, "reason": "system", "error": type(error).__name__}


def receive(connection: socket.socket) -> bytes:
    """Return a request, which ends where its sender says that it ends."""
    data = b""
    while len(data) <= MAX_REQUEST:
        piece = connection.recv(MAX_REQUEST)
        if not piece:
            break
        data += piece
    return data
