"""XDG directories, atomic files, private files and locks."""

from __future__ import annotations

import errno
import grp
import os
import re
import signal
import stat
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from rave_cli import paths
from rave_cli.errors import ExitCode, RaveError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


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


def test_a_lock_ends_with_its_holder_whatever_another_thread_starts_meanwhile(
    tmp_path: Path,
) -> None:
    place = tmp_path / "lock"
    with paths.lock(place, busy="somebody works here"):
        # What a thread starts has a copy of all that is open, from the fork until it is a program.
        pid = os.fork()
        if pid == 0:
            signal.pause()
    try:
        with paths.lock(place, busy="somebody works here"):
            pass
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


@pytest.fixture
def no_umask() -> Iterator[None]:
    """A caller that takes no permission away, such as some CI runners."""
    before = os.umask(0)
    yield
    os.umask(before)


def modes(place: Path) -> dict[str, int]:
    """Return what permissions everything below `place` has, by relative path."""
    return {
        str(path.relative_to(place)): stat.S_IMODE(path.lstat().st_mode)
        for path in place.rglob("*")
        if not path.is_symlink()
    }


@pytest.mark.usefixtures("no_umask")
def test_what_we_make_has_its_mode_from_us(tmp_path: Path) -> None:
    paths.atomic_write(tmp_path / "a/b/secret", b"", mode=0o600)
    paths.atomic_write(tmp_path / "c/d/public", b"")
    paths.private_dir(tmp_path / "e/f")
    paths.make_dir(tmp_path / "g/h")
    paths.make_dir(tmp_path / "i/j", mode=0o755)
    with paths.lock(tmp_path / "k/lock", busy=""):
        assert modes(tmp_path) == {
            "a": 0o700, "a/b": 0o700, "a/b/secret": 0o600,
            "c": 0o755, "c/d": 0o755, "c/d/public": 0o644,
            "e": 0o700, "e/f": 0o700,
            "g": 0o700, "g/h": 0o700,
            "i": 0o755, "i/j": 0o755,
            "k": 0o700, "k/lock": 0o600,
        }  # fmt: skip


def test_the_umask_takes_from_a_directorys_mode(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        paths.make_dir(tmp_path / "a/b", mode=0o755)
    finally:
        os.umask(before)
    assert modes(tmp_path) == {"a": 0o750, "a/b": 0o750}


def test_an_existing_directory_keeps_its_mode(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir(mode=0o711)
    paths.make_dir(tmp_path / "a/b")
    assert modes(tmp_path) == {"a": 0o711, "a/b": 0o700}


def test_a_file_in_the_place_of_a_directory_is_named(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("")
    with pytest.raises(RaveError, match="Not a directory"):
        paths.make_dir(tmp_path / "a/b")


def test_a_steering_file_may_be_a_link_and_readable(tmp_path: Path) -> None:
    (tmp_path / "real").write_bytes(b"text")
    (tmp_path / "link").symlink_to("real")
    assert paths.read_trusted(tmp_path / "link") == b"text"


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_what_is_no_file_is_not_waited_for(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "x")
    with pytest.raises(RaveError, match="is not a file"):
        paths.read_trusted(tmp_path / "x")


def test_a_pipe_that_the_shell_hands_over_is_read_to_its_end() -> None:
    reading, writing = os.pipe()
    try:
        os.write(writing, b"version: 1\n")
        os.close(writing)
        assert paths.read_trusted(Path(f"/dev/fd/{reading}")) == b"version: 1\n"
    finally:
        os.close(reading)


def test_a_handed_file_of_which_anybody_may_be_the_author_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "x"
    file.write_bytes(b"text")
    file.chmod(0o666)
    with file.open("rb") as stream, pytest.raises(RaveError, match="can be changed by anybody"):
        paths.read_trusted(Path(f"/dev/fd/{stream.fileno()}"))


def test_a_directory_is_no_key(tmp_path: Path) -> None:
    paths.private_dir(tmp_path / "x")
    with pytest.raises(RaveError, match="is not a file"):
        paths.read_private(tmp_path / "x")


def test_a_sticky_directory_protects_what_is_ours(tmp_path: Path) -> None:
    tmp_path.chmod(0o1777)
    (tmp_path / "x").write_bytes(b"text")
    assert paths.read_trusted(tmp_path / "x") == b"text"


@pytest.mark.skipif(os.getuid() != 0, reason="giving a file away needs root")
@pytest.mark.parametrize(
    ("gid", "members", "trusted"), [(0, [], True), (0, ["daemon"], False), (1, [], False)]
)
def test_a_group_is_trusted_if_it_is_its_owners_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gid: int, members: list[str], trusted: bool
) -> None:
    file = tmp_path / "x"
    file.write_bytes(b"text")
    os.chown(file, -1, gid)
    file.chmod(0o664)
    real = grp.getgrgid(gid)
    group = grp.struct_group((real.gr_name, real.gr_passwd, gid, members))
    monkeypatch.setattr(grp, "getgrgid", lambda _gid: group)
    if trusted:
        assert paths.read_trusted(file) == b"text"
    else:
        with pytest.raises(RaveError, match=r"can be changed by its group .mode 0664.") as caught:
            paths.read_trusted(file)
        assert caught.value.hint == f"chmod go-w {file}"


def test_every_directory_of_ours_is_made_by_the_one_function() -> None:
    """`Path.mkdir` leaves the mode of what is above it to the umask."""
    package = Path(paths.__file__).parent
    makers = {
        str(source.relative_to(package))
        for source in package.rglob("*.py")
        if re.search(r"\.mkdir\(|makedirs\(", source.read_text())
    }
    # What comes out of a machine is made below a directory that is open, with its mode; and a copy
    # of the backups is made on another host.
    assert makers == {"paths.py", "machines/transfer/unpacking.py", "backups/away/sftp.py"}


@pytest.mark.parametrize("link", [False, True])
def test_no_file_takes_the_place_of_a_pipe_or_device(tmp_path: Path, link: bool) -> None:
    pipe = target = tmp_path / "pipe"
    os.mkfifo(pipe)
    if link:
        target = tmp_path / "link"
        target.symlink_to(pipe)
    with pytest.raises(RaveError, match="neither a file nor a folder") as caught:
        paths.atomic_write(target, b"data")
    assert caught.value.exit_code == ExitCode.USAGE
    assert (pipe.is_fifo(), target.is_symlink()) == (True, link)


@pytest.mark.parametrize("fault", [errno.EXDEV, errno.EOPNOTSUPP])
def test_a_copy_goes_from_one_file_system_to_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: int
) -> None:
    def refuse(*_: object) -> int:
        raise OSError(fault, os.strerror(fault))

    monkeypatch.setattr(os, "copy_file_range", refuse)
    data = os.urandom(3 << 20)
    (tmp_path / "one").write_bytes(data)
    paths.copy_private(tmp_path / "one", tmp_path / "other")
    assert (tmp_path / "other").read_bytes() == data
    assert stat.S_IMODE((tmp_path / "other").stat().st_mode) == 0o600


def test_a_copy_that_does_not_fit_is_a_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "copy_file_range", full)
    (tmp_path / "one").write_bytes(b"data")
    with pytest.raises(RaveError, match="no space left") as caught:
        paths.copy_private(tmp_path / "one", tmp_path / "other")
    assert caught.value.exit_code == ExitCode.HOST
