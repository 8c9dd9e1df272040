"""The image builders' own formats: qcow2 read back by a second reader, cpio, merged trees."""

from __future__ import annotations

import lzma
import os
import re
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.debian import rendered

BUILDERS = Path(__file__).parents[3] / "infra/debian/builders"
SOURCES = BUILDERS.parent / "initrd"
sys.path.insert(0, str(BUILDERS))

import base  # noqa: E402
import guestroot  # noqa: E402
import image  # noqa: E402
import initrd  # noqa: E402
import qcow2  # noqa: E402

CLUSTER = qcow2.CLUSTER
layouts = st.sets(st.integers(0, 3 * qcow2.L2_ENTRIES), max_size=12)


def read_back(path: Path) -> dict[int, bytes]:
    """Return a qcow2's clusters by number: a reader written from the specification alone."""
    data = path.read_bytes()
    fields = struct.unpack_from(">4sIQIIQIIQQIIQ", data)
    magic, version, _, _, bits, size, crypt, l1_size, l1_at = fields[:9]
    assert (magic, version, bits, crypt) == (b"QFI\xfb", 3, 16, 0)
    found = {}
    for number, entry in enumerate(struct.unpack_from(f">{l1_size}Q", data, l1_at)):
        if not entry:
            continue
        assert entry >> 63
        table = struct.unpack_from(f">{CLUSTER // 8}Q", data, entry & ((1 << 56) - 1))
        for position, pointer in enumerate(table):
            if pointer:
                at = pointer & ((1 << 56) - 1)
                found[number * (CLUSTER // 8) + position] = data[at : at + CLUSTER]
    assert all(number * CLUSTER < size for number in found)
    return found


@settings(max_examples=20)
@given(layouts)
def test_an_image_holds_exactly_the_clusters_that_are_not_zero(
    tmp_path_factory: pytest.TempPathFactory, used: set[int]
) -> None:
    folder = tmp_path_factory.mktemp("qcow2")
    raw, target = folder / "raw", folder / "qcow2"
    with raw.open("wb") as stream:
        stream.truncate((3 * qcow2.L2_ENTRIES + 1) * CLUSTER)
        for index in used:
            stream.seek(index * CLUSTER + 100)
            stream.write(b"%d" % index)
    assert qcow2.write_qcow2(raw, target) == len(used)
    found = read_back(target)
    assert found.keys() == used
    assert all(found[i][100 : 100 + len(str(i))] == b"%d" % i for i in used)


def test_zeros_that_take_space_are_left_out(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    raw.write_bytes(bytes(4 * CLUSTER) + b"x" + bytes(CLUSTER - 1))
    assert qcow2.write_qcow2(raw, tmp_path / "q") == 1


def test_a_disk_of_odd_size_is_refused(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    raw.write_bytes(b"x")
    with pytest.raises(ValueError, match="not a multiple"):
        qcow2.write_qcow2(raw, tmp_path / "q")


@given(st.integers(1, 10**6))
def test_refcount_blocks_count_themselves(clusters: int) -> None:
    blocks = qcow2.refcount_blocks(clusters)
    assert blocks * qcow2.REFCOUNTS_PER_BLOCK >= clusters + blocks
    assert blocks == 1 or (blocks - 1) * qcow2.REFCOUNTS_PER_BLOCK < clusters + blocks


def test_a_cpio_archive_is_aligned_and_ends() -> None:
    data = initrd.cpio([("a", initrd.REGULAR | 0o644, b"12345"), ("b", initrd.DIRECTORY, b"")])
    assert len(data) % 4 == 0
    assert data.count(b"070701") == 3
    assert b"TRAILER!!!\0" in data


def test_what_services_keep_is_parted_from_the_system_and_a_link_leads_to_it(
    tmp_path: Path,
) -> None:
    root, data = tmp_path / "root", tmp_path / "data"
    (root / "var/lib/redis").mkdir(parents=True)
    (root / "var/lib/redis").chmod(0o750)
    (root / "var/lib/redis/dump").touch()
    (root / "var/lib/dpkg").mkdir()
    (root / "var/lib/nats").mkdir()
    kept = image.part(root, data, ["/var/lib/redis", "/var/lib/nats"])
    own = {"uid": os.getuid(), "gid": os.getgid()}
    assert kept[0] == {"name": "redis", **own, "mode": "0750", "filled": True}
    assert not kept[1]["filled"]
    assert (data / "redis/dump").exists()
    assert (data / "redis").stat().st_mode & 0o777 == 0o750
    assert str((root / "var/lib/redis").readlink()) == "/data/redis"
    assert (root / "data").is_dir()
    assert not list((root / "data").iterdir())
    assert (root / "var/lib/dpkg").is_dir()
    with pytest.raises(FileNotFoundError, match="nats"):
        image.part(tmp_path / "root/var", tmp_path / "other", ["/var/lib/nats"])


def test_a_guest_makes_the_directories_that_data_of_another_image_lack(tmp_path: Path) -> None:
    root, data = tmp_path / "root", tmp_path / "data"
    for name in ("redis", "nats"):
        (root / "var/lib" / name).mkdir(parents=True)
        (root / "var/lib" / name).chmod(0o710)
    image.part(root, data, ["/var/lib/redis", "/var/lib/nats"])
    (data / "nats").rmdir()
    (data / "redis").chmod(0o700)
    script = BUILDERS.parent / "rootfs/usr/lib/rave/before.d/data"
    places = {"/usr/lib/rave": root / "usr/lib/rave", "/data/": data}
    text = script.read_text()
    for place, here in places.items():
        text = text.replace(place, f"{here}/" if place.endswith("/") else str(here))
    subprocess.run(["sh", "-eu"], input=text.encode(), check=True)
    assert (data / "nats").stat().st_mode & 0o777 == 0o710
    # What is there stays as it is.
    assert (data / "redis").stat().st_mode & 0o777 == 0o700


def test_a_missing_module_fails_the_build(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="virtio_blk"):
        initrd.read_modules(tmp_path, ["virtio_blk"])


def test_modules_come_in_order_unpacked_and_without_the_built_in(tmp_path: Path) -> None:
    tree = tmp_path / "usr/lib/modules/6.12"
    (tree / "kernel/drivers").mkdir(parents=True)
    (tree / "modules.builtin").write_text("kernel/drivers/virtio/virtio-ring.ko\n")
    (tree / "kernel/drivers/virtio_blk.ko.xz").write_bytes(lzma.compress(b"block"))
    (tree / "kernel/drivers/failover.ko").write_bytes(b"failover")
    found = initrd.read_modules(tmp_path, ["virtio_ring", "virtio_blk", "failover"])
    assert list(found.items()) == [("virtio_blk.ko", b"block"), ("failover.ko", b"failover")]


def test_a_list_of_the_initrd_names_the_paths_of_its_modules_in_their_order() -> None:
    name, *modules = initrd.listed("first", {"b.ko": b"two", "a.ko": b"one"})
    assert name == ("modules/first", initrd.REGULAR | 0o644, b"/modules/b.ko\n/modules/a.ko\n")
    assert [(path, data) for path, _, data in modules] == [
        ("modules/b.ko", b"two"),
        ("modules/a.ko", b"one"),
    ]


def test_the_boot_waits_for_disk_network_and_ports_and_for_no_other_module() -> None:
    lists = {name: (SOURCES / "modules" / name).read_text().split() for name in initrd.LISTS}
    drivers = {"virtio_pci", "virtio_blk", "virtio_net", "virtio_console"}
    assert drivers <= set(lists["first"]), "rave-early asks for network and ports"
    assert all(word.startswith("virtio") or "failover" in word for word in lists["first"])
    assert not set(lists["first"]) & set(lists["later"])


def test_what_runs_beforehand_asks_for_its_version_and_is_what_a_unit_starts() -> None:
    """What the initrd runs once for nothing pays where a unit runs the very same file again."""
    units = "".join(text for path, text in rendered("demo").items() if path.endswith(".service"))
    started = set(re.findall(r"^ExecStart=(\S+)", units, re.MULTILINE))
    lines = [line.split(" ") for line in (SOURCES / "forerun").read_text().splitlines()]
    assert lines
    assert {program for program, _ in lines} <= started
    assert {word for _, word in lines} == {"--version"}


def package(folder: Path, compression: str) -> Path:
    """Return a package that dpkg made."""
    (folder / "tree/DEBIAN").mkdir(parents=True)
    control = "Package: p\nVersion: 1\nArchitecture: all\nMaintainer: a test\nDescription: p\n"
    (folder / "tree/DEBIAN/control").write_text(control)
    (folder / "tree/usr/bin").mkdir(parents=True)
    (folder / "tree/usr/bin/p").write_text("p" * 4321)
    deb = folder / "p.deb"
    subprocess.run(
        ["dpkg-deb", "--root-owner-group", f"-Z{compression}", "--build", folder / "tree", deb],
        check=True, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    return deb


@pytest.mark.parametrize("compression", ["xz", "none"])
def test_a_packages_files_are_read_as_dpkg_reads_them(tmp_path: Path, compression: str) -> None:
    deb = package(tmp_path, compression)
    with deb.open("rb") as stream, guestroot.open_data(stream) as data:
        read = data.read()
    argv = ["dpkg-deb", "--fsys-tarfile", str(deb)]
    expected = subprocess.run(argv, check=True, capture_output=True).stdout
    assert read.rstrip(b"\n\0") == expected.rstrip(b"\0")
    guestroot.extract_deb(deb, tmp_path)
    assert (tmp_path / "usr/bin/p").read_text() == "p" * 4321


def test_a_package_in_another_format_fails_the_build(tmp_path: Path) -> None:
    deb = package(tmp_path, "zstd")
    with pytest.raises(SystemExit, match=r"p\.deb holds neither data\.tar\.xz nor data\.tar"):
        guestroot.extract_deb(deb, tmp_path)


def test_merging_replaces_files_keeps_links_and_normalises_modes(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    (source / "etc").mkdir(parents=True)
    (source / "etc/script").write_text("new")
    (source / "etc/script").chmod(0o700)
    (source / "etc/plain").write_text("plain")
    (source / "etc/plain").chmod(0o600)
    (source / "etc/link").symlink_to("plain")
    (source / ".gitkeep").touch()
    (target / "etc").mkdir(parents=True)
    (target / "etc/script").write_text("old")
    (target / "etc/link").write_text("old")
    image.merge(source, target)
    assert (target / "etc/script").read_text() == "new"
    assert (target / "etc/script").stat().st_mode & 0o777 == 0o755
    assert (target / "etc/plain").stat().st_mode & 0o777 == 0o644
    assert (target / "etc/link").readlink() == Path("plain")
    assert not (target / ".gitkeep").exists()


def test_times_newer_than_the_epoch_are_set_to_it(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    for name, modified in {"old": 1_000, "d/new": 2_000_000_000}.items():
        path = tmp_path / name
        path.touch()
        os.utime(path, (modified, modified))
    (tmp_path / "link").symlink_to("nowhere")
    guestroot.clamp_times(tmp_path, 1_500_000_000)
    assert (tmp_path / "old").stat().st_mtime == 1_000
    assert (tmp_path / "d/new").stat().st_mtime == 1_500_000_000
    assert (tmp_path / "link").lstat().st_mtime == 1_500_000_000
    assert (tmp_path / "d").stat().st_mtime == 1_500_000_000


def test_links_that_lead_nowhere_are_dropped(tmp_path: Path) -> None:
    folder = tmp_path / "etc/ssl/certs"
    folder.mkdir(parents=True)
    (tmp_path / "usr").mkdir()
    (tmp_path / "usr/ca.pem").touch()
    (folder / "kept.pem").symlink_to("/usr/ca.pem")
    (folder / "also.0").symlink_to("kept.pem")
    (folder / "gone.pem").symlink_to("/usr/none.pem")
    (folder / "gone.0").symlink_to("none.pem")
    base.drop_dangling(tmp_path, folder)
    assert sorted(path.name for path in folder.iterdir()) == ["also.0", "kept.pem"]
