"""GitLab by its REST API v4: https://docs.gitlab.com/api/rest/ ."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from rave_platform.adapters.forge import archive
from rave_platform.adapters.forge.http import ForgeHttp, once, part
from rave_platform.application.forge import ForgeRefusedError, ForgeUnavailableError
from rave_platform.domain.forge import ForgeProject, MergeRequest, MergeState

if TYPE_CHECKING:
    import httpx

    from rave_platform.domain.forge import CommitStatus, NewCommit, NewMergeRequest

# What a list returns at a time; of comments and commits the newest are looked at.
PAGE = "100"
# Characters of a status' text that GitLab takes.
LONGEST_STATUS = 255
STATES = {"opened": MergeState.OPEN, "merged": MergeState.MERGED, "closed": MergeState.CLOSED}
# `detailed_merge_status` of what can be merged later.
NOT_YET = {"approvals_syncing", "checking", "ci_still_running", "preparing", "unchecked"}
EVENTS = ("push_events", "merge_requests_events", "note_events", "pipeline_events")


@dataclass(frozen=True)
class GitLabSettings:
    """Where it is, and who we are there; projects without a namespace are made in `namespace`."""

    url: str
    namespace: str
    token: str = field(repr=False)


class GitLabForge:
    """A Forge."""

    def __init__(
        self, settings: GitLabSettings, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        self._namespace = settings.namespace
        self._http = ForgeHttp(
            f"{settings.url}/api/v4", {"private-token": settings.token}, transport
        )
        self._us: int | None = None

    async def close(self) -> None:
        """As Forge."""
        await self._http.close()

    # --- projects

    async def project(self, path: str) -> ForgeProject | None:
        """As Forge."""
        found = await self._http.find(self._at(path))
        if found is None:
            return None
        if not found["default_branch"]:
            raise ForgeUnavailableError("the forge: the project has no branch yet", 1.0)
        return ForgeProject(
            found["path_with_namespace"], found["web_url"], found["default_branch"],
            datetime.fromisoformat(found["created_at"]),
        )  # fmt: skip

    async def create_project(self, path: str, description: str) -> ForgeProject:
        """As Forge."""
        namespace, _, name = self._full(path).rpartition("/")

        async def make() -> None:
            within = await self._http.find(f"/namespaces/{part(namespace)}")
            if within is None:
                raise ForgeRefusedError(f"the forge: there is no namespace {namespace}", 404)
            await self._http.ask(
                "POST", "/projects",
                json={
                    "name": name, "path": name, "namespace_id": within["id"],
                    "description": description, "initialize_with_readme": True,
                },
            )  # fmt: skip

        return await once(partial(self.project, path), make)

    async def files(self, project: str, branch: str) -> dict[str, bytes]:
        """As Forge."""
        place = f"{self._at(project)}/repository/archive.tar.gz"
        return archive.files(await self._http.load(place, params={"sha": branch}), strip=1)

    # --- branches and commits

    async def create_branch(self, project: str, branch: str, start: str) -> str:
        """As Forge."""
        place = f"{self._at(project)}/repository/branches"

        async def look() -> str | None:
            found = await self._http.find(f"{place}/{part(branch)}")
            return found and str(found["commit"]["id"])

        async def make() -> None:
            await self._http.ask("POST", place, json={"branch": branch, "ref": start})

        return await once(look, make)

    async def commit(self, project: str, wanted: NewCommit) -> str:
        """As Forge."""
        place = f"{self._at(project)}/repository/commits"

        async def look() -> str | None:
            params = {"ref_name": wanted.branch, "per_page": PAGE}
            found = await self._http.ask("GET", place, params=params)
            said = wanted.message.strip()
            return next((c["id"] for c in found if c["message"].strip() == said), None)

        async def make() -> None:
            actions = [
                await self._action(project, wanted.branch, path, data)
                for path, data in sorted(wanted.files.items())
            ]
            await self._http.ask(
                "POST", place,
                json={
                    "branch": wanted.branch, "commit_message": wanted.message, "actions": actions,
                },
            )  # fmt: skip

        return await once(look, make)

    async def _action(self, project: str, branch: str, path: str, data: bytes) -> dict[str, Any]:
        """Return how a file is written: one that somebody else wrote meanwhile is refused."""
        place = f"{self._at(project)}/repository/files/{part(path)}"
        found = await self._http.find(place, params={"ref": branch})
        how = (
            {"action": "create"}
            if found is None
            else {"action": "update", "last_commit_id": found["last_commit_id"]}
        )
        content = base64.b64encode(data).decode()
        return {**how, "file_path": path, "content": content, "encoding": "base64"}

    # --- merge requests

    async def merge_request(self, project: str, source: str) -> MergeRequest | None:
        """As Forge."""
        params = {"source_branch": source, "state": "all", "per_page": PAGE}
        found = await self._http.ask("GET", f"{self._at(project)}/merge_requests", params=params)
        requests = sorted((_request(one) for one in found), key=_open_first)
        return requests[0] if requests else None

    async def open_merge_request(self, project: str, wanted: NewMergeRequest) -> MergeRequest:
        """As Forge."""

        async def make() -> None:
            await self._http.ask(
                "POST", f"{self._at(project)}/merge_requests",
                json={
                    "source_branch": wanted.source, "target_branch": wanted.target,
                    "title": wanted.title, "description": wanted.text,
                },
            )  # fmt: skip

        # Two branches have one open merge request: a second is a 409.
        return await once(partial(self.merge_request, project, wanted.source), make)

    async def comment(self, project: str, number: int, text: str) -> None:
        """As Forge."""
        place = f"{self._at(project)}/merge_requests/{number}/notes"
        if self._us is None:
            self._us = int((await self._http.ask("GET", "/user"))["id"])
        params = {"sort": "desc", "order_by": "created_at", "per_page": PAGE}
        found = await self._http.ask("GET", place, params=params)
        said = {note["body"].strip() for note in found if note["author"]["id"] == self._us}
        if text.strip() not in said:
            await self._http.ask("POST", place, json={"body": text})

    async def set_status(self, project: str, request: MergeRequest, status: CommitStatus) -> None:
        """As Forge."""
        at = self._at(project)
        place = f"{at}/repository/commits/{request.commit}/statuses"
        found = await self._http.ask("GET", place, params={"name": status.name})
        # From a state to itself is a 400.
        if any(one["status"] == status.state for one in found):
            return
        await self._http.ask(
            "POST", f"{at}/statuses/{request.commit}",
            json={
                "state": status.state, "name": status.name, "ref": request.source,
                "description": status.text[:LONGEST_STATUS], "target_url": status.url,
            },
        )  # fmt: skip

    async def merge(self, project: str, request: MergeRequest) -> None:
        """As Forge."""
        place = f"{self._at(project)}/merge_requests/{request.number}"
        found = await self._http.ask("GET", place)
        if found["state"] == "merged":
            return
        if found["detailed_merge_status"] in NOT_YET:
            raise ForgeUnavailableError("the forge: it cannot be merged yet", 1.0)
        try:
            await self._http.ask("PUT", f"{place}/merge", json={"sha": request.commit})
        except ForgeRefusedError as fault:
            again = await self._http.ask("GET", place)
            if again["state"] == "merged":
                return
            why = f"{fault} ({again['detailed_merge_status']})"
            raise ForgeRefusedError(why, fault.status) from fault

    async def close_merge_request(self, project: str, number: int) -> None:
        """As Forge."""
        place = f"{self._at(project)}/merge_requests/{number}"
        if (await self._http.ask("GET", place))["state"] == "opened":
            await self._http.ask("PUT", place, json={"state_event": "close"})

    # --- hooks

    async def see_to_hook(self, project: str, url: str, secret: str) -> str:
        """As Forge."""
        place = f"{self._at(project)}/hooks"
        found = await self._http.ask("GET", place, params={"per_page": PAGE})
        wanted = {"url": url, "token": secret, **dict.fromkeys(EVENTS, True)}
        there = next((hook for hook in found if hook["url"] == url), None)
        if there is None:
            await self._http.ask("POST", place, json=wanted)
        else:
            # Which secret it has is not told.
            await self._http.ask("PUT", f"{place}/{there['id']}", json=wanted)
        return secret

    def _at(self, path: str) -> str:
        return f"/projects/{part(self._full(path))}"

    def _full(self, path: str) -> str:
        return path if "/" in path else f"{self._namespace}/{path}"


def _request(found: dict[str, Any]) -> MergeRequest:
    state = STATES.get(found["state"], MergeState.CLOSED)
    return MergeRequest(
        int(found["iid"]), found["web_url"], state, found["source_branch"], found["target_branch"],
        found["sha"] or "",
    )  # fmt: skip


def _open_first(request: MergeRequest) -> tuple[bool, int]:
    return (request.state is not MergeState.OPEN, -request.number)
