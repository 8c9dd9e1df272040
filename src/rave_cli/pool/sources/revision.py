"""A revision: the commit of a branch, a tag or a merge request, as a forge tells of it.

Whatever a payload says is data: what is no commit, or no name that git would take, is no revision.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from rave_platform.domain.events import EventKind, Provider
from rave_platform.domain.payloads.reading import at, first, number, text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rave_platform.domain.events import EventFacts

RevisionKind = Literal["push", "merge-request", "tag"]

# SHA-1 or SHA-256; git writes zeros for what is not there.
COMMIT = re.compile(r"(?!0+$)([0-9a-f]{40}|[0-9a-f]{64})")

# git-check-ref-format(1), rules 1 to 10; what cannot be printed is refused before.
_NO_NAME = re.compile(r"(^|/)\.|\.\.|[ ~^:?*\[\\]|//|^/|/$|\.$|@\{|\.lock(/|$)|^@$|^-")
LONGEST_NAME = 255

# Of a merge request that may have a new commit.
_COMMITTED = {"open", "update", "reopen"}


@dataclass(frozen=True)
class Revision:
    """What a job is made for, once.

    Attributes:
        kind: of what the commit is the last.
        name: of the branch or tag, or the number of the merge request.
        commit: in hex.
        target: the branch that a merge request is for.
        fork: whether a merge request's commit is of another repository.
    """

    kind: RevisionKind
    name: str
    commit: str
    target: str = ""
    fork: bool = False

    @property
    def shown(self) -> str:
        """What people read."""
        named = f"!{self.name}" if self.kind == "merge-request" else self.name
        return f"{named} {self.commit[:12]}"


def is_name(name: str) -> bool:
    """Return whether git would take a name for a branch's or tag's."""
    return 0 < len(name) <= LONGEST_NAME and name.isprintable() and not _NO_NAME.search(name)


def revision(
    kind: RevisionKind, name: str, commit: str, *, target: str = "", fork: bool = False
) -> Revision | None:
    """Return a revision; None if it cannot be one."""
    named = name.isdecimal() and name.isascii() if kind == "merge-request" else is_name(name)
    if not named or not COMMIT.fullmatch(commit) or (target and not is_name(target)):
        return None
    return Revision(kind, name, commit, target, fork)


def told(provider: Provider, said: EventFacts, payload: Mapping[str, Any]) -> Revision | None:
    """Return the revision that an event tells of; None if it tells of none.

    Args:
        provider: whose payload it is.
        said: what was read from it.
        payload: itself, for what only this forge says.
    """
    if said.kind is EventKind.PUSH and said.action != "delete":
        return _pushed(provider, said, payload)
    if said.kind is EventKind.MERGE_REQUEST and said.action in _COMMITTED:
        target, fork = _MERGED[provider](payload)
        named = "" if said.number is None else str(said.number)
        return revision("merge-request", named, said.commit, target=target, fork=fork)
    return None


def repository(provider: Provider, said: EventFacts, payload: Mapping[str, Any]) -> str:
    """Return the path of the repository that an event is of."""
    if provider is Provider.PAGURE:
        # A pull request's stands within it.
        return first(said.project, text(payload, "msg", "pullrequest", "project", "fullname"))
    return said.project


def _pushed(provider: Provider, said: EventFacts, payload: Mapping[str, Any]) -> Revision | None:
    ref = text(payload, *(("msg", "branch") if provider is Provider.PAGURE else ("ref",)))
    # Of an annotated tag `after` is the tag's own object; these are the commit.
    commit = first(text(payload, "checkout_sha"), text(payload, "head_commit", "id"), said.commit)
    if ref.startswith("refs/tags/"):
        return revision("tag", ref.removeprefix("refs/tags/"), commit)
    if provider is not Provider.PAGURE and not ref.startswith("refs/heads/"):
        # GitHub's `create` has a name alone, and a `push` beside it.
        return None
    return revision("push", ref.removeprefix("refs/heads/"), commit)


def _gitlab(payload: Mapping[str, Any]) -> tuple[str, bool]:
    about = "object_attributes"
    ours = number(payload, about, "target_project_id")
    same = ours is not None and ours == number(payload, about, "source_project_id")
    return text(payload, about, "target_branch"), not same


def _github(payload: Mapping[str, Any]) -> tuple[str, bool]:
    return github_request(payload.get("pull_request"))


def _pagure(payload: Mapping[str, Any]) -> tuple[str, bool]:
    return pagure_request(at(payload, "msg", "pullrequest"))


def github_request(pull: object) -> tuple[str, bool]:
    """Return the target of a pull request of GitHub or Gitea, and whether it is a fork's."""
    known: Mapping[str, Any] = pull if isinstance(pull, dict) else {}
    ours = text(known, "base", "repo", "full_name")
    same = bool(ours) and ours == text(known, "head", "repo", "full_name")
    return text(known, "base", "ref"), not same


def pagure_request(pull: object) -> tuple[str, bool]:
    """Return the target of a pull request as Pagure has it, and whether it is a fork's."""
    known: Mapping[str, Any] = pull if isinstance(pull, dict) else {}
    ours = text(known, "project", "fullname")
    same = bool(ours) and ours == text(known, "repo_from", "fullname")
    return text(known, "branch"), not same


def _nobodys(_payload: Mapping[str, Any]) -> tuple[str, bool]:
    return "", True


_MERGED = {
    Provider.GITLAB: _gitlab,
    Provider.GITHUB: _github,
    Provider.GITEA: _github,
    Provider.PAGURE: _pagure,
    Provider.STANDARD: _nobodys,
}
