"""How guests of rave's first release were called: two programs, each with words of its own.

Kept for as long as there may be machines and images of that time. Requests and answers of today are
translated; a check that such a guest cannot carry out is skipped with the reason.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from rave_cli.machines.guest.call import Call, Refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

VERSION = 1
PROBE = ("/usr/lib/rave/rave-guest", "probe")
INSTALL = ("/usr/lib/rave/rave-guest", "secrets-install")

OLDER = "the machine was made by an older rave: its guest knows nothing of this"

# Kind of check today -> kind of then.
KINDS = {
    kind: kind
    for kind in (
        "http", "tcp", "command", "prometheus-targets", "units", "status-document",
        "postgresql-version", "postgresql-roles", "postgresql-connections",
        "postgresql-activity", "postgresql-storage", "redis-state", "redis-roundtrip", "nats-state",
        "nats-roundtrip", "prometheus-rules", "prometheus-retention", "interfaces", "routes",
        "isolation", "reachability", "firewall", "listeners", "identity", "kernel", "plan",
        "startup", "journal-errors", "secret-files", "secret-mount", "secret-store",
        "postgresql-login", "redis-login", "nats-login", "certificate-pair", "sshd", "sudo",
        "sysctl", "accounts", "failed-units", "file-modes", "fail2ban-settings",
        "fail2ban-release", "fail2ban-forgive", "canary-files", "canary-processes",
        "canary-journal", "memory", "service-memory", "out-of-memory", "restarts", "disk",
        "pressure",
    )
}  # fmt: skip


def _install(arguments: Mapping[str, Any]) -> Call:
    return Call(INSTALL, json.dumps(arguments).encode(), _read_install)


def _read_install(document: Any) -> dict[str, Any] | Refusal:  # noqa: ANN401 - whatever a guest says
    if document["ok"] is False:
        return Refusal(str(document["stage"]), str(document["error"]))
    if document["ok"] is not True:
        raise TypeError("it is neither an answer nor a refusal")
    return {name: value for name, value in document.items() if name != "ok"}


def _probe(arguments: Mapping[str, Any]) -> Call:
    skipped: list[str] = []
    checks = []
    for check in arguments["checks"]:
        if check["kind"] not in KINDS or any(name in skipped for name in check["needs"]):
            skipped.append(check["id"])
            continue
        head = {name: check[name] for name in ("id", "timeout", "retry_for", "needs")}
        checks.append({**check["arguments"], **head, "kind": KINDS[check["kind"]]})

    def read(document: Any) -> dict[str, Any]:  # noqa: ANN401 - whatever a guest says
        if document["v"] != VERSION:
            raise ValueError(f"it is of version {document['v']!r}")
        found = [*document["results"], *map(_skip, skipped)]
        return {"results": found, "facts": document["facts"]}

    return Call(PROBE, json.dumps({"v": VERSION, "checks": checks}).encode(), read)


def _skip(check: str) -> dict[str, Any]:
    return {
        "id": check, "status": "skip", "detail": OLDER, "seconds": 0.0, "attempts": 0, "data": {},
    }  # fmt: skip


# Verb of today -> how it is asked of such a guest.
VERBS: Mapping[str, Callable[[Mapping[str, Any]], Call]] = {
    "probe": _probe,
    "secrets-install": _install,
}
