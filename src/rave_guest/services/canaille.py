"""Canaille: how accounts are asked for and changed, and how it proves that it took a secret."""

from __future__ import annotations

import json
import socket
from base64 import b64encode

from rave_guest import plan as plans
from rave_guest.proof import TIMEOUT as PROVES
from rave_guest.proof import WRONG, Proof, demand
from rave_guest.refusal import Refused
from rave_guest.wire import http

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
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


def proofs(plan: Mapping[str, Any], secret: str) -> Iterator[Proof]:
    """Whoever shows the new secret is taken for the client, whoever shows another is not."""
    port = plans.port_of(plan, "canaille", "web")
    declared = [service["oidcClient"] for service in plan["services"].values()]
    client = next(one["id"] for one in declared if one and one["secret"] == secret)

    def ask(value: str, old: str | None) -> list[str]:
        problems = [] if _taken(port, client, value) else ["it does not take the installed secret"]
        if _taken(port, client, old or WRONG):
            problems.append("it takes another secret")
        demand(problems)
        return ["previous" if old else "wrong"]

    yield Proof(f"canaille:{client}", secret, ask)


def _taken(port: int, client: str, secret: str) -> bool:
    """Return whether a client is known by a secret: then its code is what is wrong (RFC 6749)."""
    basic = b64encode(f"{client}:{secret}".encode()).decode()
    answer = http.post(
        f"http://127.0.0.1:{port}/oauth/token",
        "grant_type=authorization_code&code=none&redirect_uri=none&code_verifier=" + "n" * 43,
        {"Authorization": f"Basic {basic}"}, PROVES,
    )  # fmt: skip
    error = json.loads(answer.body).get("error")
    if error not in ("invalid_grant", "invalid_client"):
        raise ValueError(f"the token endpoint answers {answer.status} {error}")
    return bool(error == "invalid_grant")


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
