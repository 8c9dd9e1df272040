"""Locked files of other kinds: a program, a wheel and a tarball, each fetched and compared."""

from __future__ import annotations

import base64
import hashlib
import zipfile
from typing import TYPE_CHECKING

import pytest

from rave_cli.errors import ExitCode, RaveError
from rave_cli.images import closure, files
from rave_cli.images.lock import File

if TYPE_CHECKING:
    from pathlib import Path

WHEEL = "tiny-1.0-cp311-abi3-manylinux_2_28_x86_64.whl"


def make_wheel(folder: Path) -> Path:
    """Make a wheel that fits the guest's Python alone."""
    path = folder / WHEEL
    content = {
        "tiny.py": b"",
        "tiny-1.0.dist-info/METADATA": b"Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n",
        "tiny-1.0.dist-info/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: false\n"
        b"Tag: cp311-abi3-manylinux_2_28_x86_64\n",
    }
    record = "".join(
        f"{name},sha256={base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode()},\n"
        for name, data in content.items()
    )
    with zipfile.ZipFile(path, "w") as wheel:
        for name, data in (content | {"tiny-1.0.dist-info/RECORD": record.encode()}).items():
            wheel.writestr(name, data)
    return path


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
        sha256=sha256 or files.digest(path),
    )  # fmt: skip


def test_pip_fetches_a_wheel_for_the_guests_python(home: Path, index: Path) -> None:
    made = make_wheel(index)
    found = files.provide(locked_wheel(made), closure.pool())
    assert found == closure.pool() / WHEEL
    assert found.read_bytes() == made.read_bytes()
    made.unlink()
    assert files.provide(locked_wheel(found), closure.pool()) == found  # from the pool
    assert sorted(path.name for path in closure.pool().iterdir()) == [WHEEL]


def test_a_wheel_with_other_content_is_refused(home: Path, index: Path) -> None:
    made = make_wheel(index)
    with pytest.raises(RaveError, match=r"tiny 1\.0 could not be fetched") as caught:
        files.provide(locked_wheel(made, "0" * 64), closure.pool())
    assert any("hash" in line.lower() for line in caught.value.detail)
    assert not list(closure.pool().iterdir())


@pytest.mark.parametrize(
    ("file", "python", "abi"),
    [(WHEEL, ("cp", "311"), "abi3"), ("a-1-py2.py3-none-any.whl", ("py", "2"), "none")],
)
def test_a_wheels_name_tells_whom_it_fits(file: str, python: tuple[str, str], abi: str) -> None:
    tags = files.wheel_tags(file)
    assert (tags[1], tags[3], tags[5]) == (*python, abi)


def test_npm_packs_a_tarball_without_running_its_scripts(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = tmp_path / "bin/npm"
    fake.parent.mkdir()
    fake.write_text(
        '#!/bin/sh\n[ "$1 $2 $3 $5" = "pack --silent --ignore-scripts @a/tool@2.0.0" ] || exit 1\n'
        'printf tarball >"${4#--pack-destination=}/a-tool-2.0.0.tgz"\n'
    )
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{fake.parent}:/usr/bin:/bin")
    sha256 = hashlib.sha256(b"tarball").hexdigest()
    wanted = File(
        kind="npm", name="@a/tool", version="2.0.0", file="a-tool-2.0.0.tgz", sha256=sha256
    )
    assert files.provide(wanted, closure.pool()).read_bytes() == b"tarball"
    other = wanted.model_copy(update={"sha256": "0" * 64, "file": "other.tgz"})
    with pytest.raises(RaveError, match="has another file") as caught:
        files.provide(other, closure.pool())
    assert caught.value.exit_code == ExitCode.BUILD
