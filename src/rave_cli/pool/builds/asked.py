"""What GitLab Runner says to a custom executor: in the environment, and in a file of its own.

https://docs.gitlab.com/runner/executors/custom. Variables of the environment (`CUSTOM_ENV_…`) can
be set by whoever writes the pipeline; what is done on this host goes by the runner's file.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from rave_cli.errors import ExitCode, RaveError
from rave_cli.pool.builds import wanted
from rave_cli.pool.sources.revision import COMMIT

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rave_cli.pool.builds.wanted import BuildFiles

# In a guest of its own, and on its disk, since sources can be large.
BUILDS, CACHE = "/var/tmp/rave-builds", "/var/tmp/rave-cache"  # noqa: S108

# What the runner ends with if it does not say (its own defaults).
BUILD_FAILED, SYSTEM_FAILED = 1, 2

# Seconds that a build may take if the runner does not say, and besides for its machine to start.
TIMEOUT, STARTS = 3600.0, 600.0

# Commits that come with a build's if the runner does not say (GitLab's default for new projects),
# and the most that it may say.
DEPTH, MOST_DEPTH = 20, 1_000_000

_ID = re.compile(r"[0-9]{1,18}")


@dataclass(frozen=True)
class RunnerAsked:
    """A build that a runner asks for.

    Attributes:
        build: its number in GitLab.
        timeout: seconds that it may take.
        repository: where its commit is fetched from, without a password; empty for none.
        password: for that.
        commit: in hex; empty for none.
        depth: how many commits of its history come with it; 0 for all.
        directory: where it lies in the machine.
        strategy: of git; `none` fetches nothing.
        build_failed: what to end with if the build failed.
        system_failed: what to end with if anything else did.
        server: GitLab's address, of which its repository is; empty for none.
        files: what it keeps and gets; None if the runner does not say.
        status_file: where the status of a build that failed is left; None for nowhere.
    """

    build: str
    timeout: float
    repository: str
    password: str = field(repr=False)
    commit: str
    depth: int
    directory: str
    strategy: str
    build_failed: int
    system_failed: int
    status_file: Path | None
    server: str = ""
    files: BuildFiles | None = None

    @property
    def failures(self) -> tuple[int, int]:
        """What to end with: for the build's own failure, and for any other."""
        return self.build_failed, self.system_failed


def failures(environment: Mapping[str, str]) -> tuple[int, int]:
    """Return what to end with: for the build's own failure, and for any other."""
    return (
        _status(environment.get("BUILD_FAILURE_EXIT_CODE", ""), BUILD_FAILED),
        _status(environment.get("SYSTEM_FAILURE_EXIT_CODE", ""), SYSTEM_FAILED),
    )


def read(environment: Mapping[str, str]) -> RunnerAsked:
    """Return what a runner asks for.

    Raises:
        RaveError: USAGE if no runner asks.
    """
    said = _response(environment)
    git = said.get("git_info")
    git = git if isinstance(git, dict) else {}
    build = str(said.get("id", "")) or environment.get("CUSTOM_ENV_CI_JOB_ID", "")
    if not _ID.fullmatch(build):
        raise RaveError(
            "there is no build: this is run by GitLab Runner, as its custom executor",
            hint="rave pool executor --help; docs/how-to/run-gitlab-builds-in-a-pool.md",
            exit_code=ExitCode.USAGE,
        )
    url = _text(git.get("repo_url")) or environment.get("CUSTOM_ENV_CI_REPOSITORY_URL", "")
    commit = _text(git.get("sha")) or environment.get("CUSTOM_ENV_CI_COMMIT_SHA", "")
    repository, password = _parted(url)
    runner = said.get("runner_info")
    runner = runner if isinstance(runner, dict) else {}
    file = environment.get("BUILD_EXIT_CODE_FILE", "")
    build_failed, system_failed = failures(environment)
    return RunnerAsked(
        build=build,
        timeout=_seconds(runner.get("timeout"), environment.get("CUSTOM_ENV_CI_JOB_TIMEOUT", "")),
        repository=repository,
        password=password,
        commit=commit if COMMIT.fullmatch(commit) else "",
        depth=_depth(git.get("depth")),
        directory=_directory(environment.get("CUSTOM_ENV_CI_PROJECT_DIR", "")),
        strategy=environment.get("CUSTOM_ENV_GIT_STRATEGY", ""),
        build_failed=build_failed,
        system_failed=system_failed,
        status_file=Path(file) if file else None,
        server=_server(repository, environment.get("CUSTOM_ENV_CI_SERVER_URL", "")),
        files=wanted.read(said, environment),
    )


def _response(environment: Mapping[str, str]) -> dict[str, Any]:
    file = environment.get("JOB_RESPONSE_FILE", "")
    if not file:
        return {}
    try:
        found = json.loads(Path(file).read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise RaveError(
            f"what the runner says of the build cannot be read: {file}",
            hint=f"ls -l {file}",
            exit_code=ExitCode.HOST,
        ) from error
    return found if isinstance(found, dict) else {}


def _parted(url: str) -> tuple[str, str]:
    """Return an address without its password, and that; nothing of what is no address of HTTP."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "", ""
    if parts.scheme not in ("http", "https") or not url.isprintable() or not parts.hostname:
        return "", ""
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}{parts.path}", parts.password or ""


def _server(repository: str, said: str) -> str:
    """Return the address of the GitLab that a repository is of. Below which path that is may stand
    in a variable, which a pipeline can set: its host is the repository's.
    """
    parts = urlsplit(repository)
    root = f"{parts.scheme}://{parts.netloc}" if parts.netloc else ""
    below = said.removeprefix(root).rstrip("/")
    plain = root and said.startswith(root) and re.fullmatch(r"(/[A-Za-z0-9._~-]+)*", below)
    return root + below if plain else root


def _directory(text: str) -> str:
    below = text.startswith(f"{BUILDS}/") and text.isprintable()
    good = below and not {"", ".", ".."} & set(text.removeprefix(f"{BUILDS}/").split("/"))
    return text if good else f"{BUILDS}/build"


def _seconds(*said: object) -> float:
    for one in said:
        text = str(one)
        if text.isdecimal() and text.isascii() and 0 < int(text[:9]) <= 7 * 86400:
            return float(text)
    return TIMEOUT


def _depth(said: object) -> int:
    """Return how many commits a runner wants; it says 0 where it wants all."""
    return said if isinstance(said, int) and 0 <= said <= MOST_DEPTH else DEPTH


def _status(text: str, otherwise: int) -> int:
    return (
        int(text) if text.isdecimal() and text.isascii() and 0 < int(text[:4]) < 256 else otherwise
    )


def _text(found: object) -> str:
    return found if isinstance(found, str) else ""
