"""What both bases must agree on, in one form, from three places: the facts, Debian's files, NixOS.

Each function returns a dictionary of the same topics. Values are text wherever a base renders text.
"""

from __future__ import annotations

import json
import re
from pathlib import PurePath
from typing import Any

from tests.debian import generate, rendered
from tests.nix.conftest import HERE, Evaluator

TOPICS = ("sysctl", "sudo", "sshd", "alerts", "alertmanager", "prometheus", "redis", "postgresql",
          "nginx", "fail2ban", "journal", "nats", "network", "limits")  # fmt: skip
HEADER = re.compile(r'^\s*add_header (\S+) "?([^";]*(?:;[^"]*)?)"? always;$', re.MULTILINE)
SPACED = {"AllowUsers"}

Agreed = dict[str, Any]


def text(value: object) -> str:
    """Return a value as both bases write it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ",".join(map(str, value))
    return str(value)


def texts(values: dict[str, Any]) -> dict[str, str]:
    return {name: text(value) for name, value in values.items()}


def job(name: str, scrape: dict[str, Any]) -> dict[str, Any]:
    own = {"scrape_interval": scrape["interval"]} if "interval" in scrape else {}
    return own | {
        "job_name": name,
        "metrics_path": scrape["path"],
        "honor_labels": scrape.get("honorLabels", False),
        "static_configs": [
            {
                "targets": [f"127.0.0.1:{p}" for p in (scrape["port"], *scrape.get("also", ()))],
                "labels": {"service": name},
            }
        ],
    }


def jobs(name: str, scrape: dict[str, Any]) -> list[dict[str, Any]]:
    often = scrape.get("often")
    return [job(name, scrape), *([job(often["job"], scrape | often)] if often else [])]


def process(unit: str) -> str:
    """Return the unit of the processes: of a socket the service that it starts."""
    return unit.replace(".socket", ".service")


def from_facts(plan: dict[str, Any], mode: str) -> Agreed:
    """Return what a plan says."""
    facts = plan["facts"]
    nginx, network = facts["nginx"], facts["network"]
    return {
        "sysctl": texts(facts["sysctl"]),
        "sudo": [*(f"Defaults {s}" for s in facts["sudo"]["defaults"]), *facts["sudo"]["rules"]],
        "sshd": texts(facts["sshd"]),
        "alerts": facts["alerts"],
        "alertmanager": facts["alertmanager"],
        "prometheus": {
            "global": facts["prometheus"]["global"],
            "time": f"{facts['retentionDays'][mode]}d",
            "size": facts["prometheus"]["retentionSize"],
            "jobs": {
                one["job_name"]: one
                for name, service in plan["services"].items()
                if service["scrape"]
                for one in jobs(name, service["scrape"])
            },
        },
        "redis": texts(facts["redis"]["settings"])
        | {"maxmemory": f"{facts['redis']['maxMemoryMiB'][mode]}mb"},
        "postgresql": texts(facts["postgresql"]["settings"])
        | {
            "max_connections": text(facts["postgresql"]["maxConnections"][mode]),
            "shared_buffers": f"{facts['postgresql']['sharedBuffersMiB'][mode]}MB",
        },
        "nginx": {
            "rate": nginx["requestsPerSecond"],
            "burst": nginx["burst"],
            "connections": nginx["connections"],
            "body": nginx["bodySize"],
            "headers": nginx["headers"] | nginx["pageHeaders"],
        },
        "fail2ban": {
            "maxretry": text(facts["failedLogins"]),
            "findtime": text(facts["findSeconds"]),
            "bantime": text(facts["banSeconds"]),
        },
        "journal": {
            "SystemMaxUse": f"{facts['journal']['sizeMiB'][mode]}M",
            "MaxRetentionSec": f"{facts['journal']['days'][mode]}day",
        },
        "nats": {
            "user": facts["nats"]["user"],
            "max_connections": facts["nats"]["maxConnections"],
            "max_payload": facts["nats"]["maxPayloadBytes"],
            "memory": facts["nats"]["memoryStoreMiB"],
            "file": facts["nats"]["fileStoreMiB"],
        },
        "network": {
            "address": f"{network['address']}/{network['prefix']}",
            "gateway": network["gateway"],
            "nameserver": network["nameServer"],
        },
        "limits": {
            name: {
                "max": service["memory"][mode],
                "high": service["memory"][mode] * 9 // 10,
                "oom": service["oomScore"],
                "slack": f"{service['timerSlackMs']}ms" if service["timerSlackMs"] else "",
            }
            for name, service in plan["services"].items()
            if [unit for unit in map(process, service["units"]) if unit.endswith(".service")]
        },
    }


# --- Debian ---------------------------------------------------------------------------------------


def pairs(lines: str, separator: str = " ") -> dict[str, str]:
    """Return the settings of a file with one on each line."""
    rows = (line.strip() for line in lines.splitlines())
    split = (row.partition(separator)[::2] for row in rows if row and not row.startswith("#"))
    return {name.strip(): value.strip().strip("'") for name, value in split}


class Debian:
    """The files of a profile on the Debian base, as a mode puts them in force."""

    def __init__(self, plan: dict[str, Any], mode: str) -> None:
        self.files, self.plan, self.mode = rendered(plan["profile"]), plan, mode

    def unit(self, name: str) -> dict[str, list[str]]:
        """Return the settings of a unit and its drop-ins, in the order in which they apply."""
        base, template = "etc/systemd/system", generate.template(name)
        # Of an instance those of its template too.
        names = dict.fromkeys([template, name])
        paths = [
            f"{base}/{template}",
            *(p for one in names for p in self.drop_ins(f"{base}/{one}.d")),
        ]
        if self.mode == "full":
            full = "usr/lib/rave/modes/full"
            paths += [p for one in names for p in self.drop_ins(f"{full}/{one}.d")]
        found: dict[str, list[str]] = {}
        for path in paths:
            for line in self.files[path].splitlines():
                key, separator, value = line.partition("=")
                if separator and not line.startswith("#"):
                    found.setdefault(key, []).append(value)
        return found

    def drop_ins(self, folder: str) -> list[str]:
        """Return the drop-ins in a folder, in order."""
        return sorted(path for path in self.files if str(PurePath(path).parent) == folder)

    def environment(self, unit: str) -> dict[str, str]:
        """Return the environment of a unit; what comes later wins."""
        words = " ".join(self.unit(unit).get("Environment", [])).split()
        return dict(word.partition("=")[::2] for word in words)

    def journal(self) -> dict[str, str]:
        """Return the journal's settings."""
        found = pairs(self.files["etc/systemd/journald.conf.d/rave.conf"], "=")
        if self.mode == "full":
            folder = "usr/lib/rave/modes/full/journald.conf.d"
            found |= pairs(self.files[f"{folder}/retention.conf"], "=")
        return {name: found[name] for name in ("SystemMaxUse", "MaxRetentionSec")}

    def limits(self) -> dict[str, dict[str, int | str]]:
        """Return cap, OOM score and timer slack of every service; its units must have the same."""
        found: dict[str, dict[str, int | str]] = {}
        for name, service in self.plan["services"].items():
            for unit in map(process, service["units"]):
                settings = {key: values[-1] for key, values in self.unit(unit).items()}
                mine: dict[str, int | str] = {
                    "max": int(settings["MemoryMax"].removesuffix("M")),
                    "high": int(settings["MemoryHigh"].removesuffix("M")),
                    "oom": int(settings["OOMScoreAdjust"]),
                    "slack": settings.get("TimerSlackNSec", ""),
                }
                assert found.setdefault(name, mine) == mine
        return found


def from_debian(plan: dict[str, Any], mode: str) -> Agreed:
    """Return what the Debian base renders of a plan."""
    base = Debian(plan, mode)
    files, facts = base.files, plan["facts"]
    sshd = pairs(files["etc/ssh/sshd_config"])
    web = files["etc/nginx/nginx.conf"]
    nats = files["etc/rave/nats.conf"]
    postgresql = base.environment("postgresql.service")
    prometheus = json.loads(files["etc/rave/prometheus/prometheus.yml"])
    jail = pairs(files["etc/fail2ban/jail.conf"], "=")
    early = files["usr/lib/rave/early"]
    redis = pairs(files["etc/rave/redis-settings.conf"])
    return {
        "sysctl": pairs(files["etc/sysctl.d/99-rave.conf"], "="),
        "sudo": [r for r in files["etc/sudoers.d/rave"].splitlines() if "secure_path" not in r],
        "sshd": {name: sshd[name] for name in facts["sshd"]},
        "alerts": json.loads(files["etc/rave/prometheus/rules.yml"])["groups"][0]["rules"],
        "alertmanager": json.loads(files["etc/rave/alertmanager.yml"]),
        "prometheus": {
            "global": prometheus["global"],
            "time": base.environment("prometheus.service")["RETENTION"],
            "size": flag(" ".join(base.unit("prometheus.service")["ExecStart"])),
            "jobs": {one["job_name"]: one for one in prometheus["scrape_configs"]},
        },
        "redis": redis | {"maxmemory": base.environment("redis-server.service")["MAXMEMORY"]},
        "postgresql": pairs(files["etc/rave/postgresql/settings.conf"], "=")
        | {
            "max_connections": postgresql["MAX_CONNECTIONS"],
            "shared_buffers": postgresql["SHARED_BUFFERS"],
        },
        "nginx": limits_of_nginx(web, web, found(r"client_max_body_size (\S+);", web))
        | {"headers": dict(HEADER.findall(files["etc/nginx/headers.conf"]))},
        "fail2ban": {name: jail[name] for name in ("maxretry", "findtime", "bantime")},
        "journal": base.journal(),
        "nats": {
            "user": found(r"user: (\w+)", files["usr/lib/rave/nats-auth"]),
            "max_connections": int(found(r"max_connections: (\d+)", nats)),
            "max_payload": int(found(r"max_payload: (\d+)", nats)),
            "memory": int(found(r"max_memory_store: (\d+)MB", nats)),
            "file": int(found(r"max_file_store: (\d+)MB", nats)),
        },
        "network": {
            "address": found(r"address add (\S+)", early),
            "gateway": found(r"default via (\S+)", early),
            "nameserver": found(r"nameserver (\S+)", files["etc/resolv.conf"]),
        },
        "limits": base.limits(),
    }


def found(pattern: str, where: str) -> str:
    """Return what the pattern's group matches; it must match."""
    match = re.search(pattern, where)
    assert match is not None, pattern
    return match[1]


def flag(command: str) -> str:
    return found(r"--storage\.tsdb\.retention\.size=(\S+)", command)


def set_of(scraped: dict[str, Any]) -> dict[str, Any]:
    """Return what a target's scrape configuration sets, of what ours may set."""
    ours = job("", {"path": "", "port": 0, "interval": ""})
    return {name: scraped[name] for name in ours if scraped.get(name) is not None}


def limits_of_nginx(http: str, server: str, body: str) -> dict[str, Any]:
    return {
        "rate": int(found(r"rate=(\d+)r/s", http)),
        "burst": int(found(r"limit_req zone=clients burst=(\d+) nodelay;", server)),
        "connections": int(found(r"limit_conn connections (\d+);", server)),
        "body": body,
    }


# --- NixOS ----------------------------------------------------------------------------------------


def from_nixos(evaluator: Evaluator, plan: dict[str, Any], mode: str) -> Agreed:
    """Return what the NixOS base renders of a plan."""
    question = f"import {HERE}/agreed.nix {{ inherit lib config; }}"
    raw = evaluator.ask(question, plan["profile"], mode)
    facts, mebibyte = plan["facts"], 1024 * 1024
    lines = [line for line in raw["sudo"].splitlines() if line.strip()]
    ours = from_facts(plan, mode)["sudo"]
    status = raw["nginx"]["status"]
    headers = dict(HEADER.findall(status))
    headers.pop("X-Request-Id")
    return {
        "sysctl": texts(raw["sysctl"]),
        # Upstream adds lines of its own, which judges look at (test_judges.py).
        "sudo": [line for line in lines if line in ours],
        "sshd": texts(raw["sshd"]),
        "alerts": json.loads(raw["rules"][0])["groups"][0]["rules"],
        "alertmanager": raw["alertmanager"],
        "prometheus": {
            "global": kept(raw["prometheus"]["globalConfig"], facts["prometheus"]["global"]),
            "time": raw["prometheus"]["retentionTime"],
            "size": flag(" ".join(raw["prometheus"]["extraFlags"])),
            "jobs": {
                one["job_name"]: set_of(one) | {"static_configs": static(one["static_configs"])}
                for one in raw["prometheus"]["scrapeConfigs"]
            },
        },
        "redis": texts(kept(raw["redis"], facts["redis"]["settings"] | {"maxmemory": ""})),
        "postgresql": texts(
            kept(
                raw["postgresql"],
                facts["postgresql"]["settings"] | {"max_connections": "", "shared_buffers": ""},
            )
        ),
        "nginx": limits_of_nginx(
            raw["nginx"]["appendHttpConfig"], status, raw["nginx"]["clientMaxBodySize"]
        )
        | {"headers": headers},
        "fail2ban": texts(raw["fail2ban"]),
        "journal": kept(
            pairs(raw["journal"], "="), {"SystemMaxUse": "", "MaxRetentionSec": ""}
        ),
        "nats": {
            "user": raw["nats"]["authorization"]["users"][0]["user"],
            "max_connections": raw["nats"]["max_connections"],
            "max_payload": raw["nats"]["max_payload"],
            "memory": raw["nats"]["jetstream"]["max_memory_store"] // mebibyte,
            "file": raw["nats"]["jetstream"]["max_file_store"] // mebibyte,
        },
        "network": {
            "address": raw["network"]["address"][0],
            "gateway": raw["network"]["gateway"][0],
            "nameserver": raw["network"]["nameservers"][0],
        },
        "limits": {
            name: one({
                unit: {
                    "max": int(limit["max"].removesuffix("M")),
                    "high": int(limit["high"].removesuffix("M")),
                    "oom": limit["oom"],
                    "slack": limit["slack"],
                }
                for unit, limit in units.items()
            })
            for name, units in raw["limits"].items()
            if units
        },
    }  # fmt: skip


def kept(values: dict[str, Any], wanted: dict[str, Any]) -> dict[str, Any]:
    """Return the values of the wanted names; a missing one is an error."""
    return {name: values[name] for name in wanted}


def static(configs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [kept(config, {"targets": [], "labels": {}}) for config in configs]


def one(values: dict[str, Any]) -> Any:
    """Return the one value that all have."""
    first, *rest = values.values()
    assert all(other == first for other in rest), values
    return first
