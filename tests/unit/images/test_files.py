"""Locked files of other kinds: a program, a wheel and a tarball, each fetched and compared."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from typing import TYPE_CHECKING

import pytest

from rave_cli.errors import ExitCode, RaveError
from rave_cli.images import closure, files, sets, tarballs
from rave_cli.images.events import ignore
from rave_cli.images.lock import File, Package, PackageRequest, file_digest
from tests.integration.images.index import Wheel
from tests.unit.images.test_sealed import tarball

if TYPE_CHECKING:
    from pathlib import Path

TINY = Wheel("tiny", tag="cp311-abi3-manylinux_2_28_x86_64")
VERSIONS = {"python3": "3.11.2-1+b1", "libc6": "2.36-9"}
PACKAGES = tuple(
    Package(name=name, version=version, architecture="amd64", file=f"{name}.deb",
            sha256="0" * 64, role="guest")
    for name, version in VERSIONS.items()
)  # fmt: skip


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that pip takes for the only index there is."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", folder.as_uri())
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    return folder


def locked_wheel(path: Path, sha256: str | None = None) -> File:
    return File(
        kind="wheel", name="tiny", version="1.0", file=path.name,
        sha256=sha256 or file_digest(path),
    )  # fmt: skip


def provide(wanted: File) -> Path:
    (path,) = files.provide([wanted], PACKAGES, closure.pool(), ignore)
    return path


def test_pip_fetches_a_wheel_for_the_guests_python(home: Path, index: Path) -> None:
    made = TINY.write(index)
    found = provide(locked_wheel(made))
    assert found == closure.pool() / TINY.file
    assert found.read_bytes() == made.read_bytes()
    made.unlink()
    assert provide(locked_wheel(found)) == found  # from the pool
    assert sorted(path.name for path in closure.pool().iterdir()) == [TINY.file]


def test_a_wheel_with_other_content_is_refused(home: Path, index: Path) -> None:
    made = TINY.write(index)
    with pytest.raises(RaveError, match=r"other files than the lock names: tiny 1\.0") as caught:
        provide(locked_wheel(made, "0" * 64))
    assert any("hash" in line.lower() for line in caught.value.detail)
    assert not list(closure.pool().iterdir())


@pytest.mark.parametrize(
    ("packages", "said"),
    [
        (PACKAGES[:1], "no package libc6"),
        ([PACKAGES[0], PACKAGES[1].model_copy(update={"version": "unknown"})], "unknown form"),
    ],
)
def test_whom_a_wheel_must_fit_is_read_from_the_guests_packages(
    home: Path, index: Path, packages: list[Package], said: str
) -> None:
    with pytest.raises(RaveError, match=said) as caught:
        files.provide([locked_wheel(TINY.write(index))], packages, closure.pool(), ignore)
    assert caught.value.exit_code == ExitCode.BUILD


# npm's own words, of version 9 and 10, where its registry does what the name says.
SAID = {
    "down": "npm ERR! code ECONNREFUSED\nnpm ERR! FetchError: request to x failed",
    "nameless": "npm error code ENOTFOUND\nnpm error network request to x failed",
    "gone": "npm ERR! code ETARGET\nnpm ERR! notarget No matching version found for tool@2.0.0.",
    "unknown": "npm error code E404\nnpm error 404 Not Found - GET x - Not found",
    "tampered": "npm ERR! code EINTEGRITY\nnpm ERR! sha512-a integrity checksum failed",
    "full": "npm ERR! code ENOSPC\nnpm ERR! syscall write",
    "odd": "npm ERR! something else",
}

FAKE_NPM = """#!/bin/sh
[ -z "$SAYS" ] || { echo "$SAYS" >&2; exit 1; }
[ "$1 $2 $4" = "pack --json --ignore-scripts" ] || { echo "odd words: $*" >&2; exit 1; }
for word; do case $word in --pack-destination=*) to=${word#*=} ;; esac; release=$word; done
[ "$release" = "@a/tool@2.0.0" ] || { echo "odd release: $release" >&2; exit 1; }
cp "$TARBALL" "$to/a-tool-2.0.0.tgz"
cat "$ANSWER"
"""


@pytest.fixture
def npm(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An npm that packs one tarball, and says what npm says of it; returns the tarball."""
    package = json.dumps({"name": "@a/tool", "version": "2.0.0", "license": "MIT"})
    made = tarball(tmp_path, {"package/package.json": package, "package/main.js": "1"})
    digest = base64.b64encode(hashlib.sha512(made.read_bytes()).digest()).decode()
    answer = tmp_path / "answer.json"
    answer.write_text(json.dumps([{
        "id": "@a/tool@2.0.0", "name": "@a/tool", "version": "2.0.0", "size": 1,
        "filename": "@a/tool-2.0.0.tgz", "integrity": f"sha512-{digest}",
    }]))  # fmt: skip
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "npm").write_text(
        FAKE_NPM.replace("$SAYS", "$NPM_CONFIG_SAYS")
        .replace("$TARBALL", str(made)).replace("$ANSWER", str(answer))
    )  # fmt: skip
    (folder / "npm").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    monkeypatch.delenv("NPM_CONFIG_SAYS", raising=False)
    return made


def chosen() -> File:
    request = PackageRequest(
        guest=(), kernel="linux", tools=(), tarballs={"wiki": ("@a/tool@2.0.0",)}
    )
    (found,) = sets.choose(request, (), None, closure.pool(), ignore)
    return found


def test_npm_packs_a_tarball_without_running_its_scripts(npm: Path) -> None:
    found = chosen()
    assert found == File(
        kind="npm", service="wiki", name="@a/tool", version="2.0.0", file="a-tool-2.0.0.tgz",
        sha256=file_digest(npm), licence="MIT",
    )  # fmt: skip
    (closure.pool() / found.file).unlink()
    assert provide(found).read_bytes() == npm.read_bytes()


def test_another_tarball_than_the_locked_one_is_refused(npm: Path) -> None:
    other = chosen().model_copy(update={"sha256": "0" * 64, "file": "other.tgz"})
    with pytest.raises(RaveError, match="has another file") as caught:
        provide(other)
    assert caught.value.exit_code == ExitCode.BUILD
    assert sorted(path.name for path in closure.pool().iterdir()) == ["a-tool-2.0.0.tgz"]


def test_a_tarball_that_is_not_what_the_registry_says_is_refused(npm: Path) -> None:
    npm.write_bytes(npm.read_bytes() + b"more")
    with pytest.raises(RaveError, match="integrity hash differs") as caught:
        chosen()
    assert caught.value.exit_code == ExitCode.BUILD
    assert not list(closure.pool().iterdir())


@pytest.mark.parametrize(
    ("said", "message", "code"),
    [
        ("down", "does not answer", ExitCode.HOST),
        ("nameless", "does not answer", ExitCode.HOST),
        ("gone", "the registry of npm has no @a/tool@2.0.0", ExitCode.BUILD),
        ("unknown", "the registry of npm has no @a/tool@2.0.0", ExitCode.BUILD),
        ("tampered", "integrity hash differs", ExitCode.BUILD),
        ("full", "no space left", ExitCode.HOST),
        ("odd", "could not be fetched by npm", ExitCode.HOST),
    ],
)
def test_what_npm_says_is_told_with_the_way_out(
    npm: Path, monkeypatch: pytest.MonkeyPatch, said: str, message: str, code: ExitCode
) -> None:
    monkeypatch.setenv("NPM_CONFIG_SAYS", SAID[said])
    with pytest.raises(RaveError, match=message) as caught:
        chosen()
    assert caught.value.exit_code == code
    assert caught.value.hint
    assert not list(closure.pool().iterdir())


def test_a_host_without_npm_says_what_to_install(
    npm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", os.devnull)
    with pytest.raises(RaveError, match="npm is not on PATH") as caught:
        chosen()
    assert "apt-get install npm" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("package", "needed"),
    [
        ({}, ()),
        ({"dependencies": {"b": "1", "a": "^2"}}, ("a", "b")),
        ({"dependencies": {"a": "1", "b": "1"}, "bundleDependencies": ["a"]}, ("b",)),
        ({"dependencies": {"a": "1"}, "bundledDependencies": ["a"]}, ()),
        ({"dependencies": {"a": "1"}, "bundleDependencies": True}, ()),
        ({"dependencies": ["odd"], "optionalDependencies": {"a": "1"}}, ()),
    ],
)
def test_a_package_of_npm_must_bring_what_it_needs(
    package: dict[str, object], needed: tuple[str, ...]
) -> None:
    assert tarballs.needed(package) == needed


def needing(other: str, folder: Path) -> None:
    """Let the registry's package ask for another one."""
    package = json.dumps({"name": "@a/tool", "version": "2.0.0", "dependencies": {other: "1"}})
    made = tarball(folder, {"package/package.json": package})
    digest = base64.b64encode(hashlib.sha512(made.read_bytes()).digest()).decode()
    answer = folder / "answer.json"
    (packed,) = json.loads(answer.read_text())
    answer.write_text(json.dumps([packed | {"integrity": f"sha512-{digest}"}]))


def test_a_package_of_npm_that_needs_others_is_refused_by_their_names(
    npm: Path, tmp_path: Path
) -> None:
    needing("other", tmp_path)
    with pytest.raises(RaveError, match="it needs other, which the set does not have") as caught:
        chosen()
    assert caught.value.exit_code == ExitCode.BUILD
    assert not list(closure.pool().iterdir())


@pytest.mark.parametrize("release", ["other@1.0.0", "@a/other@1.0.0"])
def test_a_package_of_npm_may_need_another_of_its_set(
    npm: Path, tmp_path: Path, release: str
) -> None:
    needing(release.rpartition("@")[0], tmp_path)
    found, _ = tarballs.choose("wiki", "@a/tool@2.0.0", ("@a/tool@2.0.0", release), tmp_path)
    assert found.name == "@a/tool"


@pytest.mark.parametrize("content", [b"", b"<html>", b"\x1f\x8b\x08junk"])
def test_what_is_no_package_of_npm_is_refused(tmp_path: Path, content: bytes) -> None:
    page = tmp_path / "error.tgz"
    page.write_bytes(content)
    with pytest.raises(RaveError, match="not a package of npm") as caught:
        tarballs.read_package(page)
    assert caught.value.exit_code == ExitCode.BUILD
