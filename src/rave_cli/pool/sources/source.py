"""A source: a repository of a forge, and what the operator lets it run.

What is run, with which secrets and limits, stands here and nowhere else. What a forge says chooses
a commit of this repository and nothing more.
"""

from __future__ import annotations

import fnmatch
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args
from urllib.parse import urlsplit

from rave_cli import paths
from rave_cli.errors import ExitCode, RaveError
from rave_cli.pool.jobs.database import folder
from rave_cli.pool.jobs.work import work_of
from rave_cli.records import RecordFormat

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from rave_cli.pool.jobs.work import Work
    from rave_cli.pool.sources.revision import Revision

Forge = Literal["gitlab", "github", "gitea", "forgejo", "pagure"]
FORGES: tuple[Forge, ...] = get_args(Forge)

# What a job may be made for.
Trigger = Literal["push", "merge-request", "tag"]
TRIGGERS: tuple[Trigger, ...] = get_args(Trigger)

# It stands in the path of a hook, and is what the dispatcher calls a sender.
NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")

# `group/app`, in GitLab of any depth.
REPOSITORY = re.compile(r"[A-Za-z0-9_.][A-Za-z0-9_.+-]*(/[A-Za-z0-9_.][A-Za-z0-9_.+-]*){0,20}")

# Each has a thread while the pool is served.
MOST = 64

# Seconds between two polls.
EVERY, SOONEST = 300.0, 10.0

# Hosts to which a token may go without TLS.
LOOPBACK = {"localhost", "127.0.0.1", "::1"}


@dataclass(frozen=True)
class ForgeSource:
    """A source. None of it is a secret.

    Attributes:
        name: the operator's.
        forge: what speaks there.
        url: where people find the forge.
        repository: its path there, with its namespace.
        on: what a job is made for.
        refs: patterns of branches, of tags, and of what merge requests are for; none is all.
        secrets: names of the operator's secrets that hooks are signed with: several while they are
            rotated.
        token: name of the secret with which the forge is asked and told; empty for none.
        every: seconds between two polls; 0 for none.
        forks: whether merge requests of forks are built, which then read no secret.
        dispatcher: the machine whose dispatcher takes the hooks; empty for none.
        sender: what that calls this forge.
        clone: where git fetches from; empty for where the forge has it.
        link: an address that a commit's status names, with {job} in it; empty for none.
        asked: what each job does, as the store has it.
    """

    name: str
    forge: Forge
    url: str
    repository: str
    on: tuple[Trigger, ...]
    refs: tuple[str, ...]
    secrets: tuple[str, ...]
    token: str
    every: float
    forks: bool
    dispatcher: str
    sender: str
    clone: str
    link: str
    asked: str

    @property
    def work(self) -> Work:
        """What each job does."""
        return work_of(json.loads(self.asked))

    @property
    def fetched_from(self) -> str:
        """The address that git fetches from."""
        return self.clone or f"{self.url}/{self.repository}.git"

    def wants(self, revision: Revision) -> bool:
        """Return whether a job is made for a revision."""
        if revision.kind not in self.on or (revision.fork and not self.forks):
            return False
        named = revision.target if revision.kind == "merge-request" else revision.name
        return not self.refs or any(fnmatch.fnmatchcase(named, one) for one in self.refs)

    def is_of(self, repository: str) -> bool:
        """Return whether a forge means this repository; only GitLab's and Pagure's have case."""
        if self.forge in ("gitlab", "pagure"):
            return repository == self.repository
        return repository.casefold() == self.repository.casefold()


@dataclass(frozen=True)
class SourcesRecord:
    """The content of sources.json."""

    sources: tuple[ForgeSource, ...] = ()


SOURCES = RecordFormat(title="the pool's sources", shape=SourcesRecord, version=1)


def checked(source: ForgeSource) -> ForgeSource:
    """Return a source as it is kept.

    Raises:
        RaveError: USAGE if it cannot be one.
    """
    if not NAME.fullmatch(source.name):
        raise _refused(
            f"{source.name!r} is no name of a source", "a to z, 0 to 9 and -, 32 at most"
        )
    if not REPOSITORY.fullmatch(source.repository) or ".." in source.repository:
        raise _refused(
            f"{source.repository!r} is no path of a repository", "--repository GROUP/NAME"
        )
    if "/" not in source.repository and source.forge != "pagure":
        raise _refused(f"{source.repository!r} has no namespace", "--repository GROUP/NAME")
    _check_address(source.url, "--url https://HOST")
    if source.link:
        _check_address(source.link, "--link https://HOST/{job}")
    if not source.on:
        raise _refused("nothing that a job is made for", "--on push")
    if source.every and source.every < SOONEST:
        raise _refused(f"a poll each {source.every:g} s", f"--every {SOONEST:g}, or more, or 0")
    if not (source.secrets or source.every or source.dispatcher):
        raise _refused("it would hear of nothing", "--secret-from NAME, or --every SECONDS")
    for pattern in source.refs:
        if not pattern or not pattern.isprintable():
            raise _refused(f"{pattern!r} is no pattern", "--ref 'release/*'")
    return source


def _check_address(address: str, form: str) -> None:
    try:
        parts = urlsplit(address)
        parts.port  # noqa: B018 - raises if it is none
    except ValueError as error:
        raise _refused(f"{address!r} is no address: {error}", form) from error
    good = parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in LOOPBACK)
    plain = address.isascii() and address.isprintable() and " " not in address
    if not good or not plain or not parts.hostname or "@" in parts.netloc:
        raise _refused(f"{address!r} is no address of https, without a password", form)


def _refused(why: str, form: str) -> RaveError:
    return RaveError(why, hint=f"give it as {form}", exit_code=ExitCode.USAGE)


# --- where they are kept -------------------------------------------------------------------------


def place() -> Path:
    """Return where the sources of whoever calls are."""
    return folder() / "sources.json"


def read() -> tuple[ForgeSource, ...]:
    """Return the sources.

    Raises:
        RaveError: HOST if they cannot be read, or others may have written them.
    """
    if not place().exists():
        return ()
    hint = f"mv {place()} {place()}.damaged; then add them again: rave pool source add"
    return SOURCES.read(place(), hint=hint).sources


def load(name: str) -> ForgeSource:
    """Return a source.

    Raises:
        RaveError: USAGE if there is none.
    """
    for source in read():
        if source.name == name:
            return source
    raise RaveError(
        f"there is no source {name!r}", hint="rave pool source list", exit_code=ExitCode.USAGE
    )


def add(source: ForgeSource) -> None:
    """Keep a source; one that is there already as it is stays.

    Raises:
        RaveError: USAGE if it cannot be one, or there is another of that name.
    """
    with _changing():
        known = read()
        if source in known:
            return
        if any(one.name == source.name for one in known):
            raise RaveError(
                f"there is a source {source.name!r}",
                hint=f"rave pool source show {source.name}; rave pool source remove {source.name}",
                exit_code=ExitCode.USAGE,
            )
        if len(known) >= MOST:
            raise RaveError(
                f"there are {MOST} sources, and there may be no more",
                hint="rave pool source list",
                exit_code=ExitCode.USAGE,
            )
        _write((*known, checked(source)))


def remove(name: str) -> ForgeSource:
    """Forget a source; return it.

    Raises:
        RaveError: USAGE if there is none.
    """
    with _changing():
        gone = load(name)
        _write([one for one in read() if one.name != name])
    return gone


class SourcesFile:
    """The sources, read again when they are others than before."""

    def __init__(self) -> None:
        self._seen: tuple[int, int, int] | None = None
        self._known: dict[str, ForgeSource] = {}

    def all(self) -> dict[str, ForgeSource]:
        """Return them by their names.

        Raises:
            RaveError: as `read`.
        """
        found = place().stat() if place().exists() else None
        seen = found and (found.st_ino, found.st_mtime_ns, found.st_size)
        if seen is None or seen != self._seen:
            self._known = {one.name: one for one in read()}
            self._seen = seen
        return self._known


def _changing() -> AbstractContextManager[None]:
    return paths.lock(paths.private_dir(folder()) / "sources.lock", busy=None)


def _write(sources: Sequence[ForgeSource]) -> None:
    SOURCES.write(place(), SourcesRecord(tuple(sources)), mode=0o600)
