"""Feeds the guest's own judges with what a NixOS configuration evaluates to.

`verdicts` answers, by the id of the check, what a guest made of it would be told. What a machine
alone can say (uptimes, memory in use, replies) is made up as a healthy one would say it, so that a
verdict is about the configuration and nothing else.
"""

from __future__ import annotations

import ipaddress
import json
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from rave_cli.profiles.catalog import Plan
from rave_cli.smoke import onhost, outside, scan
from rave_cli.smoke.suite import suite
from rave_guest import facts
from rave_guest.checks import boot, canary, network, performance, secrets, security
from rave_guest.services import fail2ban, nats, postgresql, prometheus, redis
from rave_guest.services import sshd as openssh

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from rave_cli.profiles.names import Mode
    from rave_cli.smoke.model import Verdict as Outside
    from rave_guest.verdict import Verdict as Inside

    Ask = Callable[[str], Mapping[str, Any]]
    Verdict = Inside | Outside

Raw = dict[str, Any]
SECRETS = "/run/secrets/"
ANY = "0.0.0.0"  # noqa: S104 - the unset address

# What the kernel does unless it is told otherwise (ip-sysctl.rst, admin-guide/sysctl).
KERNEL = {
    "kernel/kptr_restrict": "0", "kernel/dmesg_restrict": "0",
    "kernel/unprivileged_bpf_disabled": "0", "kernel/sysrq": "1",
    "kernel/randomize_va_space": "2", "fs/suid_dumpable": "0", "fs/protected_hardlinks": "0",
    "fs/protected_symlinks": "0", "net/ipv4/tcp_syncookies": "1", "net/ipv4/ip_forward": "0",
    "net/ipv4/conf/all/accept_redirects": "1", "net/ipv4/conf/all/send_redirects": "1",
    "net/ipv4/conf/all/accept_source_route": "1",
}  # fmt: skip
# What sshd does unless it is told otherwise (sshd_config(5)).
SSHD = {
    "permitemptypasswords": "no", "hostbasedauthentication": "no", "permituserenvironment": "no",
    "strictmodes": "yes", "pubkeyauthentication": "yes", "x11forwarding": "no",
    "passwordauthentication": "yes", "kbdinteractiveauthentication": "yes",
    "permitrootlogin": "prohibit-password", "maxauthtries": "6", "logingracetime": "120",
}  # fmt: skip


def verdicts(raw: Raw, mode: Mode, sops_nix: Path) -> dict[str, Verdict]:
    """Return the verdict of every judge that an evaluated configuration can be put before.

    Args:
        raw: judged.nix of a machine.
        mode: its mode.
        sops_nix: the checkout of sops-nix, which says how it mounts the secrets.
    """
    plan = Plan.model_validate(raw["plan"])
    ask = {check.id: check.arguments for check in suite(plan, mode=mode)}.__getitem__
    return {
        "configuration.plan": onhost.judge_plan(plan),
        "boot.plan": boot.judge_plan(raw["guestPlan"], ask("boot.plan")["expected"]),
        **reach(raw, ask),
        **hardening(raw, ask),
        **custody(raw, ask, sops_nix),
        **services(raw, ask),
    }


def reach(raw: Raw, ask: Ask) -> dict[str, Verdict]:
    """What of the machine can be reached, and what it can reach."""
    ports = ask("security.listeners")
    exposed, rules = sorted(ports["exposed"]), ruleset(raw["nftables"])
    return {
        "networking.interfaces": network.judge_interfaces(interfaces(raw)),
        "networking.routes": network.judge_routes(routes(raw), **ask("networking.routes")),
        "networking.firewall": network.judge_firewall(
            rules, set(ask("networking.firewall")["exposed"])
        ),
        "security.listeners": network.judge_listeners(
            listeners(raw), set(exposed), set(ports["internal"])
        ),
        "security.ports": scan.judge_scan(*reached(raw, rules, exposed), exposed),
        "security.tls-1.2": outside.judge_older(older(raw["tls"])),
    }


def hardening(raw: Raw, ask: Ask) -> dict[str, Verdict]:
    """Who gets in, and what the kernel forbids."""
    jail, ssh = raw["jail"], sshd(raw["sshd"])
    return {
        "security.sudo": security.judge_sudo(
            {"/etc/sudoers": (0, 0o440, raw["sudoers"])}, ask("security.sudo")["operator"]
        ),
        "security.sysctl": security.judge_sysctl(
            (wanted := ask("security.sysctl")["settings"]), kernel(raw["sysctl"], wanted)
        ),
        "security.sshd": openssh.judge_sshd(ssh),
        "security.ssh-password": outside.judge_password(methods(ssh), refused=True),
        "security.accounts": security.judge_accounts(*accounts(raw["accounts"])),
        "security.fail2ban": fail2ban.judge_jail(
            jail["maxretry"], int(jail["bantime"]), [jail["action"]],
            ask("security.fail2ban")["maxretry"],
        ),
    }  # fmt: skip


def custody(raw: Raw, ask: Ask, sops_nix: Path) -> dict[str, Verdict]:
    """Where secrets are, and where they are not."""
    values = canaries(raw)
    # Certificates are public.
    sought = canary.patterns(values)
    places = {
        "security.canary-processes": processes(raw, values),
        "security.canary-files": written(raw, values),
    }
    hidden: dict[str, Verdict] = {
        name: canary.judge_hits(
            canary.find(texts, sought),
            [e for e in ask(name)["exceptions"] if e["check"] == name], "",
        )
        for name, texts in places.items()
    }  # fmt: skip
    memory = raw["memoryOnly"]
    return hidden | {
        "secrets.files": secrets.judge_files(
            tree(raw), expected(raw, ask("secrets.files")["secrets"])
        ),
        "secrets.memory": secrets.judge_mount(mount(memory, sops_nix), swaps=memory["swap"]),
        "secrets.store": secrets.judge_store(*store(raw["store"]), handed=True),
    }


def services(raw: Raw, ask: Ask) -> dict[str, Verdict]:
    """What the services are told."""
    database, bus = raw["postgresql"], raw["nats"]
    return {
        "performance.services": performance.judge_shares(
            units(raw["units"]), ask("performance.services")["services"]
        ),
        "postgresql.version": postgresql.judge_version(version(database["version"])),
        "postgresql.roles": postgresql.judge_roles(
            roles(database), ask("postgresql.roles")["roles"]
        ),
        "redis.state": redis.judge_redis({"redis_version": "7", "maxmemory": size(raw["redis"])}),
        "nats.state": nats.judge_nats(
            {"version": "2", "auth_required": bool(bus["users"])},
            {"disabled": not bus["jetstream"]},
        ),
        "prometheus.rules": prometheus.judge_rules({"data": {"groups": groups(raw["rules"])}}),
        "prometheus.targets": prometheus.judge_targets(
            targets(raw["scraped"]),
            ask("prometheus.targets")["expected"],
            answers=lambda _url: False,
        ),
        "prometheus.retention": prometheus.judge_retention(
            {"storage.tsdb.retention.time": raw["retention"]}, ask("prometheus.retention")["days"]
        ),
    }


# --- network --------------------------------------------------------------------------------------


def interfaces(raw: Raw) -> dict[str, bool]:
    return dict.fromkeys(["lo", *raw["network"]["links"], *raw["network"]["bridges"]], True)


def routes(raw: Raw) -> list[facts.Route]:
    own = [ipaddress.ip_interface(text).network for text in raw["network"]["addresses"]]
    local = [facts.Route("eth0", str(net.network_address), ANY, str(net.netmask)) for net in own]
    return local + [facts.Route("eth0", ANY, way, ANY) for way in raw["network"]["gateways"]]


def listeners(raw: Raw) -> list[facts.Listener]:
    return [
        facts.Listener("udp" if one.get("udp") else "tcp", one["address"], int(one["port"]), 0)
        for one in raw["listeners"]
    ]


def reached(
    raw: Raw, rules: list[dict[str, Any]], exposed: list[int]
) -> tuple[list[int], list[int], list[int]]:
    """Return what a scan finds: closed ports that answer, exposed ones that do not, those tried."""
    admitted = set(network.judge_firewall(rules, set(exposed)).data.get("admitted", []))
    open_ports = {one.port for one in listeners(raw) if not one.loopback} & admitted
    tried = {one.port for one in listeners(raw)} - set(exposed)
    return sorted(open_ports & tried), sorted(set(exposed) - open_ports), sorted(tried)


def older(protocols: str) -> str:
    """Return what an offer of TLS 1.2 gets from an nginx that speaks these."""
    return "TLSv1.2" if "TLSv1.2" in protocols.split() else "TLSV1_ALERT_PROTOCOL_VERSION"


def ruleset(tables: Mapping[str, Mapping[str, str]]) -> list[dict[str, Any]]:
    """Return what nft makes of tables, loaded in a network of their own."""
    text = "".join(f"table {t['family']} {n} {{\n{t['content']}\n}}\n" for n, t in tables.items())
    return load_ruleset(text)


def load_ruleset(text: str) -> list[dict[str, Any]]:
    """Return nftables' JSON of a ruleset; without nft and root the test is skipped.

    Raises:
        RuntimeError: nft refuses it.
    """
    if shutil.which("nft") is None or os.getuid() != 0:
        pytest.skip("no nft on PATH, or not root: the firewall was NOT judged")
    script = "nft -f - && nft -j list ruleset"
    done = subprocess.run(
        ["unshare", "--net", "sh", "-c", script], input=text, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(done.stderr)
    found: list[dict[str, Any]] = json.loads(done.stdout)["nftables"]
    return found


# --- hardening ------------------------------------------------------------------------------------


def kernel(settings: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, str]:
    """Return the value that each wanted setting has: the configuration's, or the kernel's own.

    Where neither is known here the setting counts as another than the wanted one.
    """
    told = {name: number(value) for name, value in settings.items()}
    own = {name.replace("/", "."): value for name, value in KERNEL.items()}
    return {name: told.get(name, own.get(name, "the kernel's own")) for name in wanted}


def number(value: object) -> str:
    return str(int(value)) if isinstance(value, bool) else str(value)


def sshd(settings: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return what `sshd -T` would say."""
    told = {
        name.lower(): ("yes" if value else "no") if isinstance(value, bool) else str(value)
        for name, value in settings.items()
        if value is not None
    }
    return {name: [value] for name, value in (SSHD | told).items()}


def methods(settings: Mapping[str, list[str]]) -> list[str]:
    """Return the ways to log in that sshd offers."""
    asked = settings.get("authenticationmethods", ["any"])[-1]
    if asked != "any":
        return asked.replace(",", " ").split()
    ways = {"passwordauthentication": "password", "kbdinteractiveauthentication": "keyboard"}
    return ["publickey", *(way for name, way in ways.items() if settings[name][-1] == "yes")]


def accounts(found: Mapping[str, Mapping[str, Any]]) -> tuple[str, str]:
    """Return /etc/shadow and /etc/passwd as they follow from the accounts."""
    shadow, passwd = [], []
    for account in found.values():
        password = "$y$from-a-file" if account["file"] else account["password"]
        uid = account["uid"] if account["uid"] is not None else 999
        shadow.append(f"{account['name']}:{password}:1::::::")
        passwd.append(f"{account['name']}:x:{uid}:{uid}::/:/bin/sh")
    return "\n".join(shadow), "\n".join(passwd)


# --- secrets --------------------------------------------------------------------------------------


def canaries(raw: Raw) -> dict[str, str]:
    """Return a value for each secret that is found by its name."""
    return {name: f"canary-of-{name.replace('/', '-')}" for name in raw["secrets"]}


def content(path: str, raw: Raw, values: Mapping[str, str]) -> str:
    """Return what lies at a path below /run/secrets: a secret, or a template with its secrets."""
    for template in raw["templates"].values():
        if template["path"] == path:
            text = str(template["content"])
            for name, placeholder in raw["placeholders"].items():
                text = text.replace(placeholder, values[name])
            return text
    return values.get(path.removeprefix(SECRETS), "")


def processes(raw: Raw, values: Mapping[str, str]) -> dict[str, bytes]:
    """Return what processes carry, by unit: from files, and from what their scripts export."""
    found = {}
    for name, unit in raw["environments"].items():
        carried = [content(path.lstrip("-"), raw, values) for path in unit["files"]]
        carried += [str(value) for value in unit["environment"].values() if value is not None]
        if re.search(r"^\s*export ", unit["script"], re.MULTILINE) and unit["credentials"]:
            carried.append(exported(unit, raw, values))
        group = f"/{unit['slice']}/{name}.service"
        found[f"environ of process 1 in {group}"] = "\n".join(carried).encode()
    for name, container in raw["containers"].items():
        carried = [content(path, raw, values) for path in container["files"]]
        parent = re.search(r"--cgroup-parent=(\S+)", container["options"])
        group = f"/{parent[1] if parent else 'machine.slice'}/libpod-{name}.scope"
        found[f"environ of process 1 in {group}"] = "\n".join(carried).encode()
    return found


def exported(unit: Mapping[str, Any], raw: Raw, values: Mapping[str, str]) -> str:
    """Return the environment that a start script hands on, by running it to its `exec`."""
    with tempfile.TemporaryDirectory() as place:
        for credential in unit["credentials"]:
            name, _, path = credential.partition(":")
            Path(place, name).write_text(content(path, raw, values))
        done = subprocess.run(
            ["bash", "-c", f"exec() {{ env; exit; }}\n{unit['script']}"], capture_output=True,
            text=True, check=True, env={"CREDENTIALS_DIRECTORY": place, "PATH": "/usr/bin:/bin"},
        )  # fmt: skip
    return done.stdout


def written(raw: Raw, values: Mapping[str, str]) -> dict[str, bytes]:
    """Return the files outside /run/secrets that hold secrets, from what upstream's modules do."""
    found: dict[str, str] = {}
    for name, path in raw["written"]["redis"].items():
        found[f"/run/redis-{name}/nixos.conf"] = content(path, raw, values)
    if (gitlab := raw["written"]["gitlab"]) and gitlab["place"] not in raw["tmpfs"]:
        found[f"{gitlab['place']}/secrets.yml"] = "\n".join(
            content(path, raw, values) for path in gitlab["files"]
        )
    if n8n := raw["written"]["n8n"]:
        found["/var/lib/private/n8n/.n8n/config"] = content(n8n, raw, values)
    for name, container in raw["containers"].items():
        carried = "\n".join(content(path, raw, values) for path in container["files"])
        found[f"/var/lib/containers/storage/{name}/config.json"] = carried
    return {path: text.encode() for path, text in found.items()}


def tree(raw: Raw) -> dict[str, secrets.FileStatus]:
    """Return what sops-nix makes below /run/secrets."""
    files = raw["secrets"] | {f"rendered/{n}": t for n, t in raw["templates"].items()}
    found = {
        name: secrets.FileStatus("file", int(entry["mode"], 8), entry["owner"], 1)
        for name, entry in files.items()
    }
    parents = {str(parent) for name in files for parent in Path(name).parents} - {"."}
    return found | {name: secrets.FileStatus("dir", 0o751, "root", 0) for name in parents}


def expected(raw: Raw, asked: Mapping[str, Mapping[str, str]]) -> dict[str, tuple[str, int]]:
    """Return what the guest expects there: it knows its accounts, and what its base renders."""

    def owner(name: str) -> str:
        return name if name in raw["accounts"] else "root"

    everything = [*asked.items(), *raw["guestPlan"].get("rendered", {}).items()]
    return {name: (owner(e["owner"]), int(e["mode"], 8)) for name, e in everything}


def store(place: Mapping[str, str]) -> tuple[Any, Any, str]:
    """Return the place of the encrypted secrets as tmpfiles makes it, with what rave puts there."""
    directory = secrets.FileStatus("dir", int(place["mode"], 8), place["user"], 0)
    document = "redis:\n    password: ENC[x]\nsops:\n    mac: ENC[x]\n"
    return directory, {"secrets.sops.yaml": secrets.FileStatus("file", 0o400, "root", 9)}, document


def mount(found: Mapping[str, Any], sops_nix: Path) -> facts.Mount:
    """Return the mount that holds the secrets, with the flags in sops-nix' own source."""
    source = (sops_nix / "pkgs/sops-install-secrets/linux.go").read_text()
    kind = "tmpfs" if found["useTmpfs"] else "ramfs"
    flags = {f"no{flag.lower()}" for flag in re.findall(r"unix\.MS_NO(DEV|SUID|EXEC)", source)}
    return facts.Mount("/run/secrets.d", kind, frozenset(flags))


# --- services -------------------------------------------------------------------------------------


def units(found: Mapping[str, Mapping[str, str]]) -> dict[str, dict[str, str]]:
    """Return systemd's properties of units that use next to nothing."""
    return {
        f"{name}.service": {
            "MemoryCurrent": "1",
            "MemoryMax": size(cap) if (cap := unit["MemoryMax"]) else "infinity",
        }
        for name, unit in found.items()
    }


def size(text: str) -> str:
    """Return the bytes of 64M or 64mb, as text."""
    amount = re.fullmatch(r"(\d+)(?:M|mb)", text)
    return str(int(amount[1]) << 20) if amount else "0"


def version(text: str) -> int:
    major, _, minor = text.partition(".")
    return int(major) * 10000 + int(minor)


def roles(found: Mapping[str, Any]) -> dict[str, Any]:
    scram = "SCRAM-SHA-256$" if found["encryption"] == "scram-sha-256" else "md5"
    powers = ("superuser", "createrole", "createdb", "bypassrls", "replication")
    return {
        "databases": {name: {"owner": name} for name in found["ensureDatabases"]},
        "roles": {
            user["name"]: {
                "login": user["ensureClauses"].get("login") is not False,
                "password": scram,
                "powers": [p for p in powers if user["ensureClauses"].get(p)],
            }
            for user in found["users"]
        },
    }


def groups(documents: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield the rule groups as Prometheus lists them: loaded, sound and quiet."""
    for document in documents:
        for group in document["groups"]:
            quiet = {"health": "ok", "state": "inactive"}
            yield {"rules": [{"name": rule["alert"]} | quiet for rule in group["rules"]]}


def targets(scraped: list[str]) -> dict[str, Any]:
    active = [{"labels": {"instance": i}, "health": "up"} for i in scraped]
    return {"data": {"activeTargets": active}}
