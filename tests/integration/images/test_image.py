"""The Debian image with the real Nix: byte for byte, without a network, and fit to be a guest."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from rave_cli.images import carried
from rave_cli.images import lock as locks
from rave_cli.images import nix as driver
from rave_cli.images.manifest import check_image
from rave_cli.profiles.catalog import Plan
from tests.integration.images.conftest import ROOT

if TYPE_CHECKING:
    from rave_cli.images.manifest import Image
    from rave_cli.images.nix import Nix

Built = tuple["Image", "Nix", str]

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(os.getuid() != 0, reason="the Debian base is built as root"),
]


def nix(built: Built, *words: str, **extra: str) -> subprocess.CompletedProcess[str]:
    """Run Nix as the driver does."""
    env = dict(os.environ) | built[1].environment() | extra
    impure = ["--impure"] if built[1].lock else []
    return subprocess.run([*words, *impure], env=env, capture_output=True, text=True, check=False)


def debugfs(disk: Path, request: str) -> str:
    """Ask the file system in the image something."""
    done = subprocess.run(
        ["debugfs", "-R", request, disk], capture_output=True, text=True, check=True
    )
    return done.stdout


def test_the_image_is_what_the_manifest_says(built: Built) -> None:
    image = built[0]
    check_image(image)
    assert image.boot.kind == "kernel"
    assert image.boot.kernel is not None
    assert image.boot.kernel.read_bytes()[0x202:0x206] == b"HdrS"
    assert image.boot.initrd is not None
    assert image.boot.initrd.read_bytes().startswith(b"070701")


@pytest.mark.parametrize("what", ["image", "base"])
def test_a_second_build_elsewhere_and_without_a_network_is_the_same(
    built: Built, tmp_path: Path, what: str
) -> None:
    target = built[2] if what == "image" else base_of(built)
    done = nix(
        built, "unshare", "--net", "nix", "build", "--no-link", "--rebuild", target,
        TMPDIR=str(tmp_path),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]


def base_of(built: Built) -> str:
    """Return the derivation of the base that the image was made from."""
    text = nix(built, "nix", "show-derivation", built[2]).stdout
    (derivation,) = json.loads(text).values()
    return str(next(path for path in derivation["inputDrvs"] if path.endswith("-base.drv")))


def test_the_store_path_does_not_depend_on_where_the_checkout_lies(
    built: Built, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "a/longer/way/to-the-checkout"
    shutil.copytree(built[2].partition("#")[0], elsewhere, symlinks=True)
    (elsewhere / "infra/debian/rootfs/__pycache__").mkdir()
    (elsewhere / "notes.txt").write_text("not of the image")
    assert built[1].output(f"path:{elsewhere}#demo-debian").path == built[0].store_path


def test_an_unchanged_image_is_known_without_a_build(built: Built) -> None:
    found = built[1].output(built[2])
    assert found.nar_hash == built[0].nar_hash


def test_a_change_of_the_guests_code_keeps_the_base(built: Built, tmp_path: Path) -> None:
    shutil.copytree(built[2].partition("#")[0], tmp_path / "flake", symlinks=True)
    with (tmp_path / "flake/src/rave_guest/__init__.py").open("a") as stream:
        stream.write("# changed\n")
    changed = (built[0], built[1], f"{tmp_path / 'flake'}#demo-debian")
    assert built[1].output(changed[2]).path != built[0].store_path
    assert base_of(changed) == base_of(built)


def test_qemu_finds_no_fault_with_the_qcow2(built: Built) -> None:
    done = subprocess.run(
        ["qemu-img", "check", "--output=json", built[0].qcow2], capture_output=True, check=True
    )
    report = json.loads(done.stdout)
    assert report["check-errors"] == 0
    assert "corruptions" not in report
    assert "leaks" not in report


def test_e2fsck_finds_no_fault_with_the_file_systems(disk: Path, data: Path) -> None:
    for place in (disk, data):
        argv = ("e2fsck", "-fn", place)
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout


def test_nothing_in_the_image_is_a_secret_or_an_identity(disk: Path) -> None:
    assert debugfs(disk, "cat /etc/machine-id") == ""
    assert "ssh_host" not in debugfs(disk, "ls /etc/ssh")
    assert "snakeoil" not in debugfs(disk, "ls /etc/ssl/private")
    for line in debugfs(disk, "cat /etc/shadow").splitlines():
        assert re.fullmatch(r"[*!]+", line.split(":")[1]), line.split(":")[0]


def test_owners_and_setuid_bits_survive(disk: Path, data: Path) -> None:
    assert "Mode:  04755" in debugfs(disk, "stat /usr/bin/sudo")
    passwd = debugfs(disk, "cat /etc/passwd")
    uid = re.search(r"^postgres:[^:]*:(\d+):", passwd, re.MULTILINE)
    assert uid is not None
    assert re.search(rf"User: +{uid[1]}\b", debugfs(data, "stat /postgresql/15/main"))
    assert "/data/postgresql" in debugfs(disk, "stat /var/lib/postgresql")
    assert debugfs(disk, "ea_list /usr/bin/ping").find("security.capability") >= 0


def test_no_time_stamp_is_newer_than_the_newest_package(
    disk: Path, data: Path, built: Built
) -> None:
    lock = json.loads((ROOT / "infra/debian/locks/demo.json").read_text())
    if built[1].lock is not None:
        lock = json.loads(built[1].lock.read_text())
    for path in ("/", "/etc/shadow", "/usr/lib/rave/plan.json", "/var/lib/postgresql"):
        for stamp in re.findall(r"[acm]time: 0x([0-9a-f]{8})", debugfs(disk, f"stat {path}")):
            assert int(stamp, 16) <= lock["epoch"]
    for path in ("/", "/postgresql/15/main", "/rave"):
        for stamp in re.findall(r"[acm]time: 0x([0-9a-f]{8})", debugfs(data, f"stat {path}")):
            assert int(stamp, 16) <= lock["epoch"]


def test_the_image_says_what_it_was_made_of_and_whose_signatures_counted(built: Built) -> None:
    place = Path(built[0].store_path) / "lock.json"
    lock = locks.parse(place.read_bytes(), place)
    assert lock.trusted == ()
    assert {key for archive in lock.requested.archives for key in archive.keys}
    assert len(lock.packages) > 100


def test_the_plan_of_the_image_is_the_catalogs(disk: Path, built: Built) -> None:
    plan = json.loads(debugfs(disk, "cat /usr/lib/rave/plan.json"))
    # What the portal shows of each service comes from the lock.
    place = Path(built[0].store_path) / "lock.json"
    locked = {package.version for package in locks.parse(place.read_bytes(), place).packages}
    versions = plan.pop("versions")
    assert set(versions.values()) <= locked
    assert set(plan["services"]) >= set(versions) >= {"postgresql", "redis", "nginx"}
    assert (
        plan
        == built[1].evaluate(f"{built[2].partition('#')[0]}#profileMetadata")["profiles"]["demo"][
            "bases"
        ]["debian"]
    )
    # The host goes by the same, which the image's output carries.
    assert built[0].plan == Path(built[0].store_path) / "plan.json"
    assert carried.read(built[0].plan) == carried.Carried(
        door=built[0].door, plan=Plan.model_validate(plan)
    )


def test_describe_names_the_nix_of_this_host() -> None:
    assert "2." in driver.describe()
