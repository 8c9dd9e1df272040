"""The Debian outputs, evaluated by Nix alone: the locks fit, and no input is forced."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from rave_cli.errors import ExitCode, RaveError
from rave_cli.images import locking
from rave_cli.images.lock import PackageRequest
from rave_cli.images.nix import Nix
from rave_cli.profiles.catalog import parse
from rave_cli.profiles.names import BAKED
from rave_cli.profiles.source import installable, load_catalog
from tests.nix.conftest import PROFILES, ROOT, EvaluationError, nix

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def flake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the Debian base whose inputs cannot be fetched from anywhere."""
    folder = tmp_path_factory.mktemp("flake")
    shutil.copytree(ROOT / "infra", folder / "infra", symlinks=True)
    for package in ("rave_guest", "rave_platform"):
        shutil.copytree(ROOT / "src" / package, folder / "src" / package)
    shutil.copyfile(ROOT / "flake.nix", folder / "flake.nix")
    lock = json.loads((ROOT / "flake.lock").read_text())
    for node in lock["nodes"].values():
        if "locked" in node:
            node["locked"] |= {"owner": "nobody", "narHash": "sha256-" + "A" * 43 + "="}
    (folder / "flake.lock").write_text(json.dumps(lock))
    return folder


def evaluate(flake: Path, attribute: str) -> Any:
    return json.loads(nix("nix", "--offline", "eval", "--json", f"path:{flake}#{attribute}"))


@pytest.mark.parametrize("profile", PROFILES)
def test_the_lock_was_made_for_what_the_profile_asks(flake: Path, profile: str) -> None:
    asked = PackageRequest.model_validate(evaluate(flake, f"debianRequests.{profile}"))
    assert locking.choose(ROOT, profile, locked=True).lock.requested == asked


@pytest.mark.parametrize("profile", PROFILES)
def test_an_image_evaluates_without_any_input(flake: Path, profile: str) -> None:
    path = evaluate(flake, f"packages.x86_64-linux.{profile}-debian.outPath")
    assert path.endswith(f"-rave-debian-image-{profile}")


@pytest.mark.parametrize("profile", PROFILES)
def test_what_is_kept_of_a_service_and_what_its_units_write_is_on_the_data_disk(
    profile: str,
) -> None:
    question = f'(import {ROOT}/infra/catalog).debianData "{profile}"'
    data = json.loads(nix("nix-instantiate", "--eval", "--strict", "--json", "-E", question))
    services = parse(BAKED.read_bytes()).plan(profile, "debian").services
    places = {service.state.path for service in services.values() if service.state}
    for name in services:
        for unit in (ROOT / "infra/debian/services" / name).rglob("*.service"):
            places |= set(re.findall(r"(?<=[= ])/var/lib/[\w/.-]+", unit.read_text()))
    # Bodies of requests that are under way.
    places -= {"/var/lib/nginx"}
    lost = {place for place in places if not any(f"{place}/".startswith(f"{d}/") for d in data)}
    assert lost == set()
    assert len({Path(place).name for place in data}) == len(data), "links lead to their last names"


def test_a_checkout_whose_path_has_blanks_is_the_same_flake(
    flake: Path, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    place = shutil.copytree(flake, tmp_path / "my work, ünd more", symlinks=True)
    driver = Nix("debian", "safe")
    with pytest.raises(RaveError, match="more than letters") as caught:
        installable(place, "demo-debian")
    assert caught.value.exit_code == ExitCode.USAGE
    who = ["-c", "user.name=a test", "-c", "user.email=test@example.org"]
    for words in (["init", "--quiet"], ["add", "."], [*who, "commit", "--quiet", "-m", "all"]):
        subprocess.run(["git", "-C", place, *words], check=True)
    found = driver.output(installable(place, "demo-debian"))
    assert found.path == driver.output(f"path:{flake}#demo-debian").path
    assert load_catalog(place) == load_catalog(flake)


def test_a_lock_for_other_packages_is_refused_with_the_way_out(flake: Path, tmp_path: Path) -> None:
    folder = tmp_path / "flake"
    shutil.copytree(flake, folder, symlinks=True)
    packages = folder / "infra/debian/packages.nix"
    packages.write_text(packages.read_text().replace('"systemd"', '"systemd" "nano"', 1))
    with pytest.raises(EvaluationError, match="rave vm lock-closure --profile demo"):
        evaluate(folder, "packages.x86_64-linux.demo-debian.outPath")


def test_a_profile_without_a_lock_says_how_to_make_one(flake: Path, tmp_path: Path) -> None:
    folder = tmp_path / "flake"
    shutil.copytree(flake, folder, symlinks=True)
    (folder / "infra/debian/locks/demo.json").unlink()
    with pytest.raises(EvaluationError, match="rave vm lock-closure --profile demo"):
        evaluate(folder, "packages.x86_64-linux.demo-debian.outPath")
