"""The profiles as NixOS evaluates them: what is true of every machine of every profile and mode."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rave_cli.images.carried import CARRIED
from tests.nix.conftest import MODES, PROFILES, ROOT, Evaluator

pytestmark = pytest.mark.integration

EVERY = [(profile, mode) for profile in PROFILES for mode in MODES]
every_machine = pytest.mark.parametrize(("profile", "mode"), EVERY)


@every_machine
def test_assertions_hold_and_nothing_is_deprecated(
    evaluator: Evaluator, profile: str, mode: str
) -> None:
    report = evaluator.report(profile, mode)
    assert report["failed"] == []
    assert report["warnings"] == []
    assert (report["profile"], report["mode"]) == (profile, mode)


@every_machine
def test_the_plan_is_the_catalogs(evaluator: Evaluator, profile: str, mode: str) -> None:
    plan = evaluator.report(profile, mode)["plan"]
    catalog = evaluator.ask(f"(import {ROOT}/infra/catalog).plans.{profile}.nixos", profile)
    assert plan == catalog


@every_machine
def test_every_secret_that_is_used_is_declared(
    evaluator: Evaluator, profile: str, mode: str
) -> None:
    report = evaluator.report(profile, mode)
    declared = {secret["path"] for secret in report["secrets"].values()}
    declared |= {template["path"] for template in report["templates"].values()}
    for unit, paths in report["used"].items():
        found = {path for path in paths if path.startswith("/run/secrets/")}
        assert found <= declared, unit


@every_machine
def test_who_needs_a_secret_waits_for_it(evaluator: Evaluator, profile: str, mode: str) -> None:
    report = evaluator.report(profile, mode)
    for unit in report["needs"]:
        assert "sops-install-secrets.service" in report["order"][unit]["after"], unit
        assert any(path.startswith("/run/secrets/") for path in report["used"][unit]), unit


@every_machine
def test_a_password_is_set_after_the_roles_and_before_its_service(
    evaluator: Evaluator, profile: str, mode: str
) -> None:
    report = evaluator.report(profile, mode)
    databases = report["plan"]["databases"]
    assert databases
    for database in databases:
        unit = database["unit"].removesuffix(".service")
        order = report["order"][unit]
        assert {"postgresql.target", "sops-install-secrets.service"} <= set(order["after"])
        assert "postgresql.target" in order["requires"]
        assert order["before"], f"{unit} is before nothing"
        text = report["texts"][unit]
        assert f"LoadCredential=password:/run/secrets/{database['secret']}" in text
        assert "-v pw" not in text


@every_machine
def test_secrets_come_after_the_boot(evaluator: Evaluator, profile: str, mode: str) -> None:
    report = evaluator.report(profile, mode)
    kept = "/var/lib/rave/secrets"
    # In memory: what opens the file comes with each boot and stays off the disk.
    assert report["ageKeyFile"] == "/run/rave-age/key"
    assert report["sopsFile"] == f"{kept}/secrets.sops.yaml"
    conditions = evaluator.ask(
        "config.systemd.services.sops-install-secrets.unitConfig.ConditionPathExists", profile, mode
    )
    handed = "/run/credentials/@system/rave.age-key"
    assert conditions == [f"{kept}/secrets.sops.yaml", f"|{handed}", f"|{kept}/age.key"]
    for name, secret in report["secrets"].items():
        assert secret["path"] == f"/run/secrets/{name}"
        assert secret["mode"] == "0400"


@every_machine
def test_every_unit_has_the_cap_of_its_service(
    evaluator: Evaluator, profile: str, mode: str
) -> None:
    report = evaluator.report(profile, mode)
    for name, service in report["plan"]["services"].items():
        cap = f"{service['memory'][mode]}M"
        for unit in service["units"]:
            limits = report["limits"][unit.partition(".")[0]]
            assert (limits["max"], limits["oom"]) == (cap, service["oomScore"]), unit
        if name in {"gitlab", "outline"}:
            assert report["slices"][f"system-{name}"] == cap


@every_machine
def test_only_ssh_and_the_status_page_pass_the_firewall(
    evaluator: Evaluator, profile: str, mode: str
) -> None:
    assert sorted(evaluator.report(profile, mode)["ports"]) == [22, 3002]


@pytest.mark.parametrize(("mode", "days"), [("safe", "3d"), ("full", "7d")])
def test_metrics_are_kept_by_mode(evaluator: Evaluator, mode: str, days: str) -> None:
    assert evaluator.report("demo", mode)["retention"] == days


def test_every_service_with_metrics_is_scraped(evaluator: Evaluator) -> None:
    report = evaluator.report("production")
    wanted = {name for name, service in report["plan"]["services"].items() if service["scrape"]}
    assert set(report["scraped"]) == wanted | {"reporter"}


def test_every_database_of_the_plan_is_made(evaluator: Evaluator) -> None:
    report = evaluator.report("production")
    databases = report["plan"]["databases"]
    assert set(report["roles"]) == {database["role"] for database in databases}
    assert set(report["databases"]) == {d["name"] for d in databases if d["name"]}


@pytest.mark.parametrize("profile", PROFILES)
def test_no_known_default_password_is_in_a_text(evaluator: Evaluator, profile: str) -> None:
    report = evaluator.report(profile)
    everything = "\n".join(report["texts"].values())
    everything += "\n".join(template["content"] for template in report["templates"].values())
    for known in ("mmpgsecret", "SW2YcwTIb9zpOOhoPsMm", "changeme", "AGE-SECRET-KEY"):
        assert known not in everything


def test_templates_hold_placeholders_only(evaluator: Evaluator) -> None:
    for name, template in evaluator.report("production")["templates"].items():
        assert "<SOPS:" in template["content"], name


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("mode", MODES)
def test_the_image_has_the_name_the_catalog_says(
    with_nixpkgs: Evaluator, profile: str, mode: str
) -> None:
    image = with_nixpkgs.ask(
        "{ inherit (config.system.build.images.qemu.passthru) filePath;"
        " inherit (config.system.build.images.qemu) drvPath; }",
        profile, mode,
    )  # fmt: skip
    assert image["filePath"] == f"rave-{profile}.qcow2"
    assert image["drvPath"].endswith("nixos-disk-image.drv")


def test_unfree_packages_are_two_and_production_only(with_nixpkgs: Evaluator) -> None:
    question = (
        "map (name: config.nixpkgs.config.allowUnfreePredicate { pname = name; })"
        ' [ "n8n" "outline" "elasticsearch" ]'
    )
    assert with_nixpkgs.ask(question, "production") == [True, True, False]
    assert not with_nixpkgs.ask("config.nixpkgs.config ? allowUnfreePredicate", "development")


@pytest.fixture(scope="module")
def outputs(with_nixpkgs: Evaluator) -> Any:
    return with_nixpkgs.outputs()


def test_every_output_of_the_flake_is_a_derivation(outputs: Any) -> None:
    found = outputs
    packages = found["packages"]
    assert packages["rave-qcow2"] == packages["production"]
    assert packages["rave-qcow2-dev"] == packages["development"]
    assert packages["rave-qcow2-demo"] == packages["demo"]
    assert packages["production"] != packages["production-full"]
    assert found["withPort"]["drvPath"] not in packages.values()
    assert found["app"].endswith("/bin/rave")
    assert len(found["checks"]) == 7
    for path in [*packages.values(), *found["checks"].values(), *found["devShells"].values()]:
        assert path.startswith("/nix/store/")
        assert path.endswith(".drv")


def test_a_moved_port_is_in_the_plan_of_the_guest_and_of_the_image(outputs: Any) -> None:
    found = outputs["withPort"]
    assert re.search(r"cp /nix/store/\S+-plan\.json \$out/plan\.json$", found["postVM"])
    carried = CARRIED.parse(json.dumps(found["carried"]).encode(), Path("plan.json"), hint="")
    assert carried.plan.status_port == 8443
    assert {port["port"] for port in found["guestPlan"]["exposed"]} == {22, 8443}


def test_a_failure_before_the_system_is_reported_too(with_nixpkgs: Evaluator) -> None:
    asked = with_nixpkgs.ask(
        "let inherit (config.boot.initrd) systemd kernelModules; in {"
        " inherit kernelModules; inherit (systemd) enable;"
        " inherit (systemd.services.rave-emergency) wantedBy serviceConfig;"
        " stored = map (entry: toString (entry.source or entry)) systemd.storePaths; }",
        "demo",
    )
    assert asked["enable"]
    assert set(asked["wantedBy"]) == {"emergency.target", "rescue.target"}
    assert asked["serviceConfig"]["ExecStart"] in asked["stored"]
    assert [path for path in asked["stored"] if path.endswith("-stage.sh")]
    assert {"virtio_console", "dmi_sysfs", "qemu_fw_cfg"} <= set(asked["kernelModules"])
    # What it is made of names the file that the initrd does not have, once.
    assert (ROOT / "infra/guest/emergency").read_text().count("/usr/lib/rave/") == 1


def test_the_page_of_options_is_what_the_modules_say(with_lib: Evaluator) -> None:
    assert with_lib.name == "lib"
    program = [sys.executable, str(ROOT / "docs/options.py"), "--check"]
    assert subprocess.run(program, check=False).returncode == 0, "run docs/options.py"


@every_machine
def test_the_guest_knows_who_waits_and_whom_to_restart(
    evaluator: Evaluator, profile: str, mode: str
) -> None:
    plan = evaluator.ask("config.rave.guestPlan", profile, mode)
    waiting = {name for name, service in plan["services"].items() if service["waits"]}
    assert {"redis", "nats", "grafana", "postgres-exporter", "redis-exporter"} <= waiting
    assert not waiting & {"sshd", "firewall", "nginx", "postgresql", "prometheus"}
    needs = set(evaluator.report(profile, mode)["needs"])
    restarted = set()
    for name, secret in plan["secrets"].items():
        assert not set(secret["refresh"]) & set(secret["later"]), name
        # Installation waits for these, so none may take minutes.
        assert not [unit for unit in secret["refresh"] if unit.startswith("git")], name
        restarted |= {*secret["refresh"], *secret["later"]}
    # Whoever waits for a secret is started by its installation.
    assert {f"{unit}.service" for unit in needs} <= restarted
