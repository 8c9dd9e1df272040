"""What a job left is listed as it is, handed out unchanged, and removed with what nobody names."""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from rave_cli.errors import ExitCode, RaveError
from rave_cli.pool.files import artifacts
from rave_cli.pool.jobs.job import Artifact, AttemptFacts, Job
from rave_cli.pool.jobs.work import Work

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def job(home: Path) -> Job:
    """A job that left two files."""
    place = artifacts.place_of("0123456789ab", 2)
    (place / "out").mkdir(parents=True)
    (place / "out/a").write_text("a")
    (place / "b").write_text("bb")
    (place / "b").chmod(0o755)
    (place / "out/link").symlink_to("/etc/passwd")
    facts = AttemptFacts("1" * 64, "2" * 64, artifacts=artifacts.found_in(place))
    return Job("0123456789ab", Work(("true",)), 1.0, state="success", attempt=2, facts=facts)


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_files_are_listed_and_links_are_none(job: Job) -> None:
    assert job.facts.artifacts == (
        Artifact("b", 2, digest(b"bb")),
        Artifact("out/a", 1, digest(b"a")),
    )


def test_they_are_handed_out_as_they_are(job: Job, tmp_path: Path) -> None:
    artifacts.hand_out(job, tmp_path / "to")
    assert (tmp_path / "to/out/a").read_text() == "a"
    assert os.access(tmp_path / "to/b", os.X_OK)
    assert sorted(file.name for file in (tmp_path / "to").rglob("*")) == ["a", "b", "out"]
    with pytest.raises(RaveError) as refused:
        artifacts.hand_out(job, tmp_path / "to")
    assert refused.value.exit_code == ExitCode.USAGE


@pytest.mark.parametrize("how", ["content", "gone", "link", "all"])
def test_what_was_changed_is_refused(job: Job, tmp_path: Path, how: str) -> None:
    place = artifacts.place_of(job.name, job.attempt)
    file = place / "out/a"
    if how == "content":
        file.write_text("b")
    elif how == "all":
        artifacts.remove(place)
    else:
        file.unlink()
        if how == "link":
            (tmp_path / "same").write_text("a")
            file.symlink_to(tmp_path / "same")
    with pytest.raises(RaveError) as refused:
        artifacts.hand_out(job, tmp_path / "to")
    assert refused.value.exit_code == ExitCode.VERIFICATION
    assert not (tmp_path / "to").exists()


@pytest.mark.parametrize("path", ["../a", "/a", "a//b", "a/./b", "", "a\x1b[31m"])
def test_a_path_that_another_hosts_pool_makes_up_leads_nowhere(
    job: Job, tmp_path: Path, path: str
) -> None:
    bad = replace(job, facts=replace(job.facts, artifacts=(Artifact(path, 1, digest(b"a")),)))
    with pytest.raises(RaveError) as refused:
        artifacts.hand_out(bad, tmp_path / "below/to", lambda _job, _one: iter([b"a"]))
    assert refused.value.exit_code == ExitCode.VERIFICATION
    assert [*(tmp_path / "below").iterdir()] == []


def test_more_than_was_said_is_not_taken(job: Job, tmp_path: Path) -> None:
    taken = []

    def endless(_job: Job, _one: Artifact) -> Iterator[bytes]:
        while True:
            taken.append(1)
            yield b"x"

    with pytest.raises(RaveError) as refused:
        artifacts.hand_out(job, tmp_path / "to", endless)
    assert (refused.value.exit_code, len(taken)) == (ExitCode.VERIFICATION, 3)


@pytest.mark.parametrize("name", ["a\nb", "a\x1b[31m", "\u202egnp.exe", "x" * 250])
def test_a_name_that_would_not_read_as_it_is_is_refused(home: Path, name: str) -> None:
    place = home / "left"
    deep = place
    if len(name) > 100:
        # Each part may be as long as the file system takes, the path may not.
        for _ in range(5):
            deep = deep / name
    deep.mkdir(parents=True)
    (deep / name).write_text("x")
    with pytest.raises(RaveError) as refused:
        artifacts.found_in(place)
    assert refused.value.exit_code == ExitCode.CHECK_FAILED
    assert "\x1b" not in refused.value.message


def test_too_many_and_too_much_are_refused(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(artifacts, "MOST_FILES", 3)
    place = home / "left"
    place.mkdir()
    for number in range(4):
        (place / str(number)).write_text("x")
    with pytest.raises(RaveError, match="more than 3"):
        artifacts.found_in(place)
    bound = artifacts._bound(10)
    bound(10)
    with pytest.raises(RaveError, match="larger than"):
        bound(1)


def test_attempts_that_no_job_names_are_removed(job: Job) -> None:
    lost = artifacts.place_of("ba9876543210", 1)
    lost.mkdir(parents=True)
    beside = lost.parent / "what-is-this"
    beside.mkdir()
    assert artifacts.prune({"0123456789ab-2"}) == 1
    assert not lost.exists()
    assert beside.exists()
    artifacts.refuse_changed(job)
    artifacts.refuse_changed(replace(job, name="ba9876543210", facts=AttemptFacts()))
