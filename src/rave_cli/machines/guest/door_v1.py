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
    "checks.boot.identity": "identity",
    "checks.boot.journal_errors": "journal-errors",
    "checks.boot.kernel": "kernel",
    "checks.boot.plan": "plan",
    "checks.boot.startup": "startup",
    "checks.canary.files": "canary-files",
    "checks.canary.journal": "canary-journal",
    "checks.canary.processes": "canary-processes",
    "checks.catalog.command": "command",
    "checks.catalog.http": "http",
    "checks.catalog.tcp": "tcp",
    "checks.catalog.units": "units",
    "checks.network.firewall": "firewall",
    "checks.network.interfaces": "interfaces",
    "checks.network.isolation": "isolation",
    "checks.network.listeners": "listeners",
    "checks.network.reachability": "reachability",
    "checks.network.routes": "routes",
    "checks.performance.disk": "disk",
    "checks.performance.memory": "memory",
    "checks.performance.out_of_memory": "out-of-memory",
    "checks.performance.pressure": "pressure",
    "checks.performance.restarts": "restarts",
    "checks.performance.service_memory": "service-memory",
    "checks.secrets.files": "secret-files",
    "checks.secrets.mount": "secret-mount",
    "checks.secrets.store": "secret-store",
    "checks.security.accounts": "accounts",
    "checks.security.failed_units": "failed-units",
    "checks.security.file_modes": "file-modes",
    "checks.security.sudo": "sudo",
    "checks.security.sysctl": "sysctl",
    "services.fail2ban.forgive": "fail2ban-forgive",
    "services.fail2ban.jail": "command",
    "services.fail2ban.release": "fail2ban-release",
    "services.fail2ban.settings": "fail2ban-settings",
    "services.nats.login": "nats-login",
    "services.nats.roundtrip": "nats-roundtrip",
    "services.nats.state": "nats-state",
    "services.nginx.status_document": "status-document",
    "services.postgresql.activity": "postgresql-activity",
    "services.postgresql.connections": "postgresql-connections",
    "services.postgresql.login": "postgresql-login",
    "services.postgresql.query": "command",
    "services.postgresql.roles": "postgresql-roles",
    "services.postgresql.storage": "postgresql-storage",
    "services.postgresql.version": "postgresql-version",
    "services.postgresql.writable": "command",
    "services.prometheus.retention": "prometheus-retention",
    "services.prometheus.rules": "prometheus-rules",
    "services.prometheus.targets": "prometheus-targets",
    "services.redis.login": "redis-login",
    "services.redis.ping": "command",
    "services.redis.roundtrip": "redis-roundtrip",
    "services.redis.state": "redis-state",
    "services.sshd.settings": "sshd",
}
# Then the catalog asked these as programs, which it named.
COMMANDS: Mapping[str, Mapping[str, Any]] = {
    "services.fail2ban.jail": {
        "argv": ["fail2ban-client", "status", "sshd"],
        "matches": "Status for the jail: sshd",
        "user": "root",
    },
    "services.postgresql.query": {
        "argv": ["psql", "-XAtc", "select 'alive'"],
        "matches": "^alive$",
        "user": "postgres",
    },
    "services.postgresql.writable": {
        "argv": ["psql", "-XAtc", "select pg_is_in_recovery()"],
        "matches": "^f$",
        "user": "postgres",
    },
    "services.redis.ping": {
        "argv": ["redis-cli", "ping"],
        "matches": "^PONG$",
        "user": "root",
        "environment_secret": {"REDISCLI_AUTH": "/run/secrets/redis/password"},
    },
}


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
        arguments = {**check["arguments"], **COMMANDS.get(check["kind"], {})}
        checks.append({**arguments, **head, "kind": KINDS[check["kind"]]})

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
