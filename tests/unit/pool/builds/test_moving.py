"""What builds leave to one another on this host, and archives on their way."""

from __future__ import annotations

import io
import os
import tarfile
import zipfile
from typing import TYPE_CHECKING

import pytest

from rave_cli.errors import RaveError
from rave_cli.pool.builds import moving
from rave_cli.pool.builds.wanted import WantedCache, WantedFiles

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("home")


def cache(*keys: str) -> WantedCache:
    return WantedCache(keys, WantedFiles(()), "always", gets=True, puts=True)


def found(project: str, *keys: str) -> bytes | None:
    archive = moving.cached(project, cache(*keys))
    if archive is None:
        return None
    with archive:
        return archive.read()


def test_a_cache_is_its_projects_and_the_first_key_that_has_one_counts() -> None:
    assert found("7", "a", "b") is None
    moving.keep("7", "b", io.BytesIO(b"old"))
    assert (found("7", "a", "b"), found("8", "b")) == (b"old", None)
    moving.keep("7", "a", io.BytesIO(b"new"))
    moving.keep("7", "a", io.BytesIO(b"newer"))
    assert found("7", "a", "b") == b"newer"


def test_what_was_used_longest_ago_makes_room(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for key in "abc":
        moving.keep("7", key, io.BytesIO(b"x" * 10))
    for age, key in enumerate("cab"):
        at = 1e9 - age
        os.utime(moving._place("7", key), (at, at))
    assert home.exists()
    monkeypatch.setattr(moving, "MOST_CACHED", 30)
    # Used just now.
    assert found("7", "b") is not None
    moving.keep("7", "d", io.BytesIO(b"x" * 10))
    assert [key for key in "abcd" if found("7", key) is not None] == ["b", "c", "d"]


def zipped(**files: bytes) -> io.BytesIO:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return packed


def test_what_is_no_archive_or_swells_is_not_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    for bad in (io.BytesIO(b"<html>"), io.BytesIO(zipped(a=b"x" * 999).getvalue()[:-30])):
        with pytest.raises(RaveError, match="no archive"):
            moving._tarred(bad, io.BytesIO())
    monkeypatch.setattr(moving, "MOST", 1 << 20)
    bomb = zipped(a=b"\0" * (1 << 20), b=b"\0")
    assert len(bomb.getvalue()) < 4096
    with pytest.raises(RaveError, match="larger"):
        moving._tarred(bomb, io.BytesIO())


def test_modes_and_links_survive_the_way_there_and_back(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("#!/bin/sh\n")
    (tmp_path / "run").chmod(0o755)
    (tmp_path / "link").symlink_to("run")
    (tmp_path / "old").write_text("x")
    os.utime(tmp_path / "old", (0, 0))
    first, packed, second = io.BytesIO(), io.BytesIO(), io.BytesIO()
    with tarfile.open(fileobj=first, mode="w") as archive:
        for name in ("run", "link", "old"):
            archive.add(tmp_path / name, arcname=f"./{name}")
    moving._zipped(first, packed)
    moving._tarred(packed, second)
    second.seek(0)
    with tarfile.open(fileobj=second) as archive:
        assert archive.getmember("run").mode == 0o755
        assert archive.getmember("link").linkname == "run"
        assert archive.getmember("old").size == 1
