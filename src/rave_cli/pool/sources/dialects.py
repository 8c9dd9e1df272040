"""How each forge is asked and told: paths, members and words of its documented REST API.

* GitHub: https://docs.github.com/rest/branches, /rest/repos/repos#list-repository-tags,
  /rest/pulls, /rest/commits/statuses
* Gitea, Forgejo: https://docs.gitea.com/api, https://forgejo.org/docs/latest/user/api-usage
* GitLab: https://docs.gitlab.com/api/branches, /api/tags, /api/merge_requests,
  /api/commits#set-commit-pipeline-status
* Pagure: https://pagure.io/api/0: git branches and tags, pull-requests, flag a commit
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from rave_cli.pool.sources.revision import github_request, pagure_request, revision
from rave_platform.domain.payloads.reading import first, number, text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from rave_cli.pool.sources.ledger import CommitState
    from rave_cli.pool.sources.revision import Revision, RevisionKind
    from rave_cli.pool.sources.source import Forge, ForgeSource

# Entries of one page: the most that each takes.
_HUNDRED, _FIFTY = "per_page=100", "limit=50"

# Characters: what GitHub shows of a description, and what a job is called beside others' checks.
LONGEST_SAID = 140


@dataclass(frozen=True)
class CommitReport:
    """What a forge is told of a commit: what people read, and where more stands."""

    commit: str
    state: CommitState
    said: str
    link: str
    job: str


@dataclass(frozen=True)
class ForgeDialect:
    """How a forge speaks.

    Attributes:
        api: returns where its API begins.
        shows_token: returns the header with which a token is shown.
        lists: the paths of what is listed, below the API's, by kind.
        read: returns the revisions in a page.
        status: returns path and body with which it is told of a commit.
        as_form: whether that body is a form, not JSON.
    """

    api: Callable[[str], str]
    shows_token: Callable[[str], dict[str, str]]
    lists: Callable[[ForgeSource], Mapping[RevisionKind, str]]
    read: Callable[[RevisionKind, Any], Iterator[Revision | None]]
    status: Callable[[ForgeSource, CommitReport], tuple[str, dict[str, Any]]]
    as_form: bool = False


def of(forge: Forge) -> ForgeDialect:
    """Return how a forge speaks."""
    return _DIALECTS[forge]


def context(source: ForgeSource) -> str:
    """Return what a pool's word on a commit is called beside those of others."""
    return f"rave/{source.name}"


# --- GitHub, Gitea, Forgejo ----------------------------------------------------------------------


def _github_api(url: str) -> str:
    return "https://api.github.com" if url == "https://github.com" else f"{url}/api/v3"


def _github_lists(source: ForgeSource) -> Mapping[RevisionKind, str]:
    return _like_github(source, _HUNDRED)


def _gitea_lists(source: ForgeSource) -> Mapping[RevisionKind, str]:
    return _like_github(source, _FIFTY)


def _like_github(source: ForgeSource, most: str) -> Mapping[RevisionKind, str]:
    at = f"/repos/{quote(source.repository)}"
    return {
        "push": f"{at}/branches?{most}",
        "tag": f"{at}/tags?{most}",
        "merge-request": f"{at}/pulls?state=open&{most}",
    }


def _github_read(kind: RevisionKind, page: Any) -> Iterator[Revision | None]:  # noqa: ANN401 - JSON
    for one in _objects(page):
        if kind == "merge-request":
            target, fork = github_request(one)
            named = _number(one, "number")
            yield revision(kind, named, text(one, "head", "sha"), target=target, fork=fork)
        else:
            # Gitea calls a branch's commit `id`, as its hooks do.
            commit = first(text(one, "commit", "sha"), text(one, "commit", "id"))
            yield revision(kind, text(one, "name"), commit)


def _github_status(source: ForgeSource, told: CommitReport) -> tuple[str, dict[str, Any]]:
    body = {"state": told.state, "description": told.said, "context": context(source)}
    if told.link:
        body["target_url"] = told.link
    return f"/repos/{quote(source.repository)}/statuses/{told.commit}", body


# --- GitLab --------------------------------------------------------------------------------------

_GITLAB_STATES = MappingProxyType(
    {"pending": "pending", "success": "success", "failure": "failed", "error": "failed"}
)


def _gitlab_at(source: ForgeSource) -> str:
    return f"/projects/{quote(source.repository, safe='')}"


def _gitlab_lists(source: ForgeSource) -> Mapping[RevisionKind, str]:
    at = _gitlab_at(source)
    return {
        "push": f"{at}/repository/branches?{_HUNDRED}",
        "tag": f"{at}/repository/tags?{_HUNDRED}",
        "merge-request": f"{at}/merge_requests?state=opened&{_HUNDRED}",
    }


def _gitlab_read(kind: RevisionKind, page: Any) -> Iterator[Revision | None]:  # noqa: ANN401 - JSON
    for one in _objects(page):
        if kind == "merge-request":
            ours = number(one, "target_project_id")
            fork = ours is None or ours != number(one, "source_project_id")
            target = text(one, "target_branch")
            yield revision(kind, _number(one, "iid"), text(one, "sha"), target=target, fork=fork)
        else:
            yield revision(kind, text(one, "name"), text(one, "commit", "id"))


def _gitlab_status(source: ForgeSource, told: CommitReport) -> tuple[str, dict[str, Any]]:
    body = {
        "state": _GITLAB_STATES[told.state], "description": told.said, "name": context(source),
    }  # fmt: skip
    if told.link:
        body["target_url"] = told.link
    return f"{_gitlab_at(source)}/statuses/{told.commit}", body


# --- Pagure --------------------------------------------------------------------------------------


def _pagure_lists(source: ForgeSource) -> Mapping[RevisionKind, str]:
    at = f"/{quote(source.repository)}"
    return {
        "push": f"{at}/git/branches?with_commits=true",
        "tag": f"{at}/git/tags?with_commits=true",
        "merge-request": f"{at}/pull-requests?status=Open&{_HUNDRED}",
    }


def _pagure_read(kind: RevisionKind, page: Any) -> Iterator[Revision | None]:  # noqa: ANN401 - JSON
    known = page if isinstance(page, dict) else {}
    if kind == "merge-request":
        for one in _objects(known.get("requests")):
            target, fork = pagure_request(one)
            commit = text(one, "commit_stop")
            yield revision(kind, _number(one, "id"), commit, target=target, fork=fork)
        return
    refs = known.get("branches" if kind == "push" else "tags")
    for name, commit in (refs if isinstance(refs, dict) else {}).items():
        yield revision(kind, str(name), commit if isinstance(commit, str) else "")


def _pagure_status(source: ForgeSource, told: CommitReport) -> tuple[str, dict[str, Any]]:
    # It has to have an address; a flag of the same uid is replaced.
    link = told.link or f"{source.url}/{source.repository}/c/{told.commit}"
    body = {
        "username": context(source), "comment": told.said, "url": link, "status": told.state,
        "uid": told.job or told.commit[:32],
    }  # fmt: skip
    return f"/{quote(source.repository)}/c/{told.commit}/flag", body


# --- reading -------------------------------------------------------------------------------------


def _objects(page: Any) -> list[dict[str, Any]]:  # noqa: ANN401 - JSON
    return [one for one in page if isinstance(one, dict)] if isinstance(page, list) else []


def _number(one: Mapping[str, Any], name: str) -> str:
    found = number(one, name)
    return "" if found is None else str(found)


def _token_header(token: str) -> dict[str, str]:
    return {"Authorization": f"token {token}"}


_GITEA = ForgeDialect(
    api=lambda url: f"{url}/api/v1",
    shows_token=_token_header,
    lists=_gitea_lists,
    read=_github_read,
    status=_github_status,
)

_DIALECTS: Mapping[Forge, ForgeDialect] = MappingProxyType({
    "github": ForgeDialect(
        api=_github_api,
        shows_token=lambda token: {"Authorization": f"Bearer {token}"},
        lists=_github_lists,
        read=_github_read,
        status=_github_status,
    ),
    "gitea": _GITEA,
    "forgejo": _GITEA,
    "gitlab": ForgeDialect(
        api=lambda url: f"{url}/api/v4",
        shows_token=lambda token: {"PRIVATE-TOKEN": token},
        lists=_gitlab_lists,
        read=_gitlab_read,
        status=_gitlab_status,
    ),
    "pagure": ForgeDialect(
        api=lambda url: f"{url}/api/0",
        shows_token=_token_header,
        lists=_pagure_lists,
        read=_pagure_read,
        status=_pagure_status,
        as_form=True,
    ),
})  # fmt: skip
