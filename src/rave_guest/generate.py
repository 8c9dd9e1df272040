"""`rave-guest generate`: configuration that follows from the plan, written when the image is built.

    generate files ROOT        every file and link of `configuration` below ROOT
    generate sql               the plan's roles and databases, for PostgreSQL's single-user mode
    generate identifier FILE   fix what initdb made unique in a pg_control file

Pure functions of the plan, so that one plan gives one image.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

from rave_guest import pgcontrol, refreshers

PLAN = "/usr/lib/rave/plan.json"
UNITS = "etc/systemd/system"
MODES = "usr/lib/rave/modes"
WANTS = f"{UNITS}/multi-user.target.wants"
GO_SHARE = 0.8  # of a cap: where Go collects harder
HIGH_SHARE = 0.9  # of a cap: where the kernel throttles


class Configuration(NamedTuple):
    """Paths without a leading slash: texts of files, and targets of symbolic links."""

    files: dict[str, str]
    links: dict[str, str]


def configuration(plan: dict[str, Any]) -> Configuration:
    """All that follows from a plan."""
    services = plan["services"]
    files = {"etc/nftables.conf": firewall(plan["exposed"])}
    links = {}
    for service in services.values():
        for unit in service["units"]:
            links[f"{WANTS}/{unit}"] = f"/{UNITS}/{unit}"
            files[f"{UNITS}/{unit}.d/50-memory.conf"] = memory(service["memory"]["safe"])
            files[f"{MODES}/full/{unit}.d/60-memory.conf"] = memory(service["memory"]["full"])
    if "sshd" in services:
        files["etc/ssh/sshd_config.d/50-forwards.conf"] = forwards(services)
    if "prometheus" in services:
        files["etc/rave/prometheus/prometheus.yml"] = prometheus(services)
        files["etc/rave/prometheus/rules.yml"] = rules(services)
    if "postgresql" in services:
        for unit, text in refreshers.units(plan).items():
            files[f"{UNITS}/{unit}"] = text
            links[f"{WANTS}/{unit}"] = f"/{UNITS}/{unit}"
    return Configuration(files, links)


def memory(mebibytes: int) -> str:
    """Drop-in with a unit's memory cap."""
    return (
        "[Service]\n"
        f"MemoryMax={mebibytes}M\n"
        f"MemoryHigh={int(mebibytes * HIGH_SHARE)}M\n"
        f"Environment=GOMEMLIMIT={int(mebibytes * GO_SHARE)}MiB\n"
    )


def firewall(exposed: list[dict[str, Any]]) -> str:
    """Rules of nftables: loopback, what belongs to a known connection, the exposed ports."""
    accepts = "\n".join(
        f"        {protocol} dport {{ {', '.join(str(p) for p in ports)} }} accept"
        for protocol in ("tcp", "udp")
        if (ports := sorted(p["port"] for p in exposed if p["protocol"] == protocol))
    )
    return f"""#!/usr/sbin/nft -f
# Generated from the plan. Outward traffic is the host's to forbid (an isolated network does).
table inet rave
delete table inet rave
table inet rave {{
    # Filled by fail2ban; an element leaves when its time is over.
    set banned {{
        type ipv4_addr
        flags timeout
    }}
    chain input {{
        type filter hook input priority filter; policy drop;
        iif lo accept
        ct state vmap {{ established : accept, related : accept, invalid : drop }}
        ip saddr @banned drop
        icmp type echo-request accept
{accepts}
    }}
    chain forward {{
        type filter hook forward priority filter; policy drop;
    }}
}}
"""


def forwards(services: dict[str, Any]) -> str:
    """sshd: local forwards may reach the loopback ports of the plan."""
    ports = sorted(p["port"] for s in services.values() for p in s["ports"] if not p["exposed"])
    places = " ".join(f"127.0.0.1:{port} localhost:{port}" for port in ports) or "none"
    return f"# Generated from the plan.\nPermitOpen {places}\n"


def prometheus(services: dict[str, Any]) -> str:
    """Prometheus' configuration: every service with metrics. JSON is YAML."""
    document: dict[str, Any] = {
        "global": {"scrape_interval": "10s", "scrape_timeout": "8s", "evaluation_interval": "5s"},
        "rule_files": ["/etc/rave/prometheus/rules.yml"],
        "scrape_configs": [
            {
                "job_name": name,
                "metrics_path": service["scrape"]["path"],
                "static_configs": [
                    {
                        "targets": [f"127.0.0.1:{service['scrape']['port']}"],
                        "labels": {"service": name},
                    }
                ],
            }
            for name, service in sorted(services.items())
            if service["scrape"]
        ],
    }
    if "alertmanager" in services:
        port = services["alertmanager"]["scrape"]["port"]
        targets = [{"targets": [f"127.0.0.1:{port}"]}]
        document["alerting"] = {"alertmanagers": [{"static_configs": targets}]}
    return json.dumps(document, indent=2, sort_keys=True) + "\n"


def rules(services: dict[str, Any]) -> str:
    """Alert rules. With the intervals above, an alert reaches Alertmanager within 26 s."""
    alerts = [
        alert("InstanceDown", "up == 0", "critical", "{{ $labels.service }} gives no metrics"),
    ]
    if "node-exporter" in services:
        free = "node_memory_MemAvailable_bytes / node_memory_MemTotal_bytes"
        disk = 'node_filesystem_avail_bytes{mountpoint="/"} / node_filesystem_size_bytes'
        alerts += [
            alert("MemoryLow", f"1 - {free} > 0.85", "warning", "more than 85 % of memory in use"),
            alert("DiskFull", f"1 - {disk} > 0.80", "warning", "more than 80 % of the disk in use"),
            alert("UnitFailed", "rave_failed_units > 0", "critical", "a systemd unit has failed"),
            alert(
                "ServiceUnhealthy", "rave_service_healthy == 0", "critical",
                "{{ $labels.service }} does not answer its health questions",
            ),
        ]  # fmt: skip
    document = {"groups": [{"name": "rave", "rules": alerts}]}
    return json.dumps(document, indent=2, sort_keys=True) + "\n"


def alert(name: str, expression: str, severity: str, summary: str) -> dict[str, Any]:
    """One alert rule; it must hold for 10 s, so that one missed scrape is no alarm."""
    return {
        "alert": name,
        "expr": expression,
        "for": "10s",
        "labels": {"severity": severity},
        "annotations": {"summary": summary},
    }


def sql(plan: dict[str, Any]) -> list[str]:
    """Statements that make the plan's roles and databases. No role has a password yet.

    Each role gets into its own database alone; a role without one is for monitoring.
    """
    statements = [
        "REVOKE ALL ON DATABASE postgres FROM PUBLIC",
        "REVOKE ALL ON DATABASE template1 FROM PUBLIC",
        "REVOKE CREATE ON SCHEMA public FROM PUBLIC",
    ]
    for database in sorted(plan["databases"], key=lambda d: str(d["role"])):
        role, name = quoted(database["role"]), database["name"]
        statements.append(f"CREATE ROLE {role} LOGIN CONNECTION LIMIT 20")
        if name is None:
            statements.append(f"GRANT CONNECT ON DATABASE postgres TO {role}")
            statements.append(f"GRANT pg_monitor TO {role}")
            continue
        options = "TEMPLATE template0 STRATEGY file_copy"
        statements.append(f"CREATE DATABASE {quoted(name)} OWNER {role} {options}")
        statements.append(f"REVOKE ALL ON DATABASE {quoted(name)} FROM PUBLIC")
    return statements


def quoted(name: str) -> str:
    """A name as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def main(argv: list[str]) -> int:
    """Run one of the two forms above."""
    plan = json.loads(Path(PLAN).read_text(encoding="utf-8"))
    if argv == ["sql"]:
        sys.stdout.write("".join(f"{statement}\n" for statement in sql(plan)))
        return 0
    if len(argv) != 2 or argv[0] not in {"files", "identifier"}:
        print("usage: rave-guest generate files ROOT | sql | identifier FILE", file=sys.stderr)
        return 2
    if argv[0] == "identifier":
        control = Path(argv[1])
        control.write_bytes(pgcontrol.fixed(control.read_bytes()))
        return 0
    write(plan, Path(argv[1]))
    return 0


def write(plan: dict[str, Any], root: Path) -> None:
    """Write all files and links of a plan below `root`."""
    files, links = configuration(plan)
    for path, text in files.items():
        place = root / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text, encoding="utf-8")
    for path, target in links.items():
        place = root / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.unlink(missing_ok=True)
        place.symlink_to(target)
