"""A strict stand-in for GitLab: what its documented API v4 says, and nothing else.

https://docs.gitlab.com/api/ (projects, branches, commits, repository_files, merge_requests, notes,
project_webhooks, repositories). A field or a parameter that is not documented is a complaint.
"""

from __future__ import annotations

import base64
import hashlib
import io
import tarfile
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse, Response

from tests.unit.platform.forges.world import Asked, RefusedError, StrictForge

if TYPE_CHECKING:
    from starlette.requests import Request

TOKEN = "glpat-a-token"
US = 7
NAMESPACE = "rave"
STATES = {"pending", "running", "success", "failed", "canceled", "skipped"}


@dataclass
class Commit:
    """One that is there."""

    id: str
    parent: str
    message: str
    tree: dict[str, bytes]
    # The commit that wrote each file last.
    wrote: dict[str, str]


@dataclass
class Project:
    """One that is there."""

    id: int
    path: str
    description: str
    created_at: str
    branches: dict[str, Commit] = field(default_factory=dict)
    requests: list[dict[str, Any]] = field(default_factory=list)
    notes: dict[int, list[dict[str, Any]]] = field(default_factory=dict)
    statuses: list[dict[str, Any]] = field(default_factory=list)
    hooks: list[dict[str, Any]] = field(default_factory=list)


class GitLabStub(StrictForge):
    """The server, with one group in which projects are."""

    def __init__(self) -> None:
        super().__init__()
        self.projects: dict[str, Project] = {}
        self.commits: dict[str, Commit] = {}
        # How often a new request says that it is looked at.
        self.checking = 1
        at = "/api/v4/projects/{id}"
        route = self.route
        route("GET", "/api/v4/user", self._user)
        route("GET", "/api/v4/namespaces/{id}", self._namespace)
        route(
            "POST",
            "/api/v4/projects",
            self._create,
            must="name path",
            may="namespace_id description initialize_with_readme default_branch visibility",
        )
        route("GET", at, self._project)
        route("GET", f"{at}/repository/archive.tar.gz", self._archive, query="sha path")
        route("GET", f"{at}/repository/branches/{{branch}}", self._branch)
        route("POST", f"{at}/repository/branches", self._create_branch, must="branch ref")
        route("GET", f"{at}/repository/commits", self._commits, query="ref_name per_page page")
        route(
            "POST",
            f"{at}/repository/commits",
            self._commit,
            must="branch commit_message actions",
            may="start_branch start_sha author_email author_name force stats",
        )
        route("GET", f"{at}/repository/files/{{path}}", self._file, query="ref")
        route(
            "GET",
            f"{at}/repository/commits/{{sha}}/statuses",
            self._statuses,
            query="ref stage name all per_page page",
        )
        route(
            "POST",
            f"{at}/statuses/{{sha}}",
            self._status,
            must="state",
            may="ref name context target_url description coverage pipeline_id",
        )
        route(
            "GET",
            f"{at}/merge_requests",
            self._requests,
            query="source_branch target_branch state per_page page order_by sort",
        )
        route(
            "POST",
            f"{at}/merge_requests",
            self._open,
            must="source_branch target_branch title",
            may="description remove_source_branch squash labels",
        )
        route("GET", f"{at}/merge_requests/{{iid}}", self._request)
        route(
            "PUT", f"{at}/merge_requests/{{iid}}", self._update, may="state_event title description"
        )
        route(
            "PUT",
            f"{at}/merge_requests/{{iid}}/merge",
            self._merge,
            may="sha squash should_remove_source_branch merge_commit_message",
        )
        route(
            "GET",
            f"{at}/merge_requests/{{iid}}/notes",
            self._notes,
            query="sort order_by per_page page",
        )
        route("POST", f"{at}/merge_requests/{{iid}}/notes", self._note, must="body")
        hook = ("token push_events merge_requests_events note_events pipeline_events"
                " enable_ssl_verification")  # fmt: skip
        route("GET", f"{at}/hooks", self._hooks, query="per_page page")
        route("POST", f"{at}/hooks", self._add_hook, must="url", may=hook)
        route("PUT", f"{at}/hooks/{{hook}}", self._put_hook, must="url", may=hook)

    def authenticate(self, request: Request) -> None:
        if request.headers.get("private-token") != TOKEN:
            raise RefusedError(401, message="401 Unauthorized")

    # --- projects

    async def _user(self, _asked: Asked) -> Response:
        return JSONResponse({"id": US, "username": "rave-agent"})

    async def _namespace(self, asked: Asked) -> Response:
        if asked.parts["id"] != NAMESPACE:
            raise RefusedError(404, message="404 Namespace Not Found")
        return JSONResponse({"id": 3, "path": NAMESPACE, "full_path": NAMESPACE, "kind": "group"})

    async def _create(self, asked: Asked) -> Response:
        assert asked.fields["namespace_id"] == 3
        path = f"{NAMESPACE}/{asked.fields['path']}"
        if path in self.projects:
            taken = ["has already been taken"]
            raise RefusedError(400, message={"name": taken, "path": taken})
        made = self.make(path, asked.fields.get("description", ""))
        if not asked.fields.get("initialize_with_readme"):
            made.branches.clear()
        return JSONResponse(_project(made), 201)

    def make(self, path: str, description: str = "", created_at: str = "") -> Project:
        """Make a project with a first commit."""
        now = created_at or datetime.now(UTC).isoformat().replace("+00:00", "Z")
        made = Project(len(self.projects) + 1, path, description, now)
        self.projects[path] = made
        self.write(made, "main", "Initial commit", {"README.md": f"# {path}\n".encode()})
        return made

    def write(self, project: Project, branch: str, message: str, files: dict[str, bytes]) -> Commit:
        """Commit files to a branch."""
        parent = project.branches.get(branch)
        before = parent.id if parent else ""
        said = repr((project.path, before, message, sorted(files.items()))).encode()
        name = hashlib.sha1(said, usedforsecurity=False).hexdigest()
        tree = {**(parent.tree if parent else {}), **files}
        wrote = {**(parent.wrote if parent else {}), **dict.fromkeys(files, name)}
        made = Commit(name, before, message, tree, wrote)
        self.commits[name] = made
        project.branches[branch] = made
        return made

    def _at(self, asked: Asked) -> Project:
        name = asked.parts["id"]
        found = self.projects.get(name)
        if found is None:
            raise RefusedError(404, message="404 Project Not Found")
        return found

    async def _project(self, asked: Asked) -> Response:
        return JSONResponse(_project(self._at(asked)))

    async def _archive(self, asked: Asked) -> Response:
        project = self._at(asked)
        commit = self._on(project, asked.query["sha"])
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w:gz") as tar:
            for path, data in commit.tree.items():
                info = tarfile.TarInfo(f"name-{commit.id[:8]}/{path}")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
        return Response(out.getvalue(), media_type="application/octet-stream")

    def _on(self, project: Project, branch: str) -> Commit:
        if branch not in project.branches:
            raise RefusedError(404, message="404 Branch Not Found")
        return project.branches[branch]

    # --- branches and commits

    async def _branch(self, asked: Asked) -> Response:
        name = asked.parts["branch"]
        commit = self._on(self._at(asked), name)
        return JSONResponse({"name": name, "commit": {"id": commit.id}})

    async def _create_branch(self, asked: Asked) -> Response:
        project, name = self._at(asked), asked.fields["branch"]
        if name in project.branches:
            raise RefusedError(400, message="Branch already exists")
        if asked.fields["ref"] not in project.branches:
            raise RefusedError(400, message="Invalid reference name")
        project.branches[name] = project.branches[asked.fields["ref"]]
        return JSONResponse(
            {"name": name, "commit": {"id": project.branches[name].id}}, 201
        )  # fmt: skip

    async def _commits(self, asked: Asked) -> Response:
        project = self._at(asked)
        found: list[dict[str, str]] = []
        commit: Commit | None = self._on(project, asked.query["ref_name"])
        while commit is not None and len(found) < int(asked.query.get("per_page", 20)):
            found.append({"id": commit.id, "message": commit.message})
            commit = self.commits.get(commit.parent)
        return JSONResponse(found)

    async def _commit(self, asked: Asked) -> Response:
        project, branch = self._at(asked), asked.fields["branch"]
        if branch not in project.branches:
            raise RefusedError(
                400, message="You can only create or edit files when you are on a branch"
            )
        head = project.branches[branch]
        files = {}
        for action in asked.fields["actions"]:
            known = {"action", "file_path", "content", "encoding", "last_commit_id"}
            assert set(action) <= known, action
            path, there = action["file_path"], action["file_path"] in head.tree
            if action["action"] == "create" and there:
                raise RefusedError(400, message="A file with this name already exists")
            if action["action"] == "update" and not there:
                raise RefusedError(400, message="A file with this name doesn't exist")
            if "last_commit_id" in action and action["last_commit_id"] != head.wrote[path]:
                raise RefusedError(400, message="You are attempting to update a file that has"
                                   " changed since you started editing it.")  # fmt: skip
            assert action["encoding"] == "base64"
            files[path] = base64.b64decode(action["content"], validate=True)
        made = self.write(project, branch, asked.fields["commit_message"], files)
        return JSONResponse({"id": made.id, "message": made.message}, 201)

    async def _file(self, asked: Asked) -> Response:
        commit = self._on(self._at(asked), asked.query["ref"])
        path = asked.parts["path"]
        if path not in commit.tree:
            raise RefusedError(404, message="404 File Not Found")
        content = base64.b64encode(commit.tree[path]).decode()
        return JSONResponse(
            {"file_path": path, "last_commit_id": commit.wrote[path], "content": content,
             "encoding": "base64"}
        )  # fmt: skip

    async def _statuses(self, asked: Asked) -> Response:
        found = [
            one for one in self._at(asked).statuses
            if one["sha"] == asked.parts["sha"] and one["name"] == asked.query["name"]
        ]  # fmt: skip
        return JSONResponse(found[-1:])

    async def _status(self, asked: Asked) -> Response:
        project, state = self._at(asked), asked.fields["state"]
        assert state in STATES
        assert len(asked.fields["description"]) <= 255
        name, sha = asked.fields["name"], asked.parts["sha"]
        if sha not in self.commits:
            raise RefusedError(404, message="404 Commit Not Found")
        for one in project.statuses:
            if (one["sha"], one["name"], one["status"]) == (sha, name, state):
                raise RefusedError(400, message=f"Cannot transition status via :{state}")
        made = {"sha": sha, "name": name, "status": state}
        project.statuses.append({**made, "description": asked.fields["description"]})
        return JSONResponse(made, 201)

    # --- merge requests

    def _shown(self, project: Project, request: dict[str, Any]) -> dict[str, Any]:
        opened = request["state"] == "opened"
        sha = project.branches[request["source_branch"]].id if opened else request["sha"]
        status = "mergeable" if opened else "not_open"
        if opened and self._conflict(project, request):
            status = "conflict"
        if opened and request["checked"] < self.checking:
            status = "checking"
        shown = {name: value for name, value in request.items() if name != "checked"}
        return {**shown, "sha": sha, "detailed_merge_status": status}

    def _history(self, commit: Commit) -> list[Commit]:
        found = [commit]
        while found[-1].parent:
            found.append(self.commits[found[-1].parent])
        return found

    def _changed(self, project: Project, request: dict[str, Any], branch: str) -> dict[str, bytes]:
        """Return what a branch of a request changed since both were the same."""
        source, target = (
            self._history(project.branches[request[name]])
            for name in ("source_branch", "target_branch")
        )
        base = next(commit for commit in source if commit in target)
        tree = project.branches[request[branch]].tree
        return {path: data for path, data in tree.items() if base.tree.get(path) != data}

    def _conflict(self, project: Project, request: dict[str, Any]) -> bool:
        ours, theirs = (
            self._changed(project, request, name) for name in ("source_branch", "target_branch")
        )
        return any(path in theirs and theirs[path] != data for path, data in ours.items())

    async def _requests(self, asked: Asked) -> Response:
        project, query = self._at(asked), asked.query
        assert query["state"] == "all"
        found = [
            self._shown(project, one) for one in project.requests
            if one["source_branch"] == query["source_branch"]
        ]  # fmt: skip
        return JSONResponse(found[::-1])

    async def _open(self, asked: Asked) -> Response:
        project, fields = self._at(asked), asked.fields
        source, target = fields["source_branch"], fields["target_branch"]
        if {source, target} - set(project.branches):
            raise RefusedError(400, message={"source_branch": ["does not exist"]})
        for one in project.requests:
            branches = (one["source_branch"], one["target_branch"], one["state"])
            if branches == (source, target, "opened"):
                raise RefusedError(
                    409,
                    message=[f"Another open merge request already exists: !{one['iid']}"],
                )
        iid = len(project.requests) + 1
        made = {
            "iid": iid, "state": "opened", "source_branch": source, "target_branch": target,
            "title": fields["title"], "description": fields.get("description", ""),
            "web_url": f"https://gitlab.test/{project.path}/-/merge_requests/{iid}", "checked": 0,
        }  # fmt: skip
        project.requests.append(made)
        return JSONResponse(self._shown(project, made), 201)

    def _one(self, asked: Asked) -> tuple[Project, dict[str, Any]]:
        project = self._at(asked)
        iid = int(asked.parts["iid"])
        if not 0 < iid <= len(project.requests):
            raise RefusedError(404, message="404 Not found")
        return project, project.requests[iid - 1]

    async def _request(self, asked: Asked) -> Response:
        project, request = self._one(asked)
        shown = self._shown(project, request)
        request["checked"] += 1
        return JSONResponse(shown)

    async def _update(self, asked: Asked) -> Response:
        project, request = self._one(asked)
        assert asked.fields == {"state_event": "close"}
        self._end(project, request, "closed")
        return JSONResponse(self._shown(project, request))

    async def _merge(self, asked: Asked) -> Response:
        project, request = self._one(asked)
        shown = self._shown(project, request)
        if shown["detailed_merge_status"] != "mergeable":
            raise RefusedError(405, message="405 Method Not Allowed")
        if asked.fields["sha"] != shown["sha"]:
            raise RefusedError(
                409, message="SHA does not match HEAD of source branch"
            )  # fmt: skip
        changed = self._changed(project, request, "source_branch")
        self._end(project, request, "merged")
        self.write(project, request["target_branch"], f"Merge !{request['iid']}", changed)
        return JSONResponse(self._shown(project, request))

    def _end(self, project: Project, request: dict[str, Any], state: str) -> None:
        request["sha"] = project.branches[request["source_branch"]].id
        request["state"] = state

    async def _notes(self, asked: Asked) -> Response:
        project, request = self._one(asked)
        return JSONResponse(project.notes.get(request["iid"], [])[::-1])

    async def _note(self, asked: Asked) -> Response:
        project, request = self._one(asked)
        made = {"id": 1, "body": asked.fields["body"], "author": {"id": US}, "system": False}
        project.notes.setdefault(request["iid"], []).append(made)
        return JSONResponse(made, 201)

    # --- hooks

    async def _hooks(self, asked: Asked) -> Response:
        # What they prove themselves with is never told.
        hidden = [
            {name: value for name, value in hook.items() if name != "token"}
            for hook in self._at(asked).hooks
        ]
        return JSONResponse(hidden)

    async def _add_hook(self, asked: Asked) -> Response:
        hooks = self._at(asked).hooks
        hooks.append({"id": len(hooks) + 1, **asked.fields})
        return JSONResponse({"id": len(hooks)}, 201)

    async def _put_hook(self, asked: Asked) -> Response:
        hook = self._at(asked).hooks[int(asked.parts["hook"]) - 1]
        hook |= asked.fields
        return JSONResponse({"id": hook["id"]})


def _project(found: Project) -> dict[str, Any]:
    return {
        "id": found.id, "path_with_namespace": found.path, "created_at": found.created_at,
        "web_url": f"https://gitlab.test/{found.path}", "description": found.description,
        "default_branch": "main" if found.branches else None,
    }  # fmt: skip
