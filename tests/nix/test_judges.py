"""The NixOS base before the guest's own judges: what they would say of a machine made of it."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.nix import judges
from tests.nix.conftest import HERE, MODES, PROFILES, Evaluator

if TYPE_CHECKING:
    from rave_cli.profiles.names import Mode

pytestmark = pytest.mark.integration

EVERY = [(profile, mode) for profile in PROFILES for mode in MODES]
every_machine = pytest.mark.parametrize(("profile", "mode"), EVERY)
QUESTION = f"import {HERE}/judged.nix {{ inherit lib config; }}"
JUDGES = 27
# The one kind of thing that may be excepted, by name, in the catalog.
EXCEPTED = {
    "demo": {},
    "development": {},
    "production": {
        "security.canary-processes": {
            "outline/secret-key", "outline/utils-secret", "oidc/outline-client-secret",
            "database/outline-password",
        },
        "security.canary-files": {"n8n/encryption-key"},
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def seen() -> dict[tuple[str, str], Any]:
    return {}


def look(evaluator: Evaluator, seen: dict[tuple[str, str], Any], profile: str, mode: Mode) -> Any:
    """Return judged.nix of a machine; the same machine is evaluated once."""
    if (profile, mode) not in seen:
        seen[profile, mode] = evaluator.ask(QUESTION, profile, mode)
    return seen[profile, mode]


@every_machine
def test_every_judge_passes(
    with_nixpkgs: Evaluator, seen: dict[tuple[str, str], Any], profile: str, mode: Mode
) -> None:
    raw = look(with_nixpkgs, seen, profile, mode)
    found = judges.verdicts(raw, mode, Path(os.environ["RAVE_SOPS_NIX"]))
    assert {name: v.detail for name, v in found.items() if v.status != "pass"} == {}
    assert len(found) == JUDGES
    excepted = {
        name: {text.partition(" in ")[0] for text in verdict.data["excepted"]}
        for name, verdict in found.items()
        if verdict.data.get("excepted")
    }
    assert excepted == EXCEPTED[profile]


@every_machine
def test_what_ends_without_being_told_to_is_back_within_30_seconds(
    with_nixpkgs: Evaluator, seen: dict[tuple[str, str], Any], profile: str, mode: Mode
) -> None:
    raw = look(with_nixpkgs, seen, profile, mode)
    units = [unit for service in raw["plan"]["services"].values() for unit in service["units"]]
    names = {unit.removesuffix(".service") for unit in units if unit.endswith(".service")}
    names |= {name for name in raw["restarts"] if name.startswith(("redis-", "rave-ready"))}
    slow = {}
    for name in names:
        unit = raw["restarts"][name]
        delay = re.fullmatch(r"(\d+)(ms|s|)", unit["seconds"])
        assert delay is not None, name
        seconds = int(delay[1]) / (1000 if delay[2] == "ms" else 1)
        again = unit["restart"] in {"always", "on-failure"} and seconds < 30
        if unit["type"] != "oneshot" and not again:
            slow[name] = unit
    assert slow == {}


def test_an_exception_that_nothing_needs_is_no_exception(
    with_nixpkgs: Evaluator, seen: dict[tuple[str, str], Any]
) -> None:
    """Each entry of the plan excuses something that is there."""
    raw = look(with_nixpkgs, seen, "production", "safe")
    named = {(e["check"], s) for e in raw["plan"]["exceptions"] for s in e["secrets"]}
    assert named == {(c, s) for c, secrets in EXCEPTED["production"].items() for s in secrets}


def test_penpot_passes_with_its_exceptions(with_nixpkgs: Evaluator) -> None:
    modules = "{ services.rave.penpot = { enable = true; fetchImages = true; }; }"
    raw = with_nixpkgs.ask(QUESTION, "production", modules=modules)
    found = judges.verdicts(raw, "safe", Path(os.environ["RAVE_SOPS_NIX"]))
    assert {name: v.detail for name, v in found.items() if v.status != "pass"} == {}
    excepted = " ".join(found["security.canary-processes"].data["excepted"])
    assert "penpot/secret-key in environ of process 1 in /system-penpot.slice/" in excepted


ANY_METHOD = 'services.openssh.settings.AuthenticationMethods = lib.mkForce "any";'
EVERYWHERE = 'services.prometheus.listenAddress = lib.mkForce "0.0.0.0";'
CARRIED = "systemd.services.redis-rave.serviceConfig.EnvironmentFile ="
BROKEN = [
    ("security.sudo.wheelNeedsPassword = lib.mkForce false;", "security.sudo", "%wheel needs"),
    ('boot.kernel.sysctl."net.ipv4.conf.all.accept_redirects" = lib.mkForce 1;',
     "security.sysctl", "accept_redirects is 1"),
    ('services.openssh.settings.PermitRootLogin = lib.mkForce "yes";',
     "security.sshd", "permitrootlogin is yes"),
    (f"{ANY_METHOD} services.openssh.settings.PasswordAuthentication = lib.mkForce true;",
     "security.ssh-password", "the server offers password"),
    ("networking.firewall.allowedTCPPorts = [ 9090 ];", "networking.firewall", "9090"),
    (f"networking.firewall.allowedTCPPorts = [ 9090 ]; {EVERYWHERE}",
     "security.ports", "port 9090 can be reached"),
    (EVERYWHERE,
     "security.listeners", "tcp 0.0.0.0:9090 is not exposed"),
    ("services.timesyncd.enable = true;", "security.listeners", "udp 0.0.0.0:0"),
    ('services.nginx.sslProtocols = lib.mkForce "TLSv1.2 TLSv1.3";', "security.tls-1.2", "1.2"),
    ('virtualisation.oci-containers = { backend = "podman"; containers.x.image = "x"; };',
     "networking.interfaces", "2 network cards"),
    ('services.redis.servers.rave.requirePassFile = config.security.rave.path "redis/password";',
     "security.canary-files", "redis/password is in /run/redis-rave/nixos.conf"),
    (f'{CARRIED} config.sops.templates."redis.conf".path;',
     "security.canary-processes", "redis/password is in environ"),
    ("systemd.services.nginx.serviceConfig.MemoryMax = lib.mkForce null;",
     "performance.services", "without MemoryMax: nginx.service"),
    ('users.users.rave.hashedPassword = lib.mkForce "$y$x";',
     "security.accounts", "rave can log in with a password"),
    ("services.fail2ban.maxretry = lib.mkForce 9;", "security.fail2ban", "bans after 9"),
    ("sops.useTmpfs = true;", "secrets.memory", "swapped out"),
    ('systemd.tmpfiles.settings."10-rave"."/var/lib/rave/secrets".d.mode = lib.mkForce "0755";',
     "secrets.store", "is not 0700 root"),
]  # fmt: skip


@pytest.mark.parametrize(("module", "check", "detail"), BROKEN)
def test_the_judges_see_what_is_broken(
    with_nixpkgs: Evaluator, module: str, check: str, detail: str
) -> None:
    """Each of these was so, or could become so unseen."""
    raw = with_nixpkgs.ask(QUESTION, "demo", modules=f"({{ config, lib, ... }}: {{ {module} }})")
    verdict = judges.verdicts(raw, "safe", Path(os.environ["RAVE_SOPS_NIX"]))[check]
    assert verdict.status in {"fail", "warn"}
    assert detail in verdict.detail
