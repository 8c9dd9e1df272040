"""Pagure by its API 0 (https://pagure.io/api/0/) and, for commits, by git over HTTP.

Its API refuses no second pull request of a branch, so after opening one it is looked again: of
several the first stays.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from rave_platform.adapters.forge.git import GitRemote
from rave_platform.adapters.forge.http import ForgeHttp, once, part
from rave_platform.application.forge import ForgeRefusedError, ForgeUnavailableError
from rave_platform.domain.forge import ForgeProject, MergeRequest, MergeState, StatusState

if TYPE_CHECKING:
    import httpx

    from rave_platform.domain.forge import CommitStatus, NewCommit, NewMergeRequest

# What a list returns at most.
PAGE = "100"
STATES = {"Open": MergeState.OPEN, "Merged": MergeState.MERGED}
FLAGS = {
    StatusState.PENDING: ("pending", None),
    StatusState.SUCCESS: ("success", "100"),
    StatusState.FAILED: ("failure", "0"),
}


@dataclass(frozen=True)
class PagureSettings:
    """Where it is, and who we are there: the token is one of this user's, for the API and git."""

    url: str
    user: str
    token: str = field(repr=False)
    namespace: str = ""


class PagureForge:
    """A Forge."""

    def __init__(
        self, settings: PagureSettings, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        self._settings = settings
        self._git = GitRemote(settings.url, settings.user, settings.token)
        self._http = ForgeHttp(
            f"{settings.url}/api/0", {"authorization": f"token {settings.token}"}, transport
        )

    async def close(self) -> None:
        """As Forge."""
        await self._http.close()

    # --- projects

    async def project(self, path: str) -> ForgeProject | None:
        """As Forge."""
        found = await self._http.find(self._at(path))
        if found is None:
            return None
        default, _ = await self._branches(path)
        return ForgeProject(
            found["fullname"], found["full_url"], default,
            datetime.fromtimestamp(float(found["date_created"]), UTC),
        )  # fmt: skip

    async def create_project(self, path: str, description: str) -> ForgeProject:
        """As Forge."""
        namespace, _, name = self._full(path).rpartition("/")

        async def make() -> None:
            await self._http.ask(
                "POST", "/new",
                data={
                    "name": name, "description": description or name, "create_readme": "true",
                    "default_branch": "main",
                    # Its worker makes the repository; who waits for it hangs while that is away.
                    "wait": "",
                    **({"namespace": namespace} if namespace else {}),
                },
            )  # fmt: skip

        return await once(partial(self.project, path), make)

    async def files(self, project: str, branch: str) -> dict[str, bytes]:
        """As Forge."""
        return await self._git.files(self._full(project), branch)

    # --- branches and commits

    async def create_branch(self, project: str, branch: str, start: str) -> str:
        """As Forge."""

        async def look() -> str | None:
            _, branches = await self._branches(project)
            return branches.get(branch)

        async def make() -> None:
            await self._http.ask(
                "POST", f"{self._at(project)}/git/branch",
                data={"branch": branch, "from_branch": start},
            )  # fmt: skip

        return await once(look, make)

    async def _branches(self, project: str) -> tuple[str, dict[str, str]]:
        """Return the default branch, and the newest commits of all.

        Raises:
            ForgeUnavailableError: if there is none yet: until the worker has made the repository of
                a project, its branches are not found.
            ForgeRefusedError: if there is no such project, or no longer.
        """
        place = f"{self._at(project)}/git/branches"
        found = await self._http.find(place, params={"with_commits": "true"})
        if found is None and await self._http.find(self._at(project)) is None:
            raise ForgeRefusedError(f"the forge: there is no project {project}", 404)
        for default in found["default"] if found else ():
            return default, found["branches"]
        raise ForgeUnavailableError("the forge: the project has no branch yet", 1.0)

    async def commit(self, project: str, wanted: NewCommit) -> str:
        """As Forge."""
        return await self._git.commit(self._full(project), wanted)

    # --- merge requests

    async def merge_request(self, project: str, source: str) -> MergeRequest | None:
        """As Forge."""
        found = await self._requests(project, source)
        opened = [one for one in found if one.state is MergeState.OPEN]
        # Of several that are open the first is the one; otherwise the last.
        return next(iter(opened or found[::-1]), None)

    async def _requests(self, project: str, source: str) -> list[MergeRequest]:
        """Return the merge requests of a branch, the oldest first."""
        found: list[dict[str, Any]] = []
        page, pages = 1, 1
        while page <= pages:
            answer = await self._http.ask(
                "GET", f"{self._at(project)}/pull-requests",
                params={"status": "all", "per_page": PAGE, "page": str(page)},
            )  # fmt: skip
            found += answer["requests"]
            pages = int(answer.get("pagination", {}).get("pages", 1))
            page += 1
        return sorted(
            (_request(one) for one in found if one["branch_from"] == source),
            key=lambda one: one.number,
        )

    async def open_merge_request(self, project: str, wanted: NewMergeRequest) -> MergeRequest:
        """As Forge."""

        async def make() -> None:
            await self._http.ask(
                "POST", f"{self._at(project)}/pull-request/new",
                data={
                    "title": wanted.title, "branch_to": wanted.target,
                    "branch_from": wanted.source, "initial_comment": wanted.text,
                },
            )  # fmt: skip

        found = await once(partial(self.merge_request, project, wanted.source), make)
        for other in await self._requests(project, wanted.source):
            if other.state is MergeState.OPEN and other.number > found.number:
                await self.close_merge_request(project, other.number)
        return found

    async def comment(self, project: str, number: int, text: str) -> None:
        """As Forge."""
        place = f"{self._at(project)}/pull-request/{number}"
        said = {
            comment["comment"].strip()
            for comment in (await self._http.ask("GET", place))["comments"]
            if comment["user"]["name"] == self._settings.user
        }
        if text.strip() not in said:
            await self._http.ask("POST", f"{place}/comment", data={"comment": text})

    async def set_status(self, project: str, request: MergeRequest, status: CommitStatus) -> None:
        """As Forge."""
        state, percent = FLAGS[status.state]
        # One with the same uid is written anew.
        await self._http.ask(
            "POST", f"{self._at(project)}/pull-request/{request.number}/flag",
            data={
                "username": status.name, "status": state, "comment": status.text,
                "url": status.url, "uid": f"{status.name}-{request.commit}"[:32],
                **({"percent": percent} if percent else {}),
            },
        )  # fmt: skip

    async def merge(self, project: str, request: MergeRequest) -> None:
        """As Forge."""
        place = f"{self._at(project)}/pull-request/{request.number}"
        found = _request(await self._http.ask("GET", place))
        if found.state is MergeState.MERGED:
            return
        if found.state is not MergeState.OPEN or found.commit != request.commit:
            raise ForgeRefusedError("the forge: it is no longer what was looked at", 409)
        try:
            await self._http.ask("POST", f"{place}/merge", data={"wait": "true"})
        except ForgeRefusedError:
            if _request(await self._http.ask("GET", place)).state is not MergeState.MERGED:
                raise

    async def close_merge_request(self, project: str, number: int) -> None:
        """As Forge."""
        place = f"{self._at(project)}/pull-request/{number}"
        if _request(await self._http.ask("GET", place)).state is MergeState.OPEN:
            await self._http.ask("POST", f"{place}/close")

    # --- hooks

    async def see_to_hook(self, project: str, url: str, secret: str) -> str:
        """As Forge; it signs with a secret of its own."""
        at = self._at(project)
        options = await self._http.ask("GET", f"{at}/options")
        hooks = str(options["settings"].get("Web-hooks") or "").split()
        if url not in hooks:
            # What is not named stays as it is.
            await self._http.ask(
                "POST", f"{at}/options/update", data={"Web-hooks": "\n".join([*hooks, url])}
            )
        told = await self._http.ask("GET", f"{at}/connector")
        return str(told["connector"]["hook_token"])

    def _at(self, path: str) -> str:
        return "/" + "/".join(map(part, self._full(path).split("/")))

    def _full(self, path: str) -> str:
        namespace = self._settings.namespace
        return path if "/" in path or not namespace else f"{namespace}/{path}"


def _request(found: dict[str, Any]) -> MergeRequest:
    state = STATES.get(found["status"], MergeState.CLOSED)
    return MergeRequest(
        int(found["id"]), found["full_url"], state, found["branch_from"], found["branch"],
        found["commit_stop"] or "",
    )  # fmt: skip
