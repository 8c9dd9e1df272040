"""Installation on the NixOS base: sops-nix places the secrets, rave brings the files and proves it.

A program in systemctl's place notes what it is told, and does what sops-install-secrets does when
it is restarted: it decrypts the stored file with the stored key and puts a generation in force.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from rave_cli.secrets import sops
from rave_guest.secrets import generations, proofs
from rave_guest.secrets.places import Places
from tests.integration.secrets.test_guest import (
    FIRST,
    MACHINE,
    NAMES,
    SECOND,
    answered,
    calls,
    in_force,
    request,
)  # fmt: skip

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(os.getuid() != 0, reason="mounting a ramfs needs root"),
]

SYSTEMCTL = """\
#!{python}
import os, sys
sys.path.insert(0, {source!r})
from rave_guest.secrets import boot, generations
from rave_guest.secrets.places import Places
words = sys.argv[1:]
with open({here!r} + "/calls", "a") as notes:
    notes.write(" ".join(words) + "\\n")
keys = [{here!r} + "/handed", {here!r} + "/store/age.key"]
if "sops-install-secrets.service" in words and any(map(os.path.exists, keys)):
    place = generations.Place({here!r} + "/secrets.d", {here!r} + "/secrets")
    sys.exit(boot.boot(Places(
        plan={here!r} + "/plan.json", sops={sops!r}, store={here!r} + "/store",
        handed={here!r} + "/handed",
        lock={here!r} + "/lock.boot", systemctl="systemctl", generations=place)))
sys.exit(os.path.exists({here!r} + "/broken") and "redis.service" in words)
"""
SOPS_NIX = "restart sops-install-secrets.service"


def plan() -> dict[str, Any]:
    """Return a plan as a NixOS guest has it: what is proven restarts at once, the rest later."""
    return {
        "base": "nixos",
        "services": {},
        "databases": [],
        "secrets": {
            name: {
                "owner": "root",
                "mode": "0400",
                "path": f"/run/secrets/{name}",
                "refresh": ["redis.service"] if name == "redis/password" else [],
                "later": ["grafana.service"] if name == "deep/er/secret" else [],
            }
            for name in NAMES
        },
    }


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Places]:
    (tmp_path / "plan.json").write_text(json.dumps(plan()))
    program = tmp_path / "systemctl"
    binary = str(sops.locate().path)
    source = str(Path(generations.__file__).parents[2])
    program.write_text(
        SYSTEMCTL.format(python=sys.executable, source=source, here=str(tmp_path), sops=binary)
    )
    program.chmod(0o755)
    monkeypatch.setattr(proofs, "PATIENCE", 0.2)
    monkeypatch.setattr(proofs, "AT_REST", 0.1)
    place = generations.Place(str(tmp_path / "secrets.d"), str(tmp_path / "secrets"))
    yield Places(
        plan=str(tmp_path / "plan.json"), sops=binary, store=str(tmp_path / "store"),
        handed=str(tmp_path / "handed"),
        lock=str(tmp_path / "lock"), systemctl=str(program), generations=place,
    )  # fmt: skip
    if os.path.ismount(place.root):
        subprocess.run(["umount", place.root], check=True)


def kept(places: Places) -> tuple[bytes, bytes] | None:
    files = [Path(places.store) / name for name in ("age.key", "secrets.sops.yaml")]
    return (files[0].read_bytes(), files[1].read_bytes()) if all(map(Path.exists, files)) else None


def test_sops_nix_places_them_before_anything_restarts(places: Places) -> None:
    report = answered(places, request(FIRST))
    assert report["ok"], report
    assert in_force(places) == FIRST
    assert calls(places) == [
        SOPS_NIX,
        "restart redis.service",
        "restart --no-block grafana.service",
    ]
    assert kept(places) is not None


def test_only_what_changed_restarts(places: Places) -> None:
    answered(places, request(FIRST))
    calls(places)
    report = answered(places, request(SECOND))
    assert report["changed"] == ["redis/password"]
    assert calls(places) == [SOPS_NIX, "restart redis.service"]
    assert in_force(places) == SECOND


def test_a_first_installation_that_fails_leaves_nothing(places: Places) -> None:
    Path(places.plan).with_name("broken").touch()
    report = answered(places, request(FIRST))
    assert (report["ok"], report["stage"]) == (False, "refresh")
    assert kept(places) is None
    assert generations.current(places.generations) is None


def test_a_later_one_that_fails_puts_the_files_of_before_back(places: Places) -> None:
    answered(places, request(FIRST))
    before = kept(places)
    Path(places.plan).with_name("broken").touch()
    report = answered(places, request(SECOND))
    assert not report["ok"]
    assert kept(places) == before
    assert in_force(places) == FIRST


def test_an_identity_that_the_host_hands_over_stays_off_the_disk(places: Places) -> None:
    Path(places.handed).write_bytes(MACHINE.file_text())
    report = answered(places, request(FIRST))
    assert report["ok"], report
    assert in_force(places) == FIRST
    assert [path.name for path in Path(places.store).iterdir()] == ["secrets.sops.yaml"]


def test_one_that_an_older_host_left_does_not_come_back_with_a_failure(places: Places) -> None:
    answered(places, request(FIRST))
    Path(places.handed).write_bytes(MACHINE.file_text())
    Path(places.plan).with_name("broken").touch()
    assert not answered(places, request(SECOND))["ok"]
    assert in_force(places) == FIRST
    assert [path.name for path in Path(places.store).iterdir()] == ["secrets.sops.yaml"]
