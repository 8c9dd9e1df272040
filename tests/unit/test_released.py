"""Files of released versions of rave are read for ever."""

from __future__ import annotations

import json
import shutil
import tomllib
from pathlib import Path

import pytest

from rave_cli import paths, settings
from rave_cli.images import lock as locks
from rave_cli.images.build import ImagePlace, existing_image
from rave_cli.images.manifest import load_image
from rave_cli.machines import store
from rave_cli.machines.qemu.accelerator import ANSWER
from rave_cli.machines.spec import machines_dir
from rave_cli.profiles.catalog import parse
from rave_cli.profiles.names import BAKED
from rave_cli.secrets import ledger

RELEASED = Path(__file__).parents[1] / "fixtures" / "released-0.1.0"


def put(name: str, place: Path) -> Path:
    """Put a file of 0.1.0 where it lay."""
    place.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(RELEASED / name, place)
    return place


@pytest.mark.parametrize(("base", "name"), [("debian", "web"), ("nixos", "lab")])
def test_a_machine_is_read_and_listed(home: Path, base: str, name: str) -> None:
    put(f"machine-{base}.json", machines_dir() / name / "machine.json")
    machine = store.load(name)
    assert (machine.spec.base, machine.spec.profile) == (base, "demo")
    assert machine.spec.mode == ("safe" if base == "debian" else "full")
    assert {forward.guest for forward in machine.spec.forwards} == {22, 3002}
    assert (machine.spec.image.plan, machine.spec.image.door) == (None, 1)
    assert store.list_machines() == [machine]


def test_reading_a_machine_leaves_its_record_for_the_rave_of_before(home: Path) -> None:
    place = put("machine-debian.json", machines_dir() / "web" / "machine.json")
    before = place.read_bytes()
    store.load("web")
    assert place.read_bytes() == before


@pytest.mark.parametrize(("base", "boots"), [("debian", "kernel"), ("nixos", "disk")])
def test_an_image_is_known(home: Path, base: str, boots: str) -> None:
    plan = parse(BAKED.read_bytes()).plan("demo", base)
    image = load_image(put(f"image-{base}.json", ImagePlace(plan.attr).manifest))
    assert (image.base, image.boot.kind, image.plan, image.door) == (base, boots, None, 1)
    # Its store path is not on this host.
    assert existing_image(plan) is None


def test_the_ledger_is_remembered_and_goes_on(home: Path) -> None:
    put("ledger.json", ledger.place())
    known = Path("/home/operator/.config/rave/secrets.sops.yaml")
    entry = ledger.recall(known)
    assert entry is not None
    assert entry.lastmodified == "2026-11-25T12:58:39+00:00"
    ledger.record(home / "other", entry)
    assert ledger.recall(known) == ledger.recall(home / "other") == entry


def test_the_probe_s_answer_counts(home: Path) -> None:
    place = put("accelerator.json", paths.cache_dir() / "accelerator.json")
    known = ANSWER.read(place, hint="")
    assert known.accelerator.kind == "tcg"
    assert set(known.key) == {"boot", "qemu", "kvm"}


def test_the_configuration_counts(home: Path) -> None:
    place = put("config.toml", paths.config_dir() / "config.toml")
    found = settings.load(start=home)
    assert found.mode == "full"
    assert found.validation_timeout == 900
    named = [name.upper() for name in tomllib.loads(place.read_text())]
    assert len(named) == 7
    assert {found.values[name].origin for name in named} == {str(place)}


def test_a_lock_is_read() -> None:
    place = RELEASED / "lock.json"
    found = locks.parse(place.read_bytes(), place)
    document = json.loads(place.read_text())
    assert len(found.packages) == len(document["packages"])
    assert found.epoch == document["epoch"]
