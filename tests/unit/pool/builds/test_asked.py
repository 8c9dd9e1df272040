"""What a runner asks for is read from what only the runner writes, where there is that."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rave_cli.errors import ExitCode, RaveError
from rave_cli.pool.builds import asked
from rave_cli.pool.builds.asked import BUILDS, SYSTEM_FAILED, TIMEOUT

if TYPE_CHECKING:
    from pathlib import Path

SHA = "a" * 40
RESPONSE = {
    "id": 4711, "runner_info": {"timeout": 60},
    "git_info": {"repo_url": "https://ci:t0ken@git.example.org/team/app.git", "sha": SHA},
}  # fmt: skip


def environment(tmp_path: Path, response: object = RESPONSE, **custom: str) -> dict[str, str]:
    file = tmp_path / "response.json"
    file.write_text(json.dumps(response))
    variables = {f"CUSTOM_ENV_{name}": value for name, value in custom.items()}
    return {"JOB_RESPONSE_FILE": str(file), **variables}


def test_the_runners_file_says_what_is_fetched_here_and_no_variable_of_the_pipeline(
    tmp_path: Path,
) -> None:
    found = asked.read(
        environment(
            tmp_path, CI_JOB_ID="1", CI_REPOSITORY_URL="https://evil.example/x", CI_JOB_TIMEOUT="9",
            CI_COMMIT_SHA="b" * 40, CI_PROJECT_DIR=f"{BUILDS}/team/app",
        )
    )  # fmt: skip
    assert (found.build, found.commit, found.timeout) == ("4711", SHA, 60)
    assert found.repository == "https://git.example.org/team/app.git"
    assert found.password == "t0ken"
    assert found.directory == f"{BUILDS}/team/app"
    assert "t0ken" not in repr(found)


@pytest.mark.parametrize(
    "directory", ["", "/etc", "build", f"{BUILDS}/../../etc", f"{BUILDS}/", f"{BUILDS}/a\nb"]
)
def test_a_build_lies_below_where_builds_lie(tmp_path: Path, directory: str) -> None:
    found = asked.read(environment(tmp_path, CI_PROJECT_DIR=directory))
    assert found.directory == f"{BUILDS}/build"


@pytest.mark.parametrize(
    "url",
    ["", "git@host:a/b", "ssh://host/a", "file:///etc", "ext::sh -c id", "https://", "http://["],
)
def test_what_is_no_address_of_http_is_not_fetched(tmp_path: Path, url: str) -> None:
    response = RESPONSE | {"git_info": {"repo_url": url, "sha": SHA}}
    assert asked.read(environment(tmp_path, response)).repository == ""


def test_without_the_file_the_variables_count(tmp_path: Path) -> None:
    found = asked.read({
        "CUSTOM_ENV_CI_JOB_ID": "12", "CUSTOM_ENV_CI_COMMIT_SHA": SHA,
        "CUSTOM_ENV_CI_REPOSITORY_URL": "https://git.example.org/a/b.git",
        "BUILD_FAILURE_EXIT_CODE": "41", "SYSTEM_FAILURE_EXIT_CODE": "x",
    })  # fmt: skip
    assert (found.build, found.timeout, found.password) == ("12", TIMEOUT, "")
    assert found.failures == (41, SYSTEM_FAILED)


@pytest.mark.parametrize("build", ["", "../x", "1/2", "a", "-1", "9" * 19])
def test_a_build_has_a_number(build: str) -> None:
    with pytest.raises(RaveError) as caught:
        asked.read({"CUSTOM_ENV_CI_JOB_ID": build})
    assert caught.value.exit_code is ExitCode.USAGE


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)


@given(
    st.fixed_dictionaries({"id": values, "git_info": values, "runner_info": values}) | values,
    st.dictionaries(st.sampled_from(["CI_JOB_ID", "CI_PROJECT_DIR", "GIT_STRATEGY"]), st.text()),
)
def test_whatever_a_runner_says_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, response: object, custom: dict[str, str]
) -> None:
    place = tmp_path_factory.getbasetemp()
    with suppress(RaveError):
        assert asked.read(environment(place, response, **custom)).build.isdecimal()
