"""fail2ban's own socket, because its client program takes seconds to start under emulation."""

from __future__ import annotations

import io
import os
import pickle
import socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

SOCKETS = ("/run/fail2ban/fail2ban.sock", "/var/run/fail2ban/fail2ban.sock")
END = b"<F2B_END_COMMAND>"


class _Plain(pickle.Unpickler):
    """Loads values only: nothing that a class could run."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("builtins", "str"):
            return str
        raise pickle.UnpicklingError(f"{module}.{name}")


def ask_fail2ban(words: list[str], timeout: float) -> Any:
    """Send a command, as fail2ban-client would, and return the answer.

    Raises:
        OSError: fail2ban does not run, or does not answer.
        RuntimeError: it refuses the command.
    """
    place = next((path for path in SOCKETS if os.path.exists(path)), SOCKETS[0])
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as plain:
        plain.settimeout(timeout)
        plain.connect(place)
        plain.sendall(pickle.dumps(words, protocol=2) + END)
        received = b""
        while not received.endswith(END):
            chunk = plain.recv(65536)
            if not chunk:
                raise ConnectionError("fail2ban broke off")
            received += chunk
    return parse(received[: -len(END)])


def parse(raw: bytes) -> Any:
    """Read an answer: (0, value), or (1, the error).

    Raises:
        RuntimeError: it is an error, or carries something other than plain values.
    """
    try:
        status, value = _Plain(io.BytesIO(raw)).load()
    except (pickle.UnpicklingError, EOFError, ValueError) as error:
        raise RuntimeError(f"fail2ban refuses: {error}") from error
    if status != 0:
        raise RuntimeError(f"fail2ban refuses: {value}")
    return value
