"""The router to models: whether it answers, and whom it turns down."""

from __future__ import annotations

import json

from rave_guest import plan as plans
from rave_guest.check import Subject, check
from rave_guest.proof import WRONG
from rave_guest.verdict import Verdict, failed, passed
from rave_guest.wire import http

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from rave_guest.system import System

REQUEST = 90.0  # seconds: its program starts with the first request, in an emulated guest


def _api(about: Subject) -> dict[str, Any]:
    return {"port": plans.port_of(about.plan, "claude-code-router", "api")}


@check(
    "claude-code-router.closed", phase="health",
    title="Claude Code Router turns down who shows another key",
    needs=("claude-code-router.units",), timeout=REQUEST, arguments=_api,
)  # fmt: skip
def closed(arguments: Mapping[str, Any], _system: System) -> Verdict:
    """Nobody is routed by another key, and nobody at all without a provider.

    No provider is asked: that may cost something.
    """
    answer = ask(arguments["port"], WRONG, arguments["timeout"])
    if answer.status == 401:
        return passed("it turns down another key")
    if answer.status == 503 and (reason := _reason(answer.body)):
        return passed(f"it routes nothing: {reason}")
    return failed(f"who shows another key is answered by {answer.status}")


def ask(port: int, key: str, timeout: float) -> http.Response:
    """Ask for a message with a key.

    Raises:
        OSError: nobody answers.
        ValueError: what answers speaks no HTTP.
    """
    body = json.dumps({"model": "none", "max_tokens": 1, "messages": []})
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    return http.post(f"http://127.0.0.1:{port}/v1/messages", body, headers, timeout)


def _reason(said: bytes) -> str:
    """Return why nothing is routed; empty if it is not said as the Messages API says it."""
    try:
        return str(json.loads(said)["error"]["message"])
    except (ValueError, LookupError, TypeError):
        return ""
