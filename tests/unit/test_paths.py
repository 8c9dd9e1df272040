"""XDG directories, atomic files, private files and locks."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from rave_cli import paths
from rave_cli.errors import ExitCode, RaveError


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (paths.config_dir, ".config/rave"),
        (paths.data_dir, ".local/share/rave"),
        (paths.state_dir, ".local/state/rave"),
        (paths.cache_dir, ".cache/rave"),
        (paths.runtime_dir, "run/rave"),
    ],
)
def test_places_follow_xdg(home: Path, function: object, expected: str) -> None:
    assert callable(function)
    assert function() == home / expected


def test_a_relative_xdg_directory_is_ignored(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", "relative/place")
    assert paths.data_dir() == home / ".local/share/rave"


def test_atomic_write_replaces_and_sets_the_mode(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "state.json"
    paths.atomic_write(target, b"one")
    paths.atomic_write(target, b"two", mode=0o600)
    assert target.read_bytes() == b"two"
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert [path.name for path in target.parent.iterdir()] == ["state.json"]


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "state.json"
    target.write_bytes(b"old")

    def no_space(fd: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(RaveError, match="no space left") as caught:
        paths.atomic_write(target, b"new")
    assert caught.value.exit_code == ExitCode.HOST
    assert target.read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["state.json"]


def test_a_really_full_disk_is_named() -> None:
    with pytest.raises(RaveError, match="/dev/full") as caught, paths.refusing(Path("/dev/full")):
        Path("/dev/full").write_bytes(b"x" * 100)
    assert "df -h" in (caught.value.hint or "")


def test_private_dir_is_private(tmp_path: Path) -> None:
    place = paths.private_dir(tmp_path / "a" / "b")
    assert stat.S_IMODE(place.stat().st_mode) == 0o700
    place.chmod(0o755)
    assert stat.S_IMODE(paths.private_dir(place).stat().st_mode) == 0o700


def test_private_dir_refuses_a_symlink(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(RaveError, match="not a directory of yours"):
        paths.private_dir(tmp_path / "link")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_key_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    key = tmp_path / "key"
    key.write_bytes(b"secret")
    key.chmod(mode)
    with pytest.raises(RaveError, match="can be read by others") as caught:
        paths.read_private(key)
    assert caught.value.exit_code == ExitCode.SECRETS
    assert caught.value.hint == f"chmod 600 {key}"


def test_a_key_behind_a_symlink_is_refused(tmp_path: Path) -> None:
    (tmp_path / "real").write_bytes(b"secret")
    (tmp_path / "key").symlink_to(tmp_path / "real")
    with pytest.raises(RaveError, match="symbolic link"):
        paths.read_private(tmp_path / "key")


def test_a_private_key_is_read(tmp_path: Path) -> None:
    paths.atomic_write(tmp_path / "key", b"secret", mode=0o600)
    assert paths.read_private(tmp_path / "key") == b"secret"


def test_a_lock_has_one_holder(tmp_path: Path) -> None:
    place = tmp_path / "lock"
    with (
        paths.lock(place, busy="somebody works here"),
        pytest.raises(RaveError, match="somebody works here"),
        paths.lock(place, busy="somebody works here"),
    ):
        pytest.fail("two holders of one lock")
    with paths.lock(place, busy="never"):
        assert place.exists()
