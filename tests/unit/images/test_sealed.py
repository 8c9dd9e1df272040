"""The builder of sets: what it takes of wheels and tarballs, and what a set's program sees."""

from __future__ import annotations

import io
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.integration.images.index import Wheel

BUILDERS = Path(__file__).parents[3] / "infra/debian/builders"
sys.path.insert(0, str(BUILDERS))

import sealed  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Mapping

SEES = """
import sys
def main():
    print(__name__, sys.argv[1:], *sys.path, sep="\\n")
    return 3
if __name__ == "__main__":
    main()
"""


def tarball(folder: Path, files: Mapping[str, str], *links: str) -> Path:
    path = folder / "tool-1.0.0.tgz"
    with tarfile.open(path, "w:gz") as archive:
        for name, text in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(text.encode())
            entry.mode = 0o755 if name.endswith(".sh") else 0o644
            archive.addfile(entry, io.BytesIO(text.encode()))
        for name in links:
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = tarfile.SYMTYPE, "/etc/passwd"
            archive.addfile(entry)
    return path


@pytest.fixture
def target(tmp_path: Path) -> Path:
    place = tmp_path / "sets/wiki"
    place.mkdir(parents=True)
    return place


def fill(target: Path, folder: Path, *wheels: Wheel, tarballs: Mapping[str, Path] = {}) -> None:
    spec: dict[str, Any] = {
        "wheels": [{"name": wheel.name, "file": str(wheel.write(folder))} for wheel in wheels],
        "tarballs": [{"name": name, "file": str(path)} for name, path in tarballs.items()],
    }
    sealed.fill(target, spec)


def run(target: Path, *words: str) -> tuple[int, list[str]]:
    """Run a set's program as a unit of the guest does."""
    done = subprocess.run(
        [sys.executable, "-IS", target, *words], capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout.splitlines()


def test_a_program_of_a_set_sees_the_set_and_pythons_own_library_alone(
    target: Path, tmp_path: Path
) -> None:
    fill(target, tmp_path, Wheel("seeing", files={"sees.py": SEES}))
    status, lines = run(target, "sees", "--port", "1")
    assert (status, lines[:2]) == (0, ["__main__", "['--port', '1']"])
    assert lines[2] == str(target)
    assert not [path for path in lines[3:] if "-packages" in path]


def test_a_function_is_called_as_an_entry_points_program_calls_it(
    target: Path, tmp_path: Path
) -> None:
    fill(target, tmp_path, Wheel("seeing", files={"sees.py": SEES}))
    assert run(target, "sees:main", "word")[0] == 3
    assert run(target, "sees:main", "word")[1][:2] == ["sees", "['word']"]


def test_what_has_no_place_in_a_set_is_left_out(target: Path, tmp_path: Path) -> None:
    data = "wiki-1.0.data"
    files = {
        f"{data}/scripts/wiki": "#!python\n", f"{data}/headers/wiki.h": "",
        f"{data}/data/share/man/wiki.1": "", f"{data}/platlib/wiki_speedups.so": "binary",
        f"{data}/purelib/wiki_more.py": "",
    }  # fmt: skip
    fill(target, tmp_path, Wheel("wiki", files=files))
    assert {path.name for path in target.iterdir()} == {
        "__main__.py", "wiki.py", "wiki-1.0.dist-info", "wiki_speedups.so", "wiki_more.py",
    }  # fmt: skip


def test_modes_come_from_the_executable_bit(target: Path, tmp_path: Path) -> None:
    wheel = Wheel("node", files={"bin/node": "binary"}, executable=frozenset({"bin/node"}))
    package = tarball(tmp_path, {"package/package.json": "{}", "package/run.sh": "#!/bin/sh\n"})
    fill(target, tmp_path, wheel, tarballs={"@a/tool": package})
    tool = target / "node_modules/@a/tool"
    modes = [path.stat().st_mode & 0o777 for path in (
        target / "bin/node", target / "node.py", tool / "run.sh", tool / "package.json",
    )]  # fmt: skip
    assert modes == [0o755, 0o644, 0o755, 0o644]


def test_two_wheels_with_one_file_may_agree_and_must_not_differ(
    target: Path, tmp_path: Path
) -> None:
    first = Wheel("a", files={"tests/__init__.py": ""})
    fill(target, tmp_path, first, Wheel("b", files={"tests/__init__.py": ""}))
    with pytest.raises(SystemExit, match=r"^c brings __init__\.py, of which the set has another"):
        fill(target, tmp_path, Wheel("c", files={"tests/__init__.py": "other = 1\n"}))


def test_the_launchers_name_is_taken(target: Path, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="__main__"):
        fill(target, tmp_path, Wheel("a", files={"__main__.py": ""}))


@pytest.mark.parametrize("name", ["../evil.py", "/evil.py", "a/../../evil.py"])
def test_nothing_is_written_outside_a_set(target: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(SystemExit, match="outside itself"):
        fill(target, tmp_path, Wheel("a", files={name: ""}))
    with pytest.raises(SystemExit, match="outside itself"):
        fill(target, tmp_path, tarballs={"tool": tarball(tmp_path, {name: ""})})


def test_a_tarballs_links_are_left_out(target: Path, tmp_path: Path) -> None:
    package = tarball(tmp_path, {"package/package.json": "{}"}, "package/passwd")
    fill(target, tmp_path, tarballs={"tool": package})
    assert [path.name for path in (target / "node_modules/tool").iterdir()] == ["package.json"]


def test_a_set_has_one_time_stamp(target: Path, tmp_path: Path) -> None:
    fill(target, tmp_path, Wheel("wiki"))
    sealed.settle(target, 1_700_000_000)
    assert {path.stat().st_mtime for path in (target, *target.rglob("*"))} == {1_700_000_000}
