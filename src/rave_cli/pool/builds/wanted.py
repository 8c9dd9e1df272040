"""Which files a build keeps and gets, as GitLab tells a runner: artifacts, caches, dependencies.

What decides where something goes, or whose it is, is read from the runner's own file alone.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_VARIABLE = re.compile(r"\$(?:([A-Za-z_][A-Za-z0-9_]*)|\{([A-Za-z_][A-Za-z0-9_]*)\})")


@dataclass(frozen=True)
class WantedFiles:
    """Files below where a build lies, by patterns in which `**` is any folders; a folder is all
    that is below it.
    """

    paths: tuple[str, ...]
    exclude: tuple[str, ...] = ()

    def chosen(self, names: Iterable[str]) -> list[str]:
        """Return those of these files that are wanted."""
        wanted, not_wanted = (
            [_parts(path) for path in some] for some in (self.paths, self.exclude)
        )
        return [
            name
            for name in names
            if _fits(wanted, name.split("/")) and not _fits(not_wanted, name.split("/"))
        ]


@dataclass(frozen=True)
class WantedArtifact:
    """What is to be kept of a build by GitLab.

    Attributes:
        name: of the archive, without its ending.
        files: what is in it.
        when: of a build that succeeds, of one that fails, or of both.
        kind: `archive`, or that of a report.
        form: `zip`, `gzip`, or another.
        expires: when GitLab removes it, in its words.
    """

    name: str
    files: WantedFiles
    when: str
    kind: str
    form: str
    expires: str


@dataclass(frozen=True)
class WantedCache:
    """What builds leave to one another: it is put under the first of `keys`, and looked for under
    each in turn; `gets` and `puts` say whether.
    """

    keys: tuple[str, ...]
    files: WantedFiles
    when: str
    gets: bool
    puts: bool


@dataclass(frozen=True)
class WantedBuild:
    """A build whose artifacts another gets: its number, its token, its name."""

    number: int
    token: str = field(repr=False)
    name: str


@dataclass(frozen=True)
class BuildFiles:
    """All of that; `project` is whose caches they are, `token` the build's own."""

    project: str
    token: str = field(repr=False)
    artifacts: tuple[WantedArtifact, ...]
    caches: tuple[WantedCache, ...]
    dependencies: tuple[WantedBuild, ...]


def is_for(when: str, *, success: bool) -> bool:
    """Return whether something is to be kept of a build that succeeded, or failed."""
    return when == "always" or (when == "on_failure") != success


def read(said: Mapping[str, Any], environment: Mapping[str, str]) -> BuildFiles | None:
    """Return what a runner's file says of files; None if there is none. Variables in names, keys
    and paths are the build's.
    """
    info, token = said.get("job_info"), said.get("token")
    project = info.get("project_id") if isinstance(info, dict) else None
    if not isinstance(project, int) or not isinstance(token, str) or not token:
        return None

    def text(found: object) -> str:
        def value(match: re.Match[str]) -> str:
            return environment.get(f"CUSTOM_ENV_{match[1] or match[2]}", "")

        return _VARIABLE.sub(value, found) if isinstance(found, str) else ""

    def texts(found: object) -> tuple[str, ...]:
        return tuple(filter(None, map(text, found))) if isinstance(found, list) else ()

    artifacts = tuple(
        WantedArtifact(
            name=text(one.get("name")) or "artifacts",
            files=WantedFiles(texts(one.get("paths")), texts(one.get("exclude"))),
            when=text(one.get("when")) or "on_success",
            kind=text(one.get("artifact_type")) or "archive",
            form=text(one.get("artifact_format")) or "zip",
            expires=text(one.get("expire_in")),
        )
        for one in _objects(said.get("artifacts"))
    )
    caches = tuple(
        WantedCache(
            keys=(text(one.get("key")) or "default", *texts(one.get("fallback_keys"))),
            files=WantedFiles(texts(one.get("paths"))),
            when=text(one.get("when")) or "on_success",
            gets=one.get("policy") in (None, "", "pull", "pull-push"),
            puts=one.get("policy") in (None, "", "push", "pull-push"),
        )
        for one in _objects(said.get("cache"))
    )
    dependencies = tuple(
        WantedBuild(one["id"], one["token"], str(one.get("name", "")))
        for one in _objects(said.get("dependencies"))
        if isinstance(one.get("id"), int)
        and isinstance(one.get("token"), str)
        and isinstance(one.get("artifacts_file"), dict)
        and one["artifacts_file"].get("filename")
    )
    return BuildFiles(str(project), token, artifacts, caches, dependencies)


def _objects(found: object) -> list[dict[str, Any]]:
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part not in ("", ".")] or ["**"]


def _fits(patterns: list[list[str]], parts: list[str]) -> bool:
    return any(_fits_one(pattern, parts) for pattern in patterns)


def _fits_one(pattern: list[str], parts: list[str]) -> bool:
    """Return whether a pattern fits a path, or a folder that it is in. Takes no more steps than
    there are parts of both: the pattern is the pipeline's.
    """
    at = _passed(pattern, {0})
    for part in parts:
        at = _passed(
            pattern,
            {
                n if pattern[n] == "**" else n + 1
                for n in at
                if n < len(pattern) and (pattern[n] == "**" or fnmatchcase(part, pattern[n]))
            },
        )
        if len(pattern) in at:
            return True
    return False


def _passed(pattern: list[str], at: set[int]) -> set[int]:
    """Return those places in a pattern, and where they lead if `**` is no folder."""
    found = set(at)
    for n in sorted(at):
        end = n
        while end < len(pattern) and pattern[end] == "**":
            end += 1
            found.add(end)
    return found
