"""The one door into the guest: `rave-guest door` carries out one request of the host, as root.

Request (standard input):  {"v": 2, "verb": "probe", "arguments": {…}}
Answer (standard output):  {"v": 2, "ok": true, "answer": {…}}, or
                           {"v": 2, "ok": false, "stage": "request", "error": "why"}

A verb is a function from the arguments to the answer; it raises `Refused` for what it does not do.
What only this machine's own units call (`ready`, `secrets-boot`) is no verb.
"""

from __future__ import annotations

import json
import os
import sys

from rave_guest.refusal import Refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    Verb = Callable[[Mapping[str, Any]], dict[str, Any]]

VERSION = 2
MAX_REQUEST = 4 << 20  # bytes


def _accounts(arguments: Mapping[str, Any]) -> dict[str, Any]:
    from rave_guest import accounts

    return accounts.CONTRACT.verb(arguments)


def _certificate(arguments: Mapping[str, Any]) -> dict[str, Any]:
    from rave_guest import tls

    return tls.verb(arguments)


def _events(arguments: Mapping[str, Any]) -> dict[str, Any]:
    from rave_guest import events

    return events.CONTRACT.verb(arguments)


def _probe(arguments: Mapping[str, Any]) -> dict[str, Any]:
    from rave_guest import probe

    return probe.verb(arguments)


def _secrets_install(arguments: Mapping[str, Any]) -> dict[str, Any]:
    from rave_guest.secrets import install

    return install.verb(arguments)


def _resumed(arguments: Mapping[str, Any]) -> dict[str, Any]:
    from rave_guest import resumed

    return resumed.verb(arguments)


def _state(arguments: Mapping[str, Any]) -> dict[str, Any]:
    from rave_guest.state import program

    return program.verb(arguments)


def _traces(arguments: Mapping[str, Any]) -> dict[str, Any]:
    from rave_guest import traces

    return traces.CONTRACT.verb(arguments)


# Imports are within the verbs: a guest under TCG waits for each of them.
VERBS: dict[str, Verb] = {
    "accounts": _accounts,
    "certificate": _certificate,
    "events": _events,
    "probe": _probe,
    "resumed": _resumed,
    "secrets-install": _secrets_install,
    "state": _state,
    "traces": _traces,
}


def load() -> None:
    """Load what a host asks for first, with all that the verbs bring: whoever is copied with it in
    memory answers without reading it.
    """
    import ssl  # noqa: F401

    from rave_guest import probe, registry  # noqa: F401
    from rave_guest.secrets import install, proofs  # noqa: F401
    from rave_guest.wire import fail2ban  # noqa: F401

    registry.modules()


def main(_argv: list[str]) -> int:
    """Carry out the request on standard input; the exit status is 0 if it was."""
    reply = answer(sys.stdin.buffer.read(MAX_REQUEST + 1))
    sys.stdout.write(json.dumps(reply) + "\n")
    sys.stdout.flush()
    # A thread that hangs must not hold the process back.
    os._exit(0 if reply["ok"] else 1)


def answer(request: bytes) -> dict[str, Any]:
    """Carry out a request and return the answer's envelope."""
    try:
        verb, arguments = parse(request)
        return {"v": VERSION, "ok": True, "answer": verb(arguments)}
    except Refused as error:
        return {"v": VERSION, "ok": False, "stage": error.stage, "error": str(error)}


def parse(request: bytes) -> tuple[Verb, Mapping[str, Any]]:
    """Return the verb of a request and its arguments.

    Raises:
        Refused: it is no request of this version, or there is no such verb.
    """
    try:
        document = json.loads(request) if len(request) <= MAX_REQUEST else None
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise Refused("request", f"not a JSON document of at most {MAX_REQUEST >> 20} MiB")
    if document.get("v") != VERSION:
        raise Refused("request", f"this guest understands requests of version {VERSION} alone")
    name, arguments = document.get("verb"), document.get("arguments")
    if not isinstance(name, str) or not isinstance(arguments, dict):
        raise Refused("request", "a request has a verb, which is text, and a table of arguments")
    if name not in VERBS:
        raise Refused("request", f"this guest has no verb {name!r}, only {', '.join(VERBS)}")
    return VERBS[name], arguments
