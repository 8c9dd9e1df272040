"""The suite: every question of a run, from the plan's own checks and the ones built in here.

Order within a phase is the order in which people read them; a question comes after what it needs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rave_cli.smoke.model import PHASE_IDS, Question

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rave_cli.profiles.catalog import Check, Mode, Plan, Service

# Days for which Prometheus keeps metrics, per mode (docs/explanation/architecture.md).
RETENTION_DAYS = {"safe": 3, "full": 7}
# Failed logins after which fail2ban bans.
BAN_AFTER = 3
OPERATOR = "rave"
NATS_USER = "rave"
# Where the guest keeps them.
REDIS_SECRET = "/run/secrets/redis/password"  # noqa: S105 - a place, not a value
NATS_SECRET = "/run/secrets/nats/password"  # noqa: S105 - a place, not a value

# QEMU's user network (QEMU 7.2 manual, -netdev user).
GUEST_NETWORK, GATEWAY, NAME_SERVER = "10.0.2.0", "10.0.2.2", "10.0.2.3"
# Ways out that answer on any host with an internet connection.
OUTSIDE_TCP = (("1.1.1.1", 443), ("1.1.1.1", 53), ("9.9.9.9", 443), (GATEWAY, 22))
OUTSIDE_UDP = ((NAME_SERVER, 53), ("1.1.1.1", 53))

SSH = "boot.ssh"

# Phases that need a service which no base carries yet, with the services that would bring them.
LATER = {
    "sign-in": ("oidc.sign-in", "single sign-on works for every application", ("gitlab",)),
    "chat-control": ("chat.control", "agents obey chat commands", ("chat-bridge", "agents")),
    "sandbox": ("sandbox.provisioning", "an agent gets a sandbox machine", ("agents",)),
    "workflow": (
        "workflow.end-to-end", "a chat command becomes a project, and it is cleaned up again",
        ("gitlab", "chat-bridge", "agents"),
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Subject:
    """What the questions depend on besides the plan.

    Args:
        mode: the machine's mode.
        instance: its instance id.
        network: `isolated` or `nat`.
        memory_mib: its memory.
        decoys: (address, port) of listeners that the host holds open for the guest to try.
    """

    mode: Mode = "safe"
    instance: str = ""
    network: str = "isolated"
    memory_mib: int = 0
    decoys: tuple[tuple[str, int], ...] = ()


def suite(plan: Plan, subject: Subject) -> tuple[Question, ...]:
    """Return every question about a machine of `plan`, in the order of the phases."""
    found = [
        *_configuration(),
        *_image(),
        *_boot(plan, subject),
        *_health(plan, subject),
        *_networking(plan, subject),
        *_later(plan),
        *_secrets(plan),
        *_security(plan),
        *_performance(plan, subject),
    ]
    return tuple(sorted(found, key=lambda question: PHASE_IDS.index(question.phase)))


def _host(id_: str, phase: str, title: str, **more: Any) -> Question:  # noqa: ANN401 - see Question
    return Question(id_, phase, title, viewpoint="host", **more)


def _outside(id_: str, phase: str, title: str, **more: Any) -> Question:  # noqa: ANN401 - see Question
    return Question(id_, phase, title, viewpoint="outside", **more)


def _ask(id_: str, phase: str, title: str, kind: str, **more: Any) -> Question:  # noqa: ANN401 - see Question
    needs = (SSH, *more.pop("needs", ()))
    options = {n: more.pop(n) for n in ("timeout", "retry_for", "severity", "skip") if n in more}
    return Question(id_, phase, title, kind=kind, needs=needs, arguments=more, **options)


def _configuration() -> Iterator[Question]:
    phase = "configuration"
    yield _host("configuration.plan", phase, "the plan is free of contradictions")
    yield _host("configuration.resources", phase, "the machine has what its mode allows, no more")
    yield _host("configuration.secrets-file", phase, "the operator's secrets file is valid")


def _image() -> Iterator[Question]:
    phase = "image"
    yield _host("image.integrity", phase, "the image has the sha256 of its manifest")
    yield _host("image.read-only", phase, "nobody can write to the image")
    yield _host("image.overlay", phase, "the machine's disk is an overlay on exactly this image")
    yield _host(
        "image.unchanged", phase, "the image is the same after the run", needs=("image.integrity",)
    )


def _boot(plan: Plan, subject: Subject) -> Iterator[Question]:
    phase = "boot"
    yield _host("boot.stages", phase, "the guest reported every stage under its own instance id")
    yield _outside(SSH, phase, "the login works, with the host key that was pinned before boot")
    yield _ask("boot.identity", phase, "the machine that answers is the one this run is about",
               "identity", instance=subject.instance)  # fmt: skip
    expected = {
        "profile": plan.profile,
        "base": plan.base,
        "services": sorted(plan.services),
        "secrets": sorted(plan.secrets),
        "exposed": sorted(port.port for port in plan.exposed),
    }
    yield _ask("boot.plan", phase, "the guest was made from the same plan", "plan",
               expected=expected)  # fmt: skip
    yield _ask("boot.kernel", phase, "the kernel has met no fault", "kernel")
    yield _ask("boot.finished", phase, "the start is finished and nothing of it failed", "startup",
               retry_for=30)  # fmt: skip
    yield _ask("boot.journal", phase, "the journal of this boot holds few errors",
               "journal-errors", severity="warning")  # fmt: skip


def _health(plan: Plan, subject: Subject) -> Iterator[Question]:
    for name, service in plan.services.items():
        yield _ask(f"{name}.units", "health", f"{service.title}: its units are active", "units",
                   units=list(service.units), retry_for=20)  # fmt: skip
        for check in service.checks:
            yield _of_catalog(plan, name, service, check)
        if name in _BUILT_IN:
            yield from _BUILT_IN[name](plan, subject)


def _of_catalog(plan: Plan, name: str, service: Service, check: Check) -> Question:
    """Return a question that the catalog asks."""
    title = f"{service.title} {check.title}"
    if check.from_ == "host":
        return _outside(check.id, "health", title, timeout=check.timeout, needs=(f"{name}.units",),
                        kind=check.kind, arguments=_arguments(plan, check))  # fmt: skip
    return _ask(check.id, "health", title, check.kind, needs=(f"{name}.units",),
                timeout=check.timeout, retry_for=max(10.0, 1.5 * check.timeout),
                **_arguments(plan, check))  # fmt: skip


def _arguments(plan: Plan, check: Check) -> dict[str, Any]:
    """Return what the probe needs to ask a question of the catalog."""
    if check.kind == "tcp":
        return {"port": check.port}
    if check.kind == "http":
        return {"url": check.url, "status": check.status, "contains": check.contains}
    if check.kind == "prometheus-targets":
        scraped = [s.scrape.port for s in plan.services.values() if s.scrape is not None]
        return {"url": check.url, "expected": sorted(scraped)}
    secrets = {
        variable: plan.secrets[secret].path
        for variable, secret in check.environment_secret.items()
        if secret in plan.secrets
    }
    return {
        "argv": list(check.argv),
        "matches": check.matches or "",
        "user": check.user,
        "environment_secret": secrets,
    }


def _postgresql(plan: Plan, _subject: Subject) -> Iterator[Question]:
    roles = [{"role": d.role, "name": d.name} for d in plan.databases]
    needs = ("postgresql.units",)
    for id_, title, arguments in (
        ("version", "its release is still maintained", {}),
        ("roles", "the catalog's roles exist, with their databases and no power more",
         {"roles": roles}),
        ("connections", "a fifth of its connections is free", {}),
        ("activity", "no query, transaction or lock hangs", {}),
        ("storage", "its disk has room", {}),
    ):  # fmt: skip
        yield _ask(f"postgresql.{id_}", "health", f"PostgreSQL: {title}", f"postgresql-{id_}",
                   needs=needs, **arguments)  # fmt: skip


def _redis(_plan: Plan, _subject: Subject) -> Iterator[Question]:
    yield _ask("redis.state", "health", "Redis: memory within its limit, snapshots succeed",
               "redis-state", needs=("redis.units",), secret=REDIS_SECRET)  # fmt: skip
    yield _ask("redis.roundtrip", "health", "Redis: writes, reads and deletes a key",
               "redis-roundtrip", needs=("redis.units",), secret=REDIS_SECRET)  # fmt: skip


def _nats(_plan: Plan, _subject: Subject) -> Iterator[Question]:
    yield _ask("nats.state", "health", "NATS: JetStream is on, logins are required", "nats-state",
               needs=("nats.units",))  # fmt: skip
    yield _ask("nats.roundtrip", "health", "NATS: a stream keeps and returns a message",
               "nats-roundtrip", needs=("nats.units",), user=NATS_USER,
               secret=NATS_SECRET)  # fmt: skip


def _nginx(plan: Plan, subject: Subject) -> Iterator[Question]:
    yield _ask("nginx.status-document", "health", "nginx: shows this machine, all healthy",
               "status-document", needs=("nginx.units",), retry_for=15, instance=subject.instance,
               url=f"https://127.0.0.1:{plan.status_port}/status.json")  # fmt: skip


def _prometheus(_plan: Plan, subject: Subject) -> Iterator[Question]:
    days = RETENTION_DAYS[subject.mode]
    yield _ask("prometheus.rules", "health", "Prometheus: alert rules are loaded, none fires",
               "prometheus-rules", needs=("prometheus.units",))  # fmt: skip
    yield _ask("prometheus.retention", "health", f"Prometheus: keeps metrics for {days} days",
               "prometheus-retention", needs=("prometheus.units",), days=days)  # fmt: skip


_BUILT_IN = {
    "postgresql": _postgresql,
    "redis": _redis,
    "nats": _nats,
    "nginx": _nginx,
    "prometheus": _prometheus,
}


def _networking(plan: Plan, subject: Subject) -> Iterator[Question]:
    phase = "health"
    ports = {
        f"{name}/{port.name}": port.port
        for name, service in plan.services.items()
        for port in service.ports
        if port.protocol == "tcp"
    }
    exposed = sorted(port.port for port in plan.exposed)
    yield _ask("networking.interfaces", phase, "loopback and one network card are up", "interfaces")
    yield _ask("networking.routes", phase, "no route leads beyond the machine's own network",
               "routes", network=GUEST_NETWORK, gateway=GATEWAY)  # fmt: skip
    yield _ask("networking.reachability", phase, "every port of the catalog answers inside",
               "reachability", ports=ports, timeout=5, retry_for=10)  # fmt: skip
    yield _ask("networking.firewall", phase, "the firewall drops by default, admits exposed ports",
               "firewall", exposed=exposed)  # fmt: skip
    yield _ask("networking.isolation", phase, "the guest tries to reach out, and cannot",
               "isolation", network=subject.network, patience=2, timeout=10,
               tcp=[*OUTSIDE_TCP, *subject.decoys], udp=list(OUTSIDE_UDP))  # fmt: skip
    yield _host("networking.outward", phase, "listeners on the host hear nothing from the guest",
                needs=("networking.isolation",))  # fmt: skip


def _later(plan: Plan) -> Iterator[Question]:
    for phase, (id_, title, services) in LATER.items():
        missing = [name for name in services if name not in plan.services]
        reason = (
            f"{plan.profile} on {plan.base} carries no {', '.join(missing)}"
            if missing
            else "this version of rave has no such test yet"
        )
        yield _host(id_, phase, title, skip=reason)


def _secrets(plan: Plan) -> Iterator[Question]:
    phase = "secrets"
    entries = {n: {"owner": s.owner, "mode": s.mode} for n, s in plan.secrets.items()}
    yield _ask("secrets.files", phase, "every secret is there, with its owner and mode, no other",
               "secret-files", secrets=entries)  # fmt: skip
    yield _ask("secrets.memory", phase, "plain secrets lie in memory only", "secret-mount")
    yield _ask("secrets.store", phase, "what survives a reboot is encrypted", "secret-store")
    roles = [{"role": d.role, "name": d.name, "path": f"/run/secrets/{d.secret}"}
             for d in plan.databases]  # fmt: skip
    if "postgresql" in plan.services:
        yield _ask("secrets.postgresql", phase, "PostgreSQL admits the new passwords only",
                   "postgresql-login", needs=("postgresql.units",), roles=roles)  # fmt: skip
    if "redis" in plan.services:
        yield _ask("secrets.redis", phase, "Redis admits the new password only", "redis-login",
                   needs=("redis.units",), secret=REDIS_SECRET)  # fmt: skip
    if "nats" in plan.services:
        yield _ask("secrets.nats", phase, "NATS admits the new password only", "nats-login",
                   needs=("nats.units",), user=NATS_USER,
                   secret=NATS_SECRET)  # fmt: skip
    if "nginx" in plan.services:
        yield _ask("secrets.certificate", phase, "the TLS key belongs to the certificate",
                   "certificate-pair", certificate="/run/secrets/tls/certificate",
                   key="/run/secrets/tls/key")  # fmt: skip


def _security(plan: Plan) -> Iterator[Question]:
    phase = "security"
    exposed = sorted(port.port for port in plan.exposed)
    internal = sorted(
        port.port
        for service in plan.services.values()
        for port in service.ports
        if port.protocol == "tcp" and not port.exposed
    )
    yield _outside("security.ssh-password", phase, "a login with a password is refused")
    yield _outside("security.ssh-stranger", phase, "a login with another key is refused")
    yield _outside("security.ssh-root", phase, "root's login is refused, even with the right key")
    yield _outside("security.ports", phase, "from outside only the exposed ports can be reached",
                   timeout=30)  # fmt: skip
    yield _ask("security.listeners", phase, "what listens is what the catalog says", "listeners",
               exposed=exposed, internal=internal)  # fmt: skip
    if "nginx" in plan.services:
        yield _outside("security.tls-1.3", phase, "TLS 1.3 is spoken")
        yield _outside("security.tls-1.2", phase, "TLS 1.2 and older are refused")
        yield _outside("security.certificate", phase, "the certificate is the machine's own, valid")
    yield _ask("security.sshd", phase, "sshd runs with keys only and no root", "sshd")
    yield _ask("security.sudo", phase, "only the operator's account becomes root", "sudo",
               operator=OPERATOR)  # fmt: skip
    yield _ask("security.sysctl", phase, "the kernel is hardened", "sysctl")
    yield _ask("security.accounts", phase, "no account opens with a password", "accounts")
    yield _ask("security.failed-units", phase, "no unit has failed", "failed-units")
    yield _ask("security.file-modes", phase, "configuration is root's, keys are private",
               "file-modes")  # fmt: skip
    if "fail2ban" in plan.services:
        yield _ask("security.fail2ban", phase, f"fail2ban bans after {BAN_AFTER} failures",
                   "fail2ban-settings", needs=("fail2ban.units",), maxretry=BAN_AFTER)  # fmt: skip
        yield _outside("security.ban", phase, "this run's own failed logins get it banned",
                       needs=("security.fail2ban", "security.ssh-root"))  # fmt: skip
    yield from _canaries(plan)


def _canaries(plan: Plan) -> Iterator[Question]:
    phase = "security"
    sought = {name: f"/run/secrets/{name}" for name in secret_names(plan)}
    for where, title in (
        ("files", "no file of the guest outside /run/secrets holds a secret"),
        ("processes", "no process of the guest carries a secret in argv or environment"),
        ("journal", "the guest's journal holds no secret"),
    ):
        yield _ask(f"security.canary-{where}", phase, title, f"canary-{where}", secrets=sought,
                   timeout=60)  # fmt: skip
    yield _host("security.canary-image", phase, "neither image nor store output holds a secret")
    yield _host("security.canary-qemu", phase, "QEMU's argv and environment hold no secret")
    yield _host("security.canary-logs", phase, "console, QEMU and stage logs hold no secret")
    yield _host("security.canary-records", phase, "nothing had to be redacted in this run's record")


def secret_names(plan: Plan) -> tuple[str, ...]:
    """Return the secrets whose values must stay hidden: all but certificates, which are public."""
    return tuple(n for n, s in plan.secrets.items() if s.generate["kind"] != "tls-certificate")


def _performance(plan: Plan, subject: Subject) -> Iterator[Question]:
    phase = "performance"
    units = [unit for service in plan.services.values() for unit in service.units]
    shares = [
        {"id": name, "units": list(s.units), "share_mib": s.memory.of(subject.mode)}
        for name, s in plan.services.items()
        if s.units
    ]
    cap = min(subject.memory_mib or 1 << 30, plan.resources.of(subject.mode).memory_mib)
    yield _host("performance.boot", phase, "every service was healthy within 60 s of the start")
    yield _ask("performance.memory", phase, "the guest lives within its memory cap", "memory",
               cap_mib=cap)  # fmt: skip
    yield _ask("performance.services", phase, "each service stays within its enforced share",
               "service-memory", services=shares)  # fmt: skip
    yield _ask("performance.oom", phase, "nothing was killed for want of memory", "out-of-memory")
    yield _ask("performance.pressure", phase, "tasks hardly wait for memory", "pressure")
    yield _ask("performance.restarts", phase, "no service had to be restarted", "restarts",
               units=units, severity="warning")  # fmt: skip
    yield _ask("performance.disk", phase, "the root file system has room", "disk")
    yield _host("performance.qemu", phase, "QEMU uses the guest's memory and little more")
    yield _host("performance.image", phase, "the image is no larger than a quarter of its disk")
    if "nginx" in plan.services:
        yield _outside("performance.page", phase, "the status page answers within a second (p95)")
