"""Follows docs/how-to/add-a-service.md in a copy of the checkout, touching only what it names."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rave_cli.images.lock import PackageRequest
from tests.nix import judges
from tests.nix.conftest import ROOT, Evaluator, nix

pytestmark = pytest.mark.integration

PAGE = ROOT / "docs/how-to/add-a-service.md"
BLOCKS = re.findall(r"^```(?:nix|ini)\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
RECORD, SECRET, UNIT, MODULE = BLOCKS
# What the page says beside its example: its maker's own packages, not fetched unasked.
MAKERS = """
  boards = none // {
    title = "Boards";
    description = "curves";
    bases.debian = {
      units = [ "boards.service" ];
      enabled = false;
      packages = [ "boards" ];
      archive = {
        uri = "https://packages.example/deb"; suites = [ "stable" ]; components = [ "main" ];
        keys = [ "0123456789ABCDEF0123456789ABCDEF01234567" ]; only = [ "boards" ];
      };
    };
  };
"""
FOLDER = "infra/debian/services/wiki/templates/etc/systemd/system"

SUITE = """
import json, sys
from rave_cli.profiles.catalog import Plan
from rave_cli.smoke.suite import suite
plan = Plan.model_validate(json.load(sys.stdin))
print(json.dumps({check.id: check.title for check in suite(plan)}))
"""


def insert(file: Path, before: str, text: str) -> None:
    """Put text before the last occurrence of a line's beginning."""
    head, found, tail = file.read_text().rpartition(before)
    assert found, f"{file} has no {before!r}"
    file.write_text(head + text + found + tail)


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the checkout with the wiki in it."""
    place = tmp_path_factory.mktemp("checkout")
    ignored = shutil.ignore_patterns("__pycache__", "catalog.json", "locks", "keys")
    for folder in ("infra", "src"):
        shutil.copytree(ROOT / folder, place / folder, ignore=ignored)
    shutil.copytree(ROOT / "tests/nix", place / "tests/nix", ignore=ignored)
    insert(place / "infra/catalog/services.nix", "}", RECORD + MAKERS)
    insert(place / "infra/catalog/secrets.nix", "}", SECRET)
    insert(place / "infra/catalog/profiles.nix", '    "grafana"\n', '    "wiki"\n    "boards"\n')
    (place / FOLDER).mkdir(parents=True)
    (place / FOLDER / "wiki.service").write_text(UNIT)
    (place / "infra/nixos/services/wiki.nix").write_text(MODULE)
    return place


@pytest.fixture(scope="module")
def plans(copy: Path) -> Any:
    """The plans of the demo profile, by base."""
    question = f"(import {copy}/infra/catalog).plans.demo"
    return json.loads(nix("nix-instantiate", "--eval", "--strict", "--json", "-E", question))


def test_both_bases_carry_it_by_its_record(plans: Any) -> None:
    for plan in plans.values():
        assert plan["services"]["wiki"]["units"] == ["wiki.service"]
        assert plan["secrets"]["wiki/secret-key"]["refresh"] == ["wiki.service"]
        assert "wiki" not in plan["absent"]


def test_what_comes_from_its_maker_is_asked_for_once_it_is_on(copy: Path, tmp_path: Path) -> None:
    place = tmp_path / "infra"
    shutil.copytree(copy / "infra", place)
    question = (
        f"import {place}/debian/request.nix (import {place}/debian/packages.nix)"
        f' ((import {place}/catalog).debianRequest "demo")'
    )
    off = json.loads(nix("nix-instantiate", "--eval", "--strict", "--json", "-E", question))
    assert "boards" not in off["guest"]
    assert [archive["name"] for archive in off["archives"]] == ["debian", "debian-security"]
    services = place / "catalog/services.nix"
    services.write_text(
        services.read_text().replace("enabled = false;\n      packages", "packages")
    )
    on = json.loads(nix("nix-instantiate", "--eval", "--strict", "--json", "-E", question))
    assert "boards" in on["guest"]
    asked = PackageRequest.model_validate(on)
    assert (asked.archives[-1].name, asked.archives[-1].only) == ("boards", ("boards",))
    # As a lock has it, which leaves out what is the usual.
    assert on["archives"][-1] == asked.archives[-1].model_dump(mode="json", exclude_defaults=True)


def test_the_smoke_suite_asks_for_it(plans: Any) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SUITE], input=json.dumps(plans["debian"]), capture_output=True,
        text=True, check=True, cwd=ROOT,
    )  # fmt: skip
    asked = json.loads(done.stdout)
    assert asked["wiki.page"] == "Wiki serves its page"
    assert "wiki.units" in asked


def test_the_debian_guest_has_it(copy: Path, plans: Any, tmp_path: Path) -> None:
    place = tmp_path / "usr/lib/rave/plan.json"
    place.parent.mkdir(parents=True)
    place.write_text(json.dumps(plans["debian"]))
    program = copy / "infra/debian/generate.py"
    subprocess.run([sys.executable, "-I", program, tmp_path], check=True)
    units = tmp_path / "etc/systemd/system"
    assert "http.server --bind 127.0.0.1 3030\n" in (units / "wiki.service").read_text()
    limits = (units / "wiki.service.d/50-limits.conf").read_text()
    assert "MemoryMax=16M\n" in limits
    assert "OOMScoreAdjust=400\n" in limits
    assert (units / "multi-user.target.wants/wiki.service").is_symlink()
    assert "127.0.0.1:3030" in (tmp_path / "etc/ssh/sshd_config").read_text()
    scraped = json.loads((tmp_path / "etc/rave/prometheus/prometheus.yml").read_text())
    assert "wiki" in {job["job_name"] for job in scraped["scrape_configs"]}


def there(evaluator: Evaluator, copy: Path) -> Evaluator:
    """Return the evaluator for the copy."""
    return replace(evaluator, root=copy, seen={})


@pytest.mark.parametrize("mode", ["safe", "full"])
def test_the_nixos_guest_has_it(evaluator: Evaluator, copy: Path, mode: str) -> None:
    report = there(evaluator, copy).report("demo", mode)
    assert report["failed"] == []
    cap = {"safe": "16M", "full": "64M"}[mode]
    assert (report["limits"]["wiki"]["max"], report["limits"]["wiki"]["oom"]) == (cap, 400)
    assert "wiki.rave.localhost" in report["virtualHosts"]
    assert "wiki" in report["scraped"]
    assert report["secrets"]["wiki/secret-key"]["restartUnits"] == ["wiki.service"]
    assert "sops-install-secrets.service" in report["order"]["wiki"]["after"]


def test_the_judges_find_no_fault_with_it(with_nixpkgs: Evaluator, copy: Path) -> None:
    question = f"import {copy}/tests/nix/judged.nix {{ inherit lib config; }}"
    raw = there(with_nixpkgs, copy).ask(question, "demo")
    # Its own server says so; upstream has no option to read it from.
    raw["listeners"].append({"address": "127.0.0.1", "port": 3030})
    found = judges.verdicts(raw, "safe", Path(os.environ["RAVE_SOPS_NIX"]))
    assert {name: v.detail for name, v in found.items() if v.status != "pass"} == {}
