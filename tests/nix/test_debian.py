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
from rave_cli.images import accepted, locking
from rave_cli.images.lock import PackageRequest
from rave_cli.images.nix import Nix
from rave_cli.profiles.catalog import Plan, parse
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


ACCEPTED = [
    tuple(more["accepted"]) for more in parse(BAKED.read_bytes()).profile("production").accepted
]


@pytest.mark.parametrize("profile", PROFILES)
def test_the_plan_of_an_image_with_something_accepted_is_the_one_that_the_cli_reads(
    profile: str,
) -> None:
    question = f"(import {ROOT}/infra/catalog).acceptedPlans.{profile}"
    text = nix("nix-instantiate", "--eval", "--strict", "--json", "-E", question)
    catalog = parse(BAKED.read_bytes())
    for made in map(Plan.model_validate, json.loads(text)):
        assert catalog.accepting(made.accepted).plan(profile, "debian") == made


@pytest.mark.parametrize("service", sorted({one for ids in ACCEPTED for one in ids}))
def test_what_is_locked_of_an_application_that_asks_first_is_what_it_asks_for(
    flake: Path, service: str
) -> None:
    asked = evaluate(flake, f"acceptedRequests.{service}")
    assert accepted.load(ROOT, service).requested.model_dump(mode="json") == asked


def test_an_image_of_whoever_accepts_nothing_has_no_part_of_what_asks_first(flake: Path) -> None:
    """The same derivation, whether or not there is such an application."""
    attribute = "packages.x86_64-linux.development-debian.drvPath"
    before = evaluate(flake, attribute)
    with_it = evaluate(flake, f"{attribute.replace('debian', 'debian-with-vibe-kanban')}")
    place = accepted.place(flake, "vibe-kanban")
    text = place.read_text()
    place.write_text(text.replace('"0.0.71"', '"0.0.72"'))
    try:
        assert evaluate(flake, attribute) == before != with_it
    finally:
        place.write_text(text)


@pytest.mark.parametrize(
    ("profile", "ids"), [*((one, ()) for one in PROFILES), *(("production", a) for a in ACCEPTED)]
)
def test_what_is_kept_of_a_service_and_what_its_units_write_is_on_the_data_disk(
    profile: str, ids: tuple[str, ...]
) -> None:
    named = " ".join(f'"{one}"' for one in ids)
    question = f'(import {ROOT}/infra/catalog).debianData "{profile}" [ {named} ]'
    data = json.loads(nix("nix-instantiate", "--eval", "--strict", "--json", "-E", question))
    catalog = parse(BAKED.read_bytes()).accepting(ids)
    services = catalog.plan(profile, "debian").services
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
