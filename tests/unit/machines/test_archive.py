"""What a hostile guest may send as a tar stream, and what of it gets onto the host."""

from __future__ import annotations

import io
import os
import stat
import tarfile
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rave_cli.errors import ExitCode, RaveError
from rave_cli.machines.transfer import packing, placing, unpacking
from rave_cli.machines.transfer.content import CONTENT, Copied, UnsafeContentError

if TYPE_CHECKING:
    from collections.abc import Callable


def member(name: str, kind: bytes = tarfile.REGTYPE, **fields: object) -> tarfile.TarInfo:
    """A header as a hostile guest may write it."""
    made = tarfile.TarInfo(name)
    made.type = kind
    made.mode = 0o755 if kind == tarfile.DIRTYPE else 0o644
    for key, value in fields.items():
        setattr(made, key, value)
    return made


FOLDER = member(".", tarfile.DIRTYPE)


def tar(*members: tarfile.TarInfo | tuple[tarfile.TarInfo, bytes]) -> io.BytesIO:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.GNU_FORMAT) as made:
        for entry in members:
            header, data = entry if isinstance(entry, tuple) else (entry, b"")
            header.size = len(data) or header.size
            made.addfile(header, io.BytesIO(data) if data else None)
    stream.seek(0)
    return stream


@pytest.fixture
def stage(tmp_path: Path) -> Path:
    place = tmp_path / "out" / "stage"
    place.mkdir(parents=True)
    (tmp_path / "victim").write_text("mine")
    return place


def unpack(stream: io.BytesIO, stage: Path, *, leave_out: bool = False) -> Copied:
    return unpacking.unpack(stream, stage, leave_out=leave_out, on_bytes=lambda _size: None)


def everything_below(place: Path) -> set[str]:
    return {str(path.relative_to(place)) for path in place.rglob("*")}


HOSTILE: dict[str, list[tarfile.TarInfo | tuple[tarfile.TarInfo, bytes]]] = {
    "up": [FOLDER, (member("../victim"), b"yours")],
    "up within": [FOLDER, member("a", tarfile.DIRTYPE), (member("a/../../victim"), b"yours")],
    "absolute": [FOLDER, (member("/tmp/victim"), b"yours")],
    "through a link": [
        FOLDER,
        member("sub", tarfile.DIRTYPE),
        member("l", tarfile.SYMTYPE, linkname="sub"),
        (member("l/victim"), b"yours"),
    ],
    "over a link": [FOLDER, member("l", tarfile.SYMTYPE, linkname="x"), (member("l"), b"yours")],
    "a folder over a link": [
        FOLDER,
        member("l", tarfile.SYMTYPE, linkname="."),
        member("l", tarfile.DIRTYPE),
    ],
    "a link that leads out": [FOLDER, member("l", tarfile.SYMTYPE, linkname="../victim")],
    "an absolute link": [FOLDER, member("l", tarfile.SYMTYPE, linkname="/etc/passwd")],
    "a link that leads out by another": [
        FOLDER,
        member("a", tarfile.DIRTYPE),
        member("a/up", tarfile.SYMTYPE, linkname=".."),
        member("l", tarfile.SYMTYPE, linkname="a/up/../victim"),
    ],
    "a second name": [FOLDER, (member("a"), b"x"), member("b", tarfile.LNKTYPE, linkname="a")],
    "a second name of ours": [FOLDER, member("b", tarfile.LNKTYPE, linkname="../../victim")],
    "a device": [FOLDER, member("d", tarfile.CHRTYPE, devmajor=1, devminor=3)],
    "a block device": [FOLDER, member("d", tarfile.BLKTYPE, devmajor=8)],
    "a pipe": [FOLDER, member("p", tarfile.FIFOTYPE)],
    "twice": [FOLDER, (member("a"), b"x"), (member("a"), b"y")],
    "no folder first": [member("l", tarfile.SYMTYPE, linkname="/etc/passwd")],
    "a file and more": [(member("a"), b"x"), (member("b"), b"y")],
    "in a file": [FOLDER, (member("a"), b"x"), (member("a/b"), b"y")],
    "in nothing": [FOLDER, (member("a/b"), b"y")],
    "nothing": [],
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_what_could_act_outside_is_refused(kind: str, stage: Path, tmp_path: Path) -> None:
    with pytest.raises(UnsafeContentError) as caught:
        unpack(tar(*HOSTILE[kind]), stage)
    assert caught.value.exit_code == ExitCode.CHECK_FAILED
    assert (tmp_path / "victim").read_text() == "mine"
    assert {path.name for path in tmp_path.iterdir()} == {"out", "victim"}


@pytest.mark.parametrize(
    "name", ["a device", "a pipe", "an absolute link", "a link that leads out"]
)
def test_it_can_be_left_out_instead(name: str, stage: Path) -> None:
    copied = unpack(tar(*HOSTILE[name], (member("good"), b"x")), stage, leave_out=True)
    assert everything_below(stage) == {CONTENT, f"{CONTENT}/good"}
    assert len(copied.left_out) == 1


def test_no_bit_gives_others_a_right_or_a_program_another_user(stage: Path) -> None:
    unpack(tar(FOLDER, (member("f", mode=0o7777), b"x"), member("d", tarfile.DIRTYPE, mode=0o7777)),
           stage)  # fmt: skip
    for name in ("f", "d"):
        assert stat.S_IMODE((stage / CONTENT / name).lstat().st_mode) == 0o755


def test_a_header_that_would_fill_the_memory_is_refused(stage: Path) -> None:
    for kind in (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME):
        huge = member("x", kind)
        huge.size = 8 << 30
        with pytest.raises(UnsafeContentError, match="a header of"):
            unpack(io.BytesIO(huge.tobuf(tarfile.GNU_FORMAT)), stage)


def test_headers_without_end_are_refused(stage: Path) -> None:
    long = member("x", tarfile.GNUTYPE_LONGNAME)
    long.size = 4
    block = long.tobuf(tarfile.GNU_FORMAT) + b"abc\0" + bytes(508)
    with pytest.raises(UnsafeContentError):
        unpack(io.BytesIO(block * 5000), stage)


def test_a_stream_that_goes_on_behind_its_end_is_refused(stage: Path) -> None:
    data = tar((member("a"), b"x")).getvalue() + bytes(3 << 20)
    with pytest.raises(UnsafeContentError, match="behind its end"):
        unpack(io.BytesIO(data), stage)


@given(st.binary(max_size=2000))
@settings(max_examples=50)
def test_whatever_comes_is_unpacked_or_refused(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as place:
        stage = Path(place) / "stage"
        stage.mkdir()
        with pytest.raises(RaveError):
            unpack(io.BytesIO(data), stage)
        assert list(Path(place).iterdir()) == [stage]


NAMES = st.lists(st.sampled_from(["a", "b", "..", ".", "", "l", "/"]), min_size=1, max_size=4)
KINDS = st.sampled_from([tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE])


@given(st.lists(st.tuples(NAMES, KINDS, NAMES), max_size=6))
@settings(max_examples=200, deadline=None)
def test_no_archive_writes_outside(entries: list[tuple[list[str], bytes, list[str]]]) -> None:
    """Whatever comes together, nothing is outside, and no link leads out."""
    with tempfile.TemporaryDirectory() as place:
        stage = Path(place) / "deep" / "stage"
        stage.mkdir(parents=True)
        around = [stage.parent, *(p / n for p in (Path(place), stage.parent) for n in "abl")]
        for path in around[1:]:
            path.touch()
        members = [member("/".join(n), k, linkname="/".join(t)) for n, k, t in entries]
        with suppress(UnsafeContentError):
            unpack(tar(FOLDER, *members), stage, leave_out=True)
        outside = [p for p in Path(place).rglob("*") if stage not in (p, *p.parents)]
        assert sorted(outside) == sorted(around)
        assert not any(path.stat().st_size for path in around[1:])
        for path in stage.rglob("*"):
            with suppress(OSError, RuntimeError):  # it leads nowhere, or to itself
                assert path.resolve(strict=True).is_relative_to(stage / CONTENT)


@pytest.mark.parametrize(
    ("target", "depth", "out"),
    [("a", 0, False), ("..", 0, True), ("..", 1, False), ("../a", 1, False), ("../../a", 1, True),
     ("/a", 5, True), ("a/..", 3, True), ("./a//b/.", 0, False), (".", 0, False)],
)  # fmt: skip
def test_a_link_is_judged_by_where_it_lies(target: str, depth: int, out: bool) -> None:
    assert unpacking.leads_out(target, depth) is out


# --- there and back ------------------------------------------------------------------------------


def fill_tree(place: Path) -> Path:
    tree = place / "tree"
    (tree / "sub" / "empty").mkdir(parents=True)
    (tree / "sub" / ("long" * 40)).write_bytes(b"x" * 100_000)
    (tree / "umläut ☃\n").write_text("hi")
    (tree / "run").write_text("#!/bin/sh\n")
    (tree / "run").chmod(0o750)
    (tree / "link").symlink_to("sub/empty")
    os.utime(tree / "run", (1e9, 1e9))
    os.utime(tree / "sub", (1e9, 1e9))
    return tree


def pack(source: Path, then: Callable[[tarfile.TarFile], None] = lambda _tar: None) -> io.BytesIO:
    stream = io.BytesIO()
    packing.pack(source, stream, end="end", on_bytes=lambda _size: None)
    stream.seek(0)
    return stream


def test_a_tree_comes_back_as_it_went(tmp_path: Path, stage: Path) -> None:
    tree = fill_tree(tmp_path)
    with tarfile.open(fileobj=pack(tree)) as packed:
        names = packed.getnames()
        assert names[-1] == "end"
        inner = io.BytesIO()
        with tarfile.open(fileobj=inner, mode="w", format=tarfile.GNU_FORMAT) as as_guest:
            for entry in packed.getmembers()[:-1]:
                data = packed.extractfile(entry) if entry.isreg() else None
                entry.name = "." + entry.name.removeprefix(CONTENT)
                as_guest.addfile(entry, data)
    inner.seek(0)
    copied = unpack(inner, stage)
    assert copied.size == packing.measure(tree) == 100_000 + 2 + 10
    assert copied.files == 4
    back = stage / CONTENT
    assert everything_below(back) == everything_below(tree)
    assert (back / "link").readlink() == Path("sub/empty")
    assert stat.S_IMODE((back / "run").stat().st_mode) == 0o750
    assert (back / "run").stat().st_mtime == (back / "sub").stat().st_mtime == 1e9


def test_only_a_link_that_is_named_is_followed(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("s")
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "l").symlink_to(tmp_path / "secret")
    with tarfile.open(fileobj=pack(tree)) as packed:
        assert packed.getmember(f"{CONTENT}/l").issym()
    with tarfile.open(fileobj=pack(tree / "l")) as packed:
        assert packed.getmember(CONTENT).isreg()


def test_what_is_no_file_is_told_and_left_out(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    os.mkfifo(tree / "p")
    copied = packing.pack(tree, io.BytesIO(), end="end", on_bytes=lambda _size: None)
    assert copied.left_out == [f"{tree}/p is no file that can be copied"]


def test_a_file_that_shrinks_meanwhile_is_told(tmp_path: Path) -> None:
    file = tmp_path / "f"
    file.write_bytes(bytes(1 << 20))

    def shrink(_size: int) -> None:
        os.truncate(file, 10)

    with pytest.raises(RaveError, match="became shorter"):
        packing.pack(file, io.BytesIO(), end="end", on_bytes=shrink)


# --- into its place ------------------------------------------------------------------------------


def staged(stage: Path) -> Path:
    unpack(tar(FOLDER, (member("a"), b"new"), member("d", tarfile.DIRTYPE), (member("d/x"), b"n")),
           stage)  # fmt: skip
    return stage


def test_a_folder_that_is_there_keeps_what_else_it_holds(tmp_path: Path, stage: Path) -> None:
    target = tmp_path / "target"
    (target / "d").mkdir(parents=True)
    (target / "a").write_text("old")
    (target / "d" / "y").write_text("kept")
    placing.place(staged(stage), target, folder=True)
    assert (target / "a").read_text() == "new"
    assert everything_below(target) == {"a", "d", "d/x", "d/y"}


def test_a_link_in_the_target_is_replaced_never_followed(tmp_path: Path, stage: Path) -> None:
    target = tmp_path / "target"
    target.mkdir()
    (target / "a").symlink_to(tmp_path / "victim")
    placing.place(staged(stage), target, folder=True)
    assert (tmp_path / "victim").read_text() == "mine"
    assert (target / "a").read_text() == "new"


def test_a_link_to_a_folder_in_the_target_is_in_the_way(tmp_path: Path, stage: Path) -> None:
    target, elsewhere = tmp_path / "target", tmp_path / "elsewhere"
    target.mkdir()
    elsewhere.mkdir()
    (target / "d").symlink_to(elsewhere)
    with pytest.raises(RaveError, match="is in the way"):
        placing.place(staged(stage), target, folder=True)
    assert not any(elsewhere.iterdir())


def test_a_file_does_not_take_the_place_of_a_folder(tmp_path: Path, stage: Path) -> None:
    target = tmp_path / "target"
    (target / "a").mkdir(parents=True)
    with pytest.raises(RaveError, match="is in the way"):
        placing.place(staged(stage), target, folder=True)


def test_more_files_than_are_wanted_are_not_written(tmp_path: Path) -> None:
    many = tar(FOLDER, *((member(f"f{number}", size=0), b"") for number in range(50)))
    with pytest.raises(UnsafeContentError, match="more than 10"):
        unpacking.unpack(
            many, tmp_path, leave_out=True, on_bytes=lambda _size: None, most_members=10
        )
    assert len([*(tmp_path / "content").iterdir()]) == 9
