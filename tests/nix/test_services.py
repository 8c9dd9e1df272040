"""Services by themselves: switched off they leave no trace, asked for wrongly they are refused."""

from __future__ import annotations

import pytest

from tests.nix.conftest import EvaluationError, Evaluator

pytestmark = pytest.mark.integration

# Without these the machine is none, or what needs them is refused (tested below).
NEEDED = {"sshd", "firewall", "nginx", "postgresql", "gitlab", "matrix", "redis", "nats"}
REMOVABLE = [
    "fail2ban", "prometheus", "alertmanager", "node-exporter", "postgres-exporter",
    "nginx-exporter", "redis-exporter", "nats-exporter", "grafana", "mattermost", "element",
    "outline", "n8n", "portal",
]  # fmt: skip

# Services that others are about, or cannot do without: they go together.
TOGETHER = [
    ("redis", "redis-exporter"),
    ("nats", "nats-exporter"),
    ("gitlab", "outline"),
    ("matrix", "element"),
]


def off(*services: str) -> str:
    return " ".join(f"{{ services.rave.{name}.enable = false; }}" for name in services)


@pytest.mark.parametrize("services", [*((name,) for name in REMOVABLE), *TOGETHER])
def test_a_disabled_service_leaves_no_trace(with_lib: Evaluator, services: tuple[str, ...]) -> None:
    whole = with_lib.report("production")["plan"]["services"]
    report = with_lib.report("production", modules=off(*services))
    assert report["failed"] == []
    left = {unit for other in report["plan"]["services"].values() for unit in other["units"]}
    for service in services:
        assert service not in report["plan"]["services"]
        assert service not in report["scraped"]
        assert f"{service}.rave.localhost" not in report["virtualHosts"]
        for unit in set(whole[service]["units"]) - left:
            assert unit.removesuffix(".service") not in report["texts"], unit
    needed = {name for other in report["plan"]["services"].values() for name in other["secrets"]}
    needed |= {database["secret"] for database in report["plan"]["databases"]}
    assert set(report["secrets"]) == needed


@pytest.mark.parametrize("service", ["grafana", "outline", "n8n"])
def test_neither_does_it_in_a_real_nixos(with_nixpkgs: Evaluator, service: str) -> None:
    report = with_nixpkgs.report("production", modules=off(service))
    assert report["failed"] == []
    everything = "\n".join(report["texts"].values())
    assert f"/run/secrets/{service}/" not in everything
    assert service not in report["databases"]
    assert service not in report["texts"]


def test_production_covers_every_removable_service(with_lib: Evaluator) -> None:
    assert set(with_lib.report("production")["plan"]["services"]) == {*REMOVABLE, *NEEDED}


def test_a_moved_port_moves_everything(evaluator: Evaluator) -> None:
    modules = "{ services.rave.nginx.ports.status = 8443; services.rave.grafana.ports.web = 3100; }"
    report = evaluator.report("demo", modules=modules)
    assert report["failed"] == []
    assert sorted(report["ports"]) == [22, 8443]
    plan = report["plan"]
    assert {port["port"] for port in plan["exposed"]} == {22, 8443}
    assert plan["services"]["grafana"]["scrape"]["port"] == 3100
    urls = [c.get("url") or "" for s in plan["services"].values() for c in s["checks"]]
    assert not [url for url in urls if ":3002/" in url or ":3000/" in url]


WRONG_TYPES = [
    ('services.rave.grafana.ports.web = "3000";', "services.rave.grafana.ports.web"),
    ("services.rave.grafana.ports.web = 70000;", "services.rave.grafana.ports.web"),
    ("services.rave.redis.memoryMiB = 0;", "services.rave.redis.memoryMiB"),
    ("services.rave.prometheus.retentionDays = -1;", "services.rave.prometheus.retentionDays"),
    ('services.rave.sshd.enable = "yes";', "services.rave.sshd.enable"),
    ('rave.mode = lib.mkForce "huge";', "rave.mode"),
    ('rave.profile = lib.mkForce "staging";', "rave.profile"),
    ('rave.domain = "Not A Name";', "rave.domain"),
    ('rave.ingress.x.maxBodySize = "lots";', "rave.ingress.x.maxBodySize"),
    ('services.rave.mattermost.licenseFile = "canary";', "services.rave.mattermost.licenseFile"),
    ('services.rave.gitlab.runner.tokenFile = "canary";', "services.rave.gitlab.runner.tokenFile"),
    ('services.rave.penpot.images.backend = "x:latest";', "services.rave.penpot.images.backend"),
]  # fmt: skip


@pytest.mark.parametrize(("setting", "option"), WRONG_TYPES)
def test_a_wrong_value_is_refused_by_the_name_of_its_option(
    evaluator: Evaluator, setting: str, option: str
) -> None:
    with pytest.raises(EvaluationError) as refused:
        evaluator.ask(
            f"config.{option}", "production", modules=f"({{ lib, ... }}: {{ {setting} }})"
        )
    assert option in str(refused.value)


@pytest.mark.parametrize("name", ["nosuch.enable", "grafana.colour"])
def test_an_unknown_service_or_option_is_refused(with_nixpkgs: Evaluator, name: str) -> None:
    with pytest.raises(EvaluationError) as refused:
        with_nixpkgs.ask("config.rave.mode", "demo", modules=f"{{ services.rave.{name} = true; }}")
    assert f"services.rave.{name.removesuffix('.enable')}" in str(refused.value)
    assert "does not exist" in str(refused.value)


REFUSED = [
    (
        "services.rave.canaille.enable = true;",
        "services.rave.canaille.enable: the nixos base does not carry this service",
    ),
    ("services.rave.chat-bridge.enable = true;", "services.rave.chat-bridge.groups: must name"),
    (
        'services.rave.agents = { enable = true; forgeTokenFile = "/nix/store/x"; };',
        "services.rave.agents.forgeTokenFile: must not be in the Nix store",
    ),
    (
        "services.rave.grafana.ports.web = 9090;",
        "services.rave.grafana.ports.web: port 9090 is taken twice",
    ),
    (
        'security.rave.needs.x.secrets = [ "no/such" ];',
        "security.rave.needs.x.secrets: no enabled service declares the secret no/such",
    ),
    ("security.rave.sopsBootstrap.enable = false;", "security.rave.sopsBootstrap.enable"),
    ("services.rave.postgresql.enable = false;", "services.rave.postgresql.enable"),
    ("services.rave.gitlab.enable = false;", "services.rave.outline.enable"),
    (
        "services.rave.redis.enable = false;",
        "security.rave.needs.prometheus-redis-exporter.secrets: no enabled service declares",
    ),
    (
        "services.rave.nats.enable = false;",
        "security.rave.needs.prometheus-nats-exporter.secrets: no enabled service declares",
    ),
    ("services.rave.matrix.enable = false;", "services.rave.element.enable"),
    ("services.rave.agents.enable = true;", "services.rave.agents.forgeTokenFile: must be set"),
    (
        "services.rave.grafana.memoryMiB = 1600;",
        "rave.memoryMiB: the services' caps are 8240 MiB and the system needs 192; together",
    ),
    (
        "services.rave.nginx.enable = false;",
        "services.rave.nginx.enable: it serves what element, gitlab, grafana, matrix, mattermost,",
    ),
    ("services.rave.nginx.enable = false;", "services.rave.nginx-exporter.enable"),
    (
        "services.rave.penpot.enable = true;",
        "services.rave.penpot.imageFiles: backend, exporter, frontend must be given, because an",
    ),
    ("services.rave.gitlab.ports.gitaly = 9237;", "services.rave.gitlab.ports.gitaly"),
    ("services.rave.vibe-kanban.enable = true;", "services.rave.vibe-kanban.package"),
    ("services.rave.gitlab.runner.enable = true;", "services.rave.gitlab.runner.tokenFile"),
    ('services.rave.mattermost.signIn = "gitlab";', "services.rave.mattermost.signIn"),
    (
        'services.rave.mattermost.licenseFile = "/nix/store/x";',
        "services.rave.mattermost.licenseFile: must not be in the Nix store",
    ),
    ("rave.ingress.empty = { };", "rave.ingress.empty: exactly one of"),
    ("rave.databases.nobody = { };", "rave.databases.nobody: no enabled service"),
]  # fmt: skip


@pytest.mark.parametrize(("setting", "message"), REFUSED)
def test_a_contradiction_is_refused_by_the_name_of_its_option(
    evaluator: Evaluator, setting: str, message: str
) -> None:
    question = "map (a: a.message) (lib.filter (a: !a.assertion) config.assertions)"
    failed = evaluator.ask(question, "production", modules=f"{{ {setting} }}")
    assert [text for text in failed if text.startswith(message)], failed


LITERALS = [
    ("services.mattermost.database.password", 'lib.mkForce "canary"'),
    ("services.grafana.settings.security.admin_password", 'lib.mkForce "canary"'),
    ("services.grafana.settings.security.secret_key", 'lib.mkForce "canary"'),
    ("services.grafana.settings.database.password", 'lib.mkForce "canary"'),
    ("services.matrix-synapse.settings.database.args.password", '"canary"'),
    ("services.n8n.environment.DB_POSTGRESDB_PASSWORD", '"canary"'),
    ("services.nats.settings.authorization.token", '"canary"'),
    ("services.redis.servers.rave.requirePass", '"canary"'),
    ("users.users.rave.password", '"canary"'),
]  # fmt: skip


@pytest.mark.parametrize(("option", "value"), LITERALS)
def test_a_literal_secret_is_refused(evaluator: Evaluator, option: str, value: str) -> None:
    question = "map (a: a.message) (lib.filter (a: !a.assertion) config.assertions)"
    modules = f"({{ lib, ... }}: {{ {option} = {value}; }})"
    failed = evaluator.ask(question, "production", modules=modules)
    message = f"{option}: a secret must not be given as a literal"
    assert [text for text in failed if text.startswith(message)], failed


def test_a_password_of_a_role_is_refused(evaluator: Evaluator) -> None:
    question = "map (a: a.message) (lib.filter (a: !a.assertion) config.assertions)"
    user = '{ name = "grafana"; ensureClauses.password = "canary"; }'
    modules = f"{{ services.postgresql.ensureUsers = [ {user} ]; }}"
    failed = evaluator.ask(question, "demo", modules=modules)
    assert [t for t in failed if t.startswith("services.postgresql.ensureUsers.grafana")], failed


def test_optional_services_come_up_when_configured(evaluator: Evaluator) -> None:
    modules = """({ pkgs, ... }: {
      services.rave.agents = { enable = true; forgeTokenFile = "/run/keys/forge"; };
      services.rave.webhook-dispatcher.enable = true;
      services.rave.chat-bridge = { enable = true; groups.leads = [ "alice" ]; };
      services.rave.vibe-kanban = { enable = true; package = pkgs.jq; };
      services.rave.claude-code-router.enable = true;
      services.rave.docker-registry.enable = true;
      rave.memoryMiB = 8192;
    })"""
    report = evaluator.report("development", modules=modules)
    assert report["failed"] == []
    assert report["plan"]["resources"]["safe"]["memoryMiB"] == 8192
    configured = {
        "agents", "webhook-dispatcher", "chat-bridge", "vibe-kanban", "claude-code-router",
        "docker-registry",
    }  # fmt: skip
    assert configured <= set(report["plan"]["services"])
    assert {"rave-agent@", "webhook-dispatcher", "chat-bridge"} <= set(report["texts"])
    assert "Type=notify" in report["texts"]["rave-agent@"]
    sites = {f"{name}.rave.localhost" for name in ("vibe-kanban", "registry", "router")}
    assert sites <= set(report["virtualHosts"])
    assert {
        "docker-registry/password", "claude-code-router/providers", "claude-code-router/api-key",
    } <= set(report["secrets"])  # fmt: skip
    # Its program runs while somebody asks it, and reads its secrets then.
    router = report["texts"]["claude-code-router"]
    assert "LoadCredential=providers:claude-code-router.providers api-key:" in router
    assert report["limits"]["claude-code-router"]["max"] == "256M"
    assert "docker-registry" in report["scraped"]


def test_penpot_reaches_what_it_needs_and_nothing_else(evaluator: Evaluator) -> None:
    question = """{
      containers = lib.mapAttrs
        (_: container: {
          inherit (container) networks image pull;
          ports = container.ports or [ ];
          extraOptions = toString container.extraOptions;
        })
        config.virtualisation.oci-containers.containers;
      sockets = lib.mapAttrs
        (_: socket: {
          listen = socket.listenStreams;
          inside = socket.socketConfig.NetworkNamespacePath or null;
        })
        (lib.filterAttrs (name: _: lib.hasPrefix "penpot-" name) config.systemd.sockets);
      inside = config.systemd.services.penpot-web.serviceConfig.NetworkNamespacePath;
      plan = config.rave.plan.services.penpot.units;
      failed = map (a: a.message) (lib.filter (a: !a.assertion) config.assertions);
    }"""
    modules = "{ services.rave.penpot = { enable = true; fetchImages = true; }; }"
    found = evaluator.ask(question, "production", modules=modules)
    assert found["failed"] == []
    namespace = "/run/netns/penpot"
    for name, container in found["containers"].items():
        assert container["networks"] == [f"ns:{namespace}"], name
        assert container["ports"] == [], name
        assert "@sha256:" in container["image"], name
        assert "--cgroup-parent=system-penpot.slice" in container["extraOptions"]
    # Only the way to the frontend is open on this machine's own loopback.
    assert found["sockets"] == {
        "penpot-web": {"listen": ["127.0.0.1:9001"], "inside": None},
        "penpot-postgresql": {"listen": ["127.0.0.1:5432"], "inside": namespace},
        "penpot-redis": {"listen": ["127.0.0.1:6379"], "inside": namespace},
    }
    assert found["inside"] == namespace


def test_an_archive_of_an_image_is_never_fetched(evaluator: Evaluator) -> None:
    files = "backend = pkgs.jq; exporter = pkgs.jq; frontend = pkgs.jq;"
    given = f"{{ enable = true; imageFiles = {{ {files} }}; }}"
    modules = f"({{ pkgs, ... }}: {{ services.rave.penpot = {given}; }})"
    question = (
        "{ failed = map (a: a.message) (lib.filter (a: !a.assertion) config.assertions);"
        " containers = lib.mapAttrs (_: c: { inherit (c) image pull; })"
        " config.virtualisation.oci-containers.containers; }"
    )
    found = evaluator.ask(question, "production", modules=modules)
    assert found["failed"] == []
    for container in found["containers"].values():
        assert container["pull"] == "never"
        assert container["image"].endswith(":2.17.0")


def test_without_the_platforms_firewall_there_is_none(evaluator: Evaluator) -> None:
    question = "config.networking.firewall.enable"
    assert evaluator.ask(question, "demo") is True
    assert (
        evaluator.ask(question, "demo", modules="{ services.rave.firewall.enable = false; }")
        is False
    )


OPTIONS_OF_FACTS = [
    ("prometheus.retentionDays = 5;", "retentionDays.safe", 5),
    ("postgresql.maxConnections = 90;", "postgresql.maxConnections.safe", 90),
    ("postgresql.sharedBuffersMiB = 80;", "postgresql.sharedBuffersMiB.safe", 80),
    ("nginx.requestsPerSecond = 50;", "nginx.requestsPerSecond", 50),
    ("fail2ban.banSeconds = 90;", "banSeconds", 90),
]


@pytest.mark.parametrize(("setting", "fact", "value"), OPTIONS_OF_FACTS)
def test_an_option_that_changes_a_fact_changes_it_in_the_plan(
    evaluator: Evaluator, setting: str, fact: str, value: int
) -> None:
    modules = f"{{ services.rave.{setting} }}"
    plan = evaluator.ask(f"config.rave.plan.facts.{fact}", "demo", modules=modules)
    assert plan == value
    assert evaluator.ask(f"config.rave.plan.facts.{fact}", "demo") != value


def test_a_cap_that_is_changed_changes_in_the_plan(evaluator: Evaluator) -> None:
    modules = "{ services.rave.redis.memoryMiB = 100; }"
    report = evaluator.report("demo", modules=modules)
    assert report["plan"]["services"]["redis"]["memory"] == {"safe": 100, "full": 512}
    assert report["limits"]["redis-rave"]["max"] == "100M"
