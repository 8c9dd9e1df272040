"""The real pip against an index made for the test: what is chosen, fetched, kept and refused."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from rave_cli.errors import ExitCode, RaveError
from rave_cli.images import closure, files, sets, wheels
from rave_cli.images import lock as locks
from rave_cli.images.events import ignore
from rave_cli.images.lock import Lock, Package, PackageRequest
from rave_cli.images.wheels import GuestPython
from tests.integration.images.index import Index, Wheel, serve

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from rave_cli.images.lock import File

pytestmark = pytest.mark.integration

# pip reads conditions by the Python that it runs on, so the guest of these tests has ours.
SERIES = f"{sys.version_info.major}.{sys.version_info.minor}"
TAG = f"cp{SERIES.replace('.', '')}"
GUEST = GuestPython(f"{SERIES}.2", 36)
WIKI = Wheel("wiki", requires=("Markup.Tools>=1", "drawing; extra == 'pictures'"))
MARKUP = Wheel("markup-tools", "1.4", requires=("drawing",), licence="License: BSD")
DRAWING = Wheel("drawing", "2.0", licence="Classifier: License :: OSI Approved :: MIT License")
ALL = (WIKI, MARKUP, DRAWING)


def debian(name: str, version: str) -> Package:
    return Package(
        name=name, version=version, architecture="amd64", file=f"{name}.deb", sha256="0" * 64,
        role="guest",
    )  # fmt: skip


PACKAGES = (debian("python3", f"{SERIES}.2-1+b1"), debian("libc6", "2.36-9+deb12u13"))


@pytest.fixture
def index(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Index]:
    """The only index that pip knows."""
    for name in os.environ:
        if name.startswith("PIP_"):
            monkeypatch.delenv(name)
    with serve(Index(tmp_path / "index")) as index:
        monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
        monkeypatch.setenv("PIP_INDEX_URL", index.address)
        monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        yield index


def request(*wanted: str, service: str = "wiki") -> PackageRequest:
    return PackageRequest(guest=(), kernel="linux", tools=(), wheels={service: wanted})


def chosen(*wanted: str, kept: Lock | None = None) -> dict[str, File]:
    found = sets.choose(request(*wanted), PACKAGES, kept, closure.pool(), ignore)
    return {file.name: file for file in found}


def lock_of(found: dict[str, File], *wanted: str) -> Lock:
    return Lock(epoch=1, requested=request(*wanted), packages=PACKAGES, files=tuple(found.values()))


def fetch(found: dict[str, File]) -> tuple[Path, ...]:
    return files.provide(found.values(), PACKAGES, closure.pool(), ignore)


def test_a_set_is_what_is_asked_for_and_all_that_it_needs(index: Index) -> None:
    index.publish(*ALL)
    found = chosen("wiki==1.0")
    assert {name: file.version for name, file in found.items()} == {
        "drawing": "2.0",
        "markup-tools": "1.4",
        "wiki": "1.0",
    }
    assert {name: file.licence for name, file in found.items()} == {
        "drawing": "MIT License",
        "markup-tools": "BSD",
        "wiki": "MIT",
    }
    assert found["wiki"].needed_by == ()
    assert found["markup-tools"].needed_by == ("wiki",)
    assert found["drawing"].needed_by == ("markup-tools",)  # the extra was not asked for
    assert {file.service for file in found.values()} == {"wiki"}
    assert all((closure.pool() / file.file).is_file() for file in found.values())


def test_a_lock_names_no_index(index: Index) -> None:
    index.publish(*ALL)
    text = locks.render(lock_of(chosen("wiki"), "wiki")).decode()
    assert "127.0.0.1" not in text
    assert "http" not in text


def test_wheels_are_chosen_for_the_guest_and_not_for_this_host(index: Index) -> None:
    fits = Wheel("wiki", "1.0", tag="cp37-abi3-manylinux_2_28_x86_64")
    newer_library = replace(fits, version="1.1", tag=f"{TAG}-{TAG}-manylinux_2_39_x86_64")
    other_python = replace(fits, version="1.2", tag="cp38-cp38-manylinux2014_x86_64")
    other_machine = replace(fits, version="1.3", tag="py3-none-manylinux2014_aarch64")
    index.publish(fits, newer_library, other_python, other_machine)
    assert chosen("wiki")["wiki"].version == "1.0"


def test_choosing_takes_the_guests_own_python(index: Index, tmp_path: Path) -> None:
    index.publish(*ALL)
    with pytest.raises(RaveError, match=r"for the guest's Python 3\.42 takes") as caught:
        wheels.choose("wiki", ["wiki"], GuestPython("3.42.1", 36), tmp_path)
    assert caught.value.exit_code == ExitCode.HOST
    assert "--update" in (caught.value.hint or "")


def test_locked_wheels_are_fetched_by_their_hashes_and_once(index: Index) -> None:
    index.publish(*ALL)
    found = chosen("wiki")
    for path in closure.pool().iterdir():
        path.unlink()
    fetched = fetch(found)
    assert {path.name for path in fetched} == {wheel.file for wheel in ALL}
    index.publish()
    assert fetch(found) == fetched


def test_two_sets_may_have_two_versions_of_one_wheel(index: Index) -> None:
    index.publish(DRAWING, replace(DRAWING, version="1.0"))
    asked = PackageRequest(
        guest=(), kernel="linux", tools=(),
        wheels={"wiki": ("drawing==1.0",), "board": ("drawing",)},
    )  # fmt: skip
    found = sets.choose(asked, PACKAGES, None, closure.pool(), ignore)
    assert [(file.service, file.version) for file in found] == [("board", "2.0"), ("wiki", "1.0")]
    for path in closure.pool().iterdir():
        path.unlink()
    assert len(files.provide(found, PACKAGES, closure.pool(), ignore)) == 2


def test_another_file_under_a_locked_version_is_refused_and_nothing_is_lost(index: Index) -> None:
    index.publish(*ALL)
    found = chosen("wiki")
    (closure.pool() / WIKI.file).unlink()
    index.publish(replace(WIKI, files={"extra.py": "evil = True\n"}), MARKUP, DRAWING)
    with pytest.raises(RaveError, match=r"other files than the lock names: wiki 1\.0") as caught:
        fetch(found)
    assert caught.value.exit_code == ExitCode.BUILD
    assert "git log" in (caught.value.hint or "")
    assert {path.name for path in closure.pool().iterdir()} == {MARKUP.file, DRAWING.file}


def test_an_index_that_has_moved_on_is_told_with_the_way_out(index: Index) -> None:
    index.publish(*ALL)
    found = chosen("wiki")
    (closure.pool() / WIKI.file).unlink()
    index.publish(replace(WIKI, version="1.1"), MARKUP, DRAWING)
    with pytest.raises(RaveError, match=r"has no wheel of wiki==1\.0 for the guest") as caught:
        fetch(found)
    assert caught.value.exit_code == ExitCode.BUILD
    assert "rave vm lock-closure --update" in (caught.value.hint or "")
    assert {path.name for path in closure.pool().iterdir()} == {MARKUP.file, DRAWING.file}


def test_an_index_that_is_down_is_the_hosts_fault(
    index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    index.publish(*ALL)
    found = chosen("wiki")
    (closure.pool() / WIKI.file).unlink()
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:1/")
    for ask in (lambda: fetch(found), lambda: chosen("wiki")):
        with pytest.raises(RaveError, match="does not answer") as caught:
            ask()
        assert caught.value.exit_code == ExitCode.HOST
        assert "PIP_INDEX_URL" in (caught.value.hint or "")
    assert {path.name for path in closure.pool().iterdir()} == {MARKUP.file, DRAWING.file}


def test_a_name_that_no_index_has_is_told(index: Index) -> None:
    index.publish(*ALL)
    with pytest.raises(RaveError, match="has no wheel of wikki") as caught:
        chosen("wikki")
    assert caught.value.exit_code == ExitCode.BUILD


def test_what_contradicts_itself_is_told(index: Index) -> None:
    index.publish(WIKI, MARKUP, replace(MARKUP, version="0.9"), DRAWING)
    with pytest.raises(RaveError, match="contradicts itself") as caught:
        chosen("wiki", "markup-tools<1")
    assert caught.value.exit_code == ExitCode.BUILD


def test_what_is_no_wheel_is_refused(index: Index) -> None:
    index.publish(DRAWING)
    (found,) = chosen("drawing").values()
    (closure.pool() / found.file).write_text("<html>404</html>")
    with pytest.raises(RaveError, match="not a Python wheel") as caught:
        wheels.describe([found], closure.pool())
    assert caught.value.exit_code == ExitCode.BUILD


def test_a_locked_set_stays_while_it_is_what_is_asked(index: Index) -> None:
    index.publish(*ALL)
    before = lock_of(chosen("wiki"), "wiki")
    index.publish(replace(WIKI, version="1.1"), MARKUP, DRAWING)
    assert tuple(chosen("wiki", kept=before).values()) == before.files
    assert chosen("wiki>=1.1", kept=before)["wiki"].version == "1.1"
    assert chosen("wiki")["wiki"].version == "1.1"


def test_a_locked_set_goes_with_the_python_that_it_was_chosen_for(index: Index) -> None:
    index.publish(*ALL)
    before = lock_of(chosen("wiki"), "wiki")
    older = before.model_copy(update={"packages": (debian("python3", "3.9.1-1"), PACKAGES[1])})
    index.publish(replace(WIKI, version="1.1"), MARKUP, DRAWING)
    assert chosen("wiki", kept=older)["wiki"].version == "1.1"


def test_a_guest_without_python_has_no_wheels(index: Index) -> None:
    with pytest.raises(RaveError, match="has no package python3") as caught:
        sets.choose(request("wiki"), PACKAGES[1:], None, closure.pool(), ignore)
    assert caught.value.exit_code == ExitCode.BUILD


def test_every_change_of_a_set_is_told_with_its_reason(index: Index) -> None:
    index.publish(*ALL)
    before = lock_of(chosen("wiki"), "wiki")
    index.publish(
        replace(WIKI, version="1.1", requires=("markup-tools", "paper")),
        replace(MARKUP, requires=()), Wheel("paper"),
    )  # fmt: skip
    after = lock_of(chosen("wiki"), "wiki")
    assert [str(change) for change in locks.difference(before, after)] == [
        "- drawing 2.0  (of wiki)",
        "markup-tools 1.4 -> 1.4  (of wiki, for wiki, another file)",
        "+ paper 1.0  (of wiki, for wiki)",
        "wiki 1.0 -> 1.1  (of wiki)",
    ]


@pytest.mark.parametrize(
    "asked", ["-r /etc/passwd", "wiki @ http://x/", "--index-url=x", "../wiki"]
)
def test_a_record_can_ask_for_names_and_bounds_alone(asked: str) -> None:
    with pytest.raises(ValueError, match="String should match pattern"):
        request(asked)


def test_options_ask_for_every_platform_that_the_c_library_takes() -> None:
    words = GUEST.options()
    assert words[words.index("--python-version") + 1] == f"{SERIES}.2"
    assert {"manylinux_2_36_x86_64", "manylinux_2_5_x86_64", "manylinux2014_x86_64"} <= set(words)
    assert "manylinux_2_37_x86_64" not in words
