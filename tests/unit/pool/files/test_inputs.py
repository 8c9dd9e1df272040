"""What a job is given is kept as it was, or refused; nothing of it is run or followed here."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
from typing import TYPE_CHECKING

import pytest

from rave_cli.errors import ExitCode, RaveError
from rave_cli.pool.files import inputs

if TYPE_CHECKING:
    from pathlib import Path

    from rave_cli.pool.jobs.work import JobInput


@pytest.fixture(autouse=True)
def _home(home: Path) -> None:
    """Inputs are kept in the test's own home."""


def members(given: JobInput) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(inputs.place(given)) as archive:
        return {member.name: member for member in archive}


def folder(tmp_path: Path, content: str) -> Path:
    source = tmp_path / "source"
    source.mkdir(exist_ok=True)
    (source / "file").write_text(content)
    return source


def through_a_pipe(data: bytes) -> JobInput:
    # A file: a pipe would need a thread.
    fd = os.memfd_create("stdin")
    os.write(fd, data)
    os.lseek(fd, 0, os.SEEK_SET)
    try:
        return inputs.keep_stream(fd)
    finally:
        os.close(fd)


def test_a_folder_is_kept_without_following_what_leads_out(tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "below").mkdir(parents=True)
    (source / "below/file").write_text("x")
    (source / "link").symlink_to("/etc/passwd")
    os.mkfifo(source / "pipe")
    given = inputs.keep_folder(source)
    found = members(given)
    assert sorted(found) == [".", "./below", "./below/file", "./link"]
    assert found["./link"].issym()
    assert {(member.uid, member.uname) for member in found.values()} == {(0, "")}
    assert (given.origin, given.size) == ("folder source", inputs.place(given).stat().st_size)
    assert inputs.place(given).stat().st_mode & 0o777 == 0o600


def test_a_tar_on_standard_input_is_kept_byte_for_byte() -> None:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("../out"))
    given = through_a_pipe(data.getvalue())
    fd = inputs.open_kept(given)
    with os.fdopen(fd, "rb") as stream:
        assert stream.read() == data.getvalue()


@pytest.mark.parametrize("data", [b"", b"no archive" * 100])
def test_what_is_no_tar_is_refused_and_nothing_is_left(data: bytes) -> None:
    with pytest.raises(RaveError) as refused:
        through_a_pipe(data)
    assert refused.value.exit_code == ExitCode.USAGE
    assert list(inputs._folder().iterdir()) == []


def test_what_is_too_large_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs, "MOST", 30_000)
    with pytest.raises(RaveError) as refused:
        inputs.keep_folder(folder(tmp_path, "x" * 40_000))
    assert refused.value.exit_code == ExitCode.USAGE
    assert list(inputs._folder().iterdir()) == []


def test_what_was_changed_or_is_gone_is_not_handed_over(tmp_path: Path) -> None:
    given = inputs.keep_folder(folder(tmp_path, "x"))
    inputs.place(given).write_bytes(b"another")
    with pytest.raises(RaveError, match="it was changed"):
        inputs.open_kept(given)
    inputs.place(given).unlink()
    with pytest.raises(RaveError, match="not on this host"):
        inputs.open_kept(given)
    inputs.place(given).symlink_to(tmp_path / "source/file")
    with pytest.raises(RaveError):
        inputs.open_kept(given)


def test_what_no_job_names_is_removed_after_a_day(tmp_path: Path) -> None:
    one = inputs.keep_folder(folder(tmp_path, "x"))
    other = inputs.keep_folder(folder(tmp_path, "y"))
    now = inputs.place(one).stat().st_mtime
    assert inputs.prune({one.sha256}, now + 60) == 0
    assert inputs.prune({one.sha256}, now + 2 * 86400) == 1
    assert inputs.place(one).exists()
    assert not inputs.place(other).exists()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    place = tmp_path / "repository"
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-C", str(place)]
    subprocess.run(["git", "init", "-q", "-b", "main", str(place)], check=True)
    (place / "file").write_text("one")
    subprocess.run([*git, "add", "."], check=True)
    subprocess.run([*git, "commit", "-qm", "one"], check=True)
    return place


def test_a_commit_is_fetched_and_named(repository: Path) -> None:
    given = inputs.keep_commit(str(repository), "main")
    assert sorted(members(given)) == ["file"]
    argv = ["git", "-C", str(repository), "rev-parse", "main"]
    commit = subprocess.run(argv, check=True, capture_output=True, text=True).stdout.strip()
    assert given.origin.startswith(f"commit {commit} of ")
    # What is asked for again is the same archive.
    assert inputs.keep_commit(str(repository), "HEAD").sha256 == given.sha256


@pytest.mark.parametrize(
    ("url", "revision"),
    [
        ("--upload-pack=touch /tmp/owned", "main"),
        ("ext::sh -c 'touch /tmp/owned'", "main"),
        ("/there/is/none", "main"),
        ("REPOSITORY", "--output=x"),
        ("REPOSITORY", "there-is-none"),
        ("", "main"),
    ],
)
def test_what_is_no_repository_or_revision_is_refused(
    repository: Path, url: str, revision: str
) -> None:
    with pytest.raises(RaveError) as refused:
        inputs.keep_commit(url.replace("REPOSITORY", str(repository)), revision)
    assert refused.value.exit_code == ExitCode.USAGE
    assert list(inputs._folder().glob("*")) == []


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://user:word@host/a", "https://host/a"),
        ("https://host/a@b", "https://host/a@b"),
        ("git@host:a/b", "git@host:a/b"),
        ("/srv/a", "/srv/a"),
    ],
)
def test_no_password_of_an_address_is_kept(url: str, shown: str) -> None:
    assert inputs.shown(url) == shown
