"""The manifest: round trip, and images that are not what was built."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from rave_cli.errors import ExitCode, RaveError
from rave_cli.images.manifest import (
    BootMethod,
    Image,
    check_image,
    load_image,
    quick_check,
    save_image,
    sha256,
)

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def image(tmp_path: Path) -> Image:
    qcow2, kernel = tmp_path / "i.qcow2", tmp_path / "vmlinuz"
    qcow2.write_bytes(b"an image")
    kernel.touch()
    boot = BootMethod("kernel", kernel, kernel, "root=/dev/vda")
    return Image("demo", "debian", qcow2, sha256(qcow2), 8, str(tmp_path), "sha256-x", boot)


def test_an_image_survives_writing_and_reading(image: Image, tmp_path: Path) -> None:
    for boot in (image.boot, BootMethod("disk", None, None, "")):
        whole = replace(image, boot=boot, plan=tmp_path / "plan.json", door=2)
        save_image(whole, tmp_path / "m.json")
        assert load_image(tmp_path / "m.json") == whole


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"schema_version": 2}', "\x00"])
def test_what_is_not_a_manifest_is_refused(text: str, tmp_path: Path) -> None:
    place = tmp_path / "m.json"
    place.write_text(text)
    with pytest.raises(RaveError, match=r"the manifest in .* is damaged") as caught:
        load_image(place)
    assert caught.value.exit_code == ExitCode.HOST
    assert str(caught.value.hint).startswith("rave vm build-image ")


def test_a_whole_image_passes_both_checks(image: Image) -> None:
    quick_check(image)
    check_image(image)


def test_a_truncated_image_is_told_at_once(image: Image) -> None:
    image.qcow2.write_bytes(b"an im")
    for check in (quick_check, check_image):
        with pytest.raises(RaveError, match="5 bytes instead of 8") as caught:
            check(image)
        assert caught.value.hint == ("rave vm build-image --profile demo --base debian --repair")


def test_an_altered_image_is_told_by_the_full_check(image: Image) -> None:
    image.qcow2.write_bytes(b"an imagE")
    quick_check(image)
    with pytest.raises(RaveError, match="has sha256"):
        check_image(image)


def test_a_missing_file_is_told(image: Image) -> None:
    assert image.boot.kernel is not None
    image.boot.kernel.unlink()
    with pytest.raises(RaveError, match="vmlinuz is gone"):
        quick_check(image)
