"""What a runner says of artifacts, caches and dependencies, and which files those are."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rave_cli.pool.builds import wanted
from rave_cli.pool.builds.wanted import WantedBuild, WantedFiles, is_for

TREE = ["a", "out/b", "out/c/d.xml", "out/c/.e", "x/out/f.xml", "g h"]


@pytest.mark.parametrize(
    ("paths", "chosen"),
    [
        (["a"], ["a"]),
        (["./a"], ["a"]),
        (["out"], ["out/b", "out/c/d.xml", "out/c/.e"]),
        (["out/"], ["out/b", "out/c/d.xml", "out/c/.e"]),
        (["out/*"], ["out/b", "out/c/d.xml", "out/c/.e"]),
        (["out/*/*.xml"], ["out/c/d.xml"]),
        (["**/*.xml"], ["out/c/d.xml", "x/out/f.xml"]),
        (["**/out/**/*.xml"], ["out/c/d.xml", "x/out/f.xml"]),
        (["*.xml", "nothing"], []),
        (["?"], ["a", "x/out/f.xml"]),
        (["g h", "[ab]"], ["a", "g h"]),
        (["."], TREE),
        (["**"], TREE),
    ],
)
def test_files_are_chosen_as_gitlab_writes_patterns(paths: list[str], chosen: list[str]) -> None:
    assert sorted(WantedFiles(tuple(paths)).chosen(TREE)) == sorted(chosen)


def test_what_is_excluded_is_left_out() -> None:
    files = WantedFiles(("out",), ("**/*.xml", "out/b"))
    assert files.chosen(TREE) == ["out/c/.e"]


@given(
    st.lists(st.sampled_from(["**", "*", "a", "?"]), min_size=1, max_size=60), st.integers(1, 60)
)
def test_a_pattern_takes_no_time_that_a_pipeline_could_choose(parts: list[str], deep: int) -> None:
    WantedFiles(("/".join(parts),)).chosen(["/".join(["a"] * deep + ["b"])])


@pytest.mark.parametrize(
    ("when", "success", "failure"),
    [("on_success", True, False), ("on_failure", False, True), ("always", True, True)],
)
def test_it_is_kept_when_it_is_to_be(when: str, success: bool, failure: bool) -> None:
    assert (is_for(when, success=True), is_for(when, success=False)) == (success, failure)


SAID: dict[str, Any] = {
    "token": "jobT0ken", "job_info": {"project_id": 7},
    "artifacts": [
        {"name": "$CI_JOB_NAME", "paths": ["out/${FLAVOUR}", "$NONE"], "when": "always",
         "artifact_type": "archive", "artifact_format": "zip", "expire_in": "1 week"},
        {"paths": ["r.xml"], "artifact_type": "junit", "artifact_format": "gzip"},
    ],
    "cache": [{"key": "k-$FLAVOUR", "paths": ["lib"], "policy": "pull", "fallback_keys": ["k"]}],
    "dependencies": [
        {"id": 3, "token": "oth3r", "name": "make", "artifacts_file": {"filename": "a.zip"}},
        {"id": 4, "token": "none", "name": "lint"},
    ],
}  # fmt: skip
ENVIRONMENT = {"CUSTOM_ENV_CI_JOB_NAME": "test", "CUSTOM_ENV_FLAVOUR": "new", "FLAVOUR": "host's"}


def test_a_runners_file_is_read_with_the_builds_variables() -> None:
    found = wanted.read(SAID, ENVIRONMENT)
    assert found is not None
    archive, report = found.artifacts
    assert (archive.name, archive.files.paths, archive.when) == ("test", ("out/new",), "always")
    assert (archive.kind, archive.form, archive.expires) == ("archive", "zip", "1 week")
    assert (report.name, report.when, report.form) == ("artifacts", "on_success", "gzip")
    (cache,) = found.caches
    assert (cache.keys, cache.gets, cache.puts) == (("k-new", "k"), True, False)
    assert found.dependencies == (WantedBuild(3, "oth3r", "make"),)
    assert "jobT0ken" not in repr(found)
    assert "oth3r" not in repr(found)


def test_what_says_not_whose_it_is_says_nothing_of_files() -> None:
    assert wanted.read({}, ENVIRONMENT) is None
    assert wanted.read(SAID | {"job_info": None}, ENVIRONMENT) is None
    assert wanted.read(SAID | {"token": ""}, ENVIRONMENT) is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=8,
)


@given(st.sampled_from(["artifacts", "cache", "dependencies", "job_info", "token"]), JSON)
def test_whatever_it_says_is_read(name: str, value: object) -> None:
    found = wanted.read(SAID | {name: value}, ENVIRONMENT)
    assert found is None or isinstance(found.token, str)


@given(st.sampled_from(["artifacts", "cache", "dependencies"]), st.data())
def test_whatever_it_says_of_one_is_read(name: str, data: st.DataObject) -> None:
    one = SAID[name][0]
    member = data.draw(st.sampled_from(sorted(one)))
    wanted.read(SAID | {name: [one | {member: data.draw(JSON)}]}, ENVIRONMENT)
