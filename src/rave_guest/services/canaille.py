"""Canaille: how accounts are asked for and changed."""

from __future__ import annotations

import json
import socket

from rave_guest.refusal import Refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

# Where its own process takes requests of root (rave_accounts/control.py).
CONTROL = "/run/canaille/control"
TIMEOUT = 90.0  # seconds for one request; an emulated guest on a busy host takes its time
MAX_ANSWER = 8 << 20  # bytes


def accounts(action: str, arguments: Mapping[str, Any], address: str = CONTROL) -> dict[str, Any]:
    """Let Canaille carry out an action on accounts, and return its answer.

    Raises:
        Refused: at stage `exists`, `absent` or `system` if it says so; at `provider` if it does not
            answer.
    """
    request = json.dumps({"action": action, "arguments": arguments}).encode()
    try:
        reply = json.loads(_exchange(address, request))
    except (OSError, ValueError) as error:
        raise Refused("provider", f"Canaille does not answer: {error}") from error
    if not reply["ok"]:
        raise Refused(reply["reason"], reply["error"])
    answer: dict[str, Any] = reply["answer"]
    return answer


def _exchange(address: str, request: bytes) -> bytes:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as channel:
        channel.settimeout(TIMEOUT)
        channel.connect(address)
        channel.sendall(request)
        channel.shutdown(socket.SHUT_WR)
        data = b""
        while len(data) <= MAX_ANSWER:
            piece = channel.recv(1 << 16)
            if not piece:
                break
            data += piece
        return data
