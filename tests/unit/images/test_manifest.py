"""The manifest: round trip, and images that are not what was built."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, get_args

import pytest

from rave_cli.errors import ExitCode, RaveError
from rave_cli.images.manifest import (
    NAR_HASH,
    BootMethod,
    Fingerprint,
    Image,
    PlainName,
    Sha256,
    check_image,
    load_image,
    quick_check,
    save_image,
    sha256,
)
from rave_cli.transcript import record

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def image(tmp_path: Path) -> Image:
    qcow2, kernel = tmp_path / "i.qcow2", tmp_path / "vmlinuz"
    qcow2.write_bytes(b"an image")
    kernel.touch()
    boot = BootMethod("kernel", kernel, kernel, "root=/dev/vda")
    return Image(
        "demo", "debian", qcow2, sha256(qcow2), 8, str(tmp_path), f"sha256-{'A' * 43}=", boot
    )


def test_an_image_survives_writing_and_reading(image: Image, tmp_path: Path) -> None:
    for boot in (image.boot, BootMethod("disk", None, None, "")):
        plan, keys = tmp_path / "plan.json", ("0A" * 20, "0F" * 20)
        whole = replace(
            image, boot=boot, plan=plan, door=2, lock_sha256="cd" * 32, trusted_keys=keys
        )
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


ODD = [
    ("profile", "\x1b[2J"), ("base", ""), ("sha256", "x"), ("size", -1), ("nar_hash", ""),
    ("nar_hash", "sha256-x"), ("nar_hash", f"sha256-{'A' * 43}=\n"), ("nar_hash", "md5:x"),
    ("lock_sha256", "x"), ("trusted_keys", ["x"]), ("trusted_keys", "0A"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value"), ODD)
def test_what_no_transcript_could_say_of_an_image_is_refused_where_it_is_read(
    image: Image, tmp_path: Path, name: str, value: object
) -> None:
    place = tmp_path / "m.json"
    save_image(image, place)
    place.write_text(json.dumps(json.loads(place.read_text()) | {name: value}))
    with pytest.raises(RaveError, match=rf"the manifest in .* is damaged: {name}"):
        load_image(place)


@pytest.mark.parametrize("cmdline", ["root=/dev/vda\nforged", "\x1b[2J", "a=\u2028"])
def test_a_kernel_command_line_of_more_than_printable_ascii_is_refused(
    image: Image, tmp_path: Path, cmdline: str
) -> None:
    place = tmp_path / "m.json"
    save_image(image, place)
    document = json.loads(place.read_text())
    place.write_text(json.dumps(document | {"boot": document["boot"] | {"cmdline": cmdline}}))
    with pytest.raises(RaveError, match=r"damaged: boot\.cmdline"):
        load_image(place)


def test_what_a_manifest_may_say_a_transcript_can_say() -> None:
    """The patterns stand in both, for a transcript knows nothing of images."""
    assert f"^{record.SRI_SHA256.pattern}$" == NAR_HASH
    pairs = {PlainName: record.NAME, Sha256: record.SHA256, Fingerprint: record.FINGERPRINT}
    for kind, pattern in pairs.items():
        assert get_args(kind)[1].pattern == pattern.pattern


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
