"""build_image as a whole, against a fake Nix and apt: reuse, locks, faults, nothing half done."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from rave_cli import paths
from rave_cli.errors import ExitCode, RaveError
from rave_cli.images import carried, locking
from rave_cli.images import lock as locks
from rave_cli.images import manifest as manifests
from rave_cli.images.build import ImagePlace, build_image, existing_image, update_lock
from rave_cli.records import NewerRecordError
from tests.unit.images.conftest import deb

if TYPE_CHECKING:
    from rave_cli.images.events import BuildEvent
    from rave_cli.images.lock import Lock
    from rave_cli.profiles.catalog import Plan
    from tests.unit.images.conftest import Host

ORIGIN = ("lock_sha256", "trusted_keys")
LOCK: dict[str, Any] = {
    "version": 2,
    "epoch": 1,
    "trusted": ["0F" * 20, "0A" * 20],
    "requested": {
        "archives": [{"name": "debian", "suites": ["bookworm"], "keys": ["0B" * 20]}],
        "guest": [],
        "kernel": "linux",
        "tools": [],
    },
    "packages": [
        {"name": "a", "version": "1", "file": "a", "sha256": "0" * 64, "architecture": "all",
         "role": "guest"}
    ],
}  # fmt: skip


def holding(host: Host, lock: dict[str, Any]) -> str:
    """Let the image's output hold this lock; return its sha256."""
    files = json.loads((host.folder / "behaviour.json").read_text())["files"]
    host.set(files=files | {"lock.json": json.dumps(lock)})
    return locks.digest(json.dumps(lock).encode())


def test_an_image_says_which_lock_it_was_made_from_and_whom_that_trusted(
    host: Host, plan: Plan, flake: Path
) -> None:
    digest = holding(host, LOCK)
    image = build_image(plan, flake=flake, mode="safe")
    assert image.lock_sha256 == digest
    assert image.trusted_keys == ("0A" * 20, "0F" * 20)
    assert existing_image(plan) == image


def test_an_image_whose_lock_did_not_say_whom_it_trusted_says_nothing_of_it(
    host: Host, plan: Plan, flake: Path
) -> None:
    holding(host, LOCK | {"requested": LOCK["requested"] | {"archives": []}})
    image = build_image(plan, flake=flake, mode="safe")
    assert (image.lock_sha256, image.trusted_keys) == (None, ())


def test_an_image_recorded_before_locks_were_is_completed_and_not_hashed_again(
    host: Host, plan: Plan, flake: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    holding(host, LOCK)
    first = build_image(plan, flake=flake, mode="safe")
    manifest = ImagePlace(plan.attr).manifest
    document = json.loads(manifest.read_text())
    older = {k: v for k, v in document.items() if k not in ORIGIN}
    manifest.write_text(json.dumps(older | {"schema_version": 2}))
    known = existing_image(plan)
    assert known is not None
    assert (known.lock_sha256, known.trusted_keys) == (None, ())
    monkeypatch.setattr("rave_cli.images.build.sha256", lambda path: pytest.fail("hashed again"))
    assert build_image(plan, flake=flake, mode="safe") == first
    assert existing_image(plan) == first


def test_a_first_build_fetches_adds_builds_and_records(host: Host, plan: Plan, flake: Path) -> None:
    image = build_image(plan, flake=flake, mode="safe")
    assert image.qcow2.read_text() == "an image"
    assert image.sha256 == manifests.sha256(image.qcow2)
    assert image.boot.cmdline == "root=/dev/vda"
    assert image.nar_hash == f"sha256-{'A' * 43}="
    added = host.calls("nix-store")[0]["words"]
    assert added[:2] == ["--add-fixed", "sha256"]
    assert len(added) == 4
    assert existing_image(plan) == image
    assert ImagePlace(plan.attr).out_link.readlink() == image.qcow2.parent


def test_what_is_built_is_not_built_fetched_or_hashed_again(
    host: Host, plan: Plan, flake: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = build_image(plan, flake=flake, mode="safe")
    host.remove("apt-get")
    host.remove("nix-store")
    monkeypatch.setattr("rave_cli.images.build.sha256", lambda path: pytest.fail("hashed again"))
    assert build_image(plan, flake=flake, mode="full") == first
    assert host.verbs("nix").count("build") == 1


def test_an_image_carries_the_plan_of_its_output_whatever_today_s_is(
    host: Host, plan: Plan, flake: Path
) -> None:
    moved = plan.model_copy(update={"absent": (*plan.absent, "yesterday")})
    image = build_image(moved, flake=flake, mode="safe")
    assert image.plan == Path(image.store_path) / "plan.json"
    assert carried.read(image.plan) == carried.Carried(door=2, plan=plan)
    assert image.door == 2
    assert existing_image(plan) == image


def older_flake(host: Host) -> None:
    """Let the image's output hold no plan."""
    files = json.loads((host.folder / "behaviour.json").read_text())["files"]
    host.set(files={name: text for name, text in files.items() if name != "plan.json"})


def test_an_image_of_an_older_flake_gets_the_plan_that_it_was_built_from(
    host: Host, plan: Plan, flake: Path
) -> None:
    older_flake(host)
    image = build_image(plan, flake=flake, mode="safe")
    assert image.plan == ImagePlace(plan.attr).plan
    assert image.plan.stat().st_mode & 0o777 == 0o600
    assert carried.read(image.plan) == carried.Carried(door=1, plan=plan)
    assert image.door == 1


def test_an_image_that_0_1_0_recorded_gets_its_plan_and_is_not_hashed_again(
    host: Host, plan: Plan, flake: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    older_flake(host)
    first = build_image(plan, flake=flake, mode="safe")
    manifest = ImagePlace(plan.attr).manifest
    document = json.loads(manifest.read_text())
    released = {k: v for k, v in document.items() if k not in {"plan", "door", *ORIGIN}}
    manifest.write_text(json.dumps(released | {"schema_version": 1}))
    known = existing_image(plan)
    assert known is not None
    assert (known.plan, known.door) == (None, 1)
    monkeypatch.setattr("rave_cli.images.build.sha256", lambda path: pytest.fail("hashed again"))
    assert build_image(plan, flake=flake, mode="safe") == first
    assert existing_image(plan) == first


def test_the_manifest_of_a_newer_rave_is_neither_used_nor_overwritten(
    host: Host, plan: Plan, flake: Path
) -> None:
    build_image(plan, flake=flake, mode="safe")
    manifest = ImagePlace(plan.attr).manifest
    text = manifest.read_text().replace('"schema_version": 4', '"schema_version": 5')
    manifest.write_text(text)
    with pytest.raises(NewerRecordError, match="newer rave"):
        build_image(plan, flake=flake, mode="safe")
    with pytest.raises(NewerRecordError, match="newer rave"):
        existing_image(plan)
    assert manifest.read_text() == text


def test_a_lost_root_is_made_again_without_fetching(host: Host, plan: Plan, flake: Path) -> None:
    build_image(plan, flake=flake, mode="safe")
    ImagePlace(plan.attr).out_link.unlink()
    assert existing_image(plan) is None
    host.remove("apt-get")
    build_image(plan, flake=flake, mode="safe")
    assert existing_image(plan) is not None


def test_a_manifest_that_is_not_understood_is_written_anew(
    host: Host, plan: Plan, flake: Path
) -> None:
    image = build_image(plan, flake=flake, mode="safe")
    ImagePlace(plan.attr).manifest.write_text("half")
    assert build_image(plan, flake=flake, mode="safe") == image


def test_a_failed_build_leaves_the_last_image_in_place(
    host: Host, plan: Plan, flake: Path, tmp_path: Path
) -> None:
    image = build_image(plan, flake=flake, mode="safe")
    host.set(fails=True, output=str(tmp_path / "store/other"))
    with pytest.raises(RaveError) as caught:
        build_image(plan, flake=flake, mode="safe")
    assert caught.value.exit_code == ExitCode.BUILD
    assert existing_image(plan) == image


def test_a_package_that_left_is_replaced_and_announced(host: Host, plan: Plan, flake: Path) -> None:
    host.set(
        offered={"bash": "1:5.3-1", "usr-is-merged": "37"},
        debs={"bash": deb("bash", "1:5.3-1"), "usr-is-merged": deb("usr-is-merged", "37")},
    )
    told: list[BuildEvent] = []
    build_image(plan, flake=flake, mode="safe", on_event=told.append)
    notices = [event.text for event in told if event.notice]
    assert "bash 1:5.2-1 -> 1:5.3-1" in notices[0]
    built = next(call for call in host.calls("nix") if call["words"][0] == "build")
    assert built["env"]["RAVE_DEBIAN_LOCK"] == str(locking.own_lock("demo"))
    told.clear()
    build_image(plan, flake=flake, mode="safe", on_event=told.append)
    assert "in place of the repository's lock" in next(e.text for e in told if e.notice)


def test_locked_refuses_what_would_change_the_lock(host: Host, plan: Plan, flake: Path) -> None:
    host.set(offered={"bash": "1:5.3-1"})
    with pytest.raises(RaveError, match="no longer have what the lock names: bash") as caught:
        build_image(plan, flake=flake, mode="safe", locked=True)
    assert caught.value.exit_code == ExitCode.BUILD
    assert not locking.own_lock("demo").exists()
    assert "build" not in host.verbs("nix")


def test_two_builds_of_one_image_do_not_meet(host: Host, plan: Plan, flake: Path) -> None:
    with (
        paths.lock(ImagePlace(plan.attr).lock, busy=""),
        pytest.raises(RaveError, match="another rave builds demo-debian") as caught,
    ):
        build_image(plan, flake=flake, mode="safe")
    assert caught.value.exit_code == ExitCode.HOST


def test_repair_builds_an_altered_image_again(host: Host, plan: Plan, flake: Path) -> None:
    image = build_image(plan, flake=flake, mode="safe")
    image.qcow2.write_text("an imagE")
    told: list[BuildEvent] = []
    again = build_image(plan, flake=flake, mode="safe", repair=True, on_event=told.append)
    assert again == image
    assert again.qcow2.read_text() == "an image"
    assert "was altered" in next(event.text for event in told if event.notice)
    assert host.calls("nix-store")[-1]["words"] == ["--repair-path", str(image.qcow2.parent)]


def test_a_truncated_image_is_not_handed_out(host: Host, plan: Plan, flake: Path) -> None:
    image = build_image(plan, flake=flake, mode="safe")
    image.qcow2.write_text("an")
    with pytest.raises(RaveError, match="2 bytes instead of 8") as caught:
        build_image(plan, flake=flake, mode="safe")
    assert caught.value.hint is not None
    assert caught.value.hint.endswith("--repair")
    assert build_image(plan, flake=flake, mode="safe", repair=True) == image


def test_the_nixos_base_asks_neither_apt_nor_a_lock(host: Host, plan: Plan, tmp_path: Path) -> None:
    host.set(files={"rave-demo.qcow2": "a nixos image"})
    nixos = plan.model_copy(update={"base": "nixos", "attr": "demo", "qcow": "rave-demo.qcow2"})
    image = build_image(nixos, flake=tmp_path, mode="safe")
    assert image.boot.kind == "disk"
    assert not host.calls("apt-get")
    assert not host.calls("nix-store")


def test_the_nixos_base_without_a_builder_that_has_kvm_is_refused_before_the_build(
    host: Host, plan: Plan, tmp_path: Path
) -> None:
    nixos = plan.model_copy(update={"base": "nixos", "attr": "demo", "qcow": "rave-demo.qcow2"})
    host.set(features=["benchmark"])
    with pytest.raises(RaveError, match="no Nix builder here has the feature kvm") as caught:
        build_image(nixos, flake=tmp_path, mode="safe")
    assert caught.value.exit_code == ExitCode.HOST
    assert "rave vm build-image --profile demo --base debian" in (caught.value.hint or "")
    assert "build" not in host.verbs("nix")
    # A remote builder may have it; Nix itself says so if it has not.
    host.set(files={"rave-demo.qcow2": "a nixos image"}, builders="ssh://builder x86_64-linux")
    assert build_image(nixos, flake=tmp_path, mode="safe").qcow2.is_file()


def test_an_output_without_an_image_is_a_build_fault(host: Host, plan: Plan, flake: Path) -> None:
    host.set(files={"readme": "no image"})
    with pytest.raises(RaveError, match="holds no rave-demo-debian") as caught:
        build_image(plan, flake=flake, mode="safe")
    assert caught.value.exit_code == ExitCode.BUILD


@pytest.mark.parametrize("text", ["", "[]", "{}", json.dumps({"kind": "floppy", "cmdline": ""})])
def test_a_boot_record_that_is_not_understood_is_a_build_fault(
    host: Host, plan: Plan, flake: Path, text: str
) -> None:
    host.set(files={"rave-demo-debian.qcow2": "an image", "boot.json": text})
    with pytest.raises(RaveError, match="does not say how to boot"):
        build_image(plan, flake=flake, mode="safe")


def test_an_existing_image_is_not_one_that_vanished(host: Host, plan: Plan, flake: Path) -> None:
    image = build_image(plan, flake=flake, mode="safe")
    image.qcow2.unlink()
    assert existing_image(plan) is None
    assert existing_image(replace_attr(plan)) is None


def replace_attr(plan: Plan) -> Plan:
    """Return the plan of an image that was never built."""
    return plan.model_copy(update={"attr": "other"})


def test_updating_the_lock_writes_the_repositorys_and_tells_the_difference(
    host: Host, plan: Plan, flake: Path, locked: Lock
) -> None:
    host.set(
        offered={"bash": "1:5.3-1", "usr-is-merged": "37"},
        debs={"bash": deb("bash", "1:5.3-1"), "usr-is-merged": deb("usr-is-merged", "37")},
    )
    place, changes = update_lock(plan, flake=flake)
    assert place == locking.repository_lock(flake, "demo")
    assert "bash 1:5.2-1 -> 1:5.3-1" in map(str, changes)
    written = locks.parse(place.read_bytes(), place)
    assert written.replaces is None
    assert written != locked


def test_a_full_disk_keeps_the_repositorys_lock(
    host: Host, plan: Plan, flake: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = locking.repository_lock(flake, "demo").read_bytes()
    host.set(apt_fault={"download": "E: Write error - write (28: No space left on device)\n"})
    with pytest.raises(RaveError, match="no space left"):
        update_lock(plan, flake=flake)
    assert locking.repository_lock(flake, "demo").read_bytes() == before


def test_the_image_is_one_frozen_value(host: Host, plan: Plan, flake: Path) -> None:
    image = build_image(plan, flake=flake, mode="safe")
    assert replace(image) == image
    document = image.document()
    assert document["qcow2"] == str(image.qcow2)
    assert document["boot"]["kind"] == "kernel"
