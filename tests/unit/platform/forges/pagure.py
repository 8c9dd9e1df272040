"""A strict stand-in for Pagure 5.14: its API 0 as its source documents it, over real repositories.

https://pagure.io/api/0/ ; pagure/api/{project,fork}.py, pagure/ui/clone.py. It refuses no second
pull request of a branch, answers at once to who does not wait for a new project's repository, and
takes pushes from who has a token.
"""

from __future__ import annotations

import asyncio
import base64
import os
import subprocess
import time
from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse, Response

from tests.unit.platform.forges.world import Asked, RefusedError, StrictForge

if TYPE_CHECKING:
    from pathlib import Path

    from starlette.requests import Request

TOKEN, USER = "A" * 64, "rave"
FLAGS = {"success", "failure", "error", "pending", "canceled"}
SETTINGS: dict[str, Any] = {"Web-hooks": None, "pull_requests": True, "always_merge": False}


class PagureStub(StrictForge):
    """The server; repositories are real, in a directory."""

    def __init__(self, place: Path) -> None:
        super().__init__()
        self.place = place
        self.url = ""
        self.projects: dict[str, dict[str, Any]] = {}
        self.requests: dict[str, list[dict[str, Any]]] = {}
        self.settings: dict[str, dict[str, Any]] = {}
        self.flags: dict[str, dict[str, Any]] = {}
        # Of which nobody has asked for the branches yet: a worker makes them.
        self.making: set[str] = set()
        route = self.route
        route(
            "POST",
            "/api/0/new",
            self._new,
            must="name description",
            may="namespace url avatar_email create_readme private wait default_branch",
        )
        route("GET", "/{repo}/info/refs", self._git, query="service")
        route("POST", "/{repo}/git-upload-pack", self._git)
        route("POST", "/{repo}/git-receive-pack", self._git)
        at = "/api/0/{repo}"
        route("GET", at, self._project)
        route("GET", f"{at}/git/branches", self._branches, query="with_commits")
        route(
            "POST", f"{at}/git/branch", self._branch, must="branch", may="from_branch from_commit"
        )
        route(
            "GET",
            f"{at}/pull-requests",
            self._list,
            query="status assignee author tags page per_page",
        )
        route(
            "POST",
            f"{at}/pull-request/new",
            self._open,
            must="title branch_to branch_from",
            may="initial_comment repo_from repo_from_username repo_from_namespace",
        )
        route("GET", f"{at}/pull-request/{{id}}", self._request)
        route(
            "POST",
            f"{at}/pull-request/{{id}}/comment",
            self._comment,
            must="comment",
            may="commit filename row tree_id",
        )
        route(
            "POST",
            f"{at}/pull-request/{{id}}/flag",
            self._flag,
            must="username comment url",
            may="percent status uid",
        )
        route("GET", f"{at}/pull-request/{{id}}/flag", self._flagged)
        route("POST", f"{at}/pull-request/{{id}}/merge", self._merge, may="wait")
        route("POST", f"{at}/pull-request/{{id}}/close", self._close)
        route("GET", f"{at}/options", self._options)
        route("POST", f"{at}/options/update", self._update, may=" ".join(SETTINGS))
        route("GET", f"{at}/connector", self._connector)

    def authenticate(self, request: Request) -> None:
        if "/api/0/" not in request.scope["path"]:
            return
        if request.headers.get("authorization") != f"token {TOKEN}":
            raise RefusedError(
                401, error="Invalid or expired token.", error_code="EINVALIDTOK", errors=""
            )

    # --- repositories

    def git(self, repo: str, *words: str, given: bytes = b"") -> str:
        """Run git in a repository; return what it says."""
        names = {f"GIT_{who}_{what}": "pagure" for who in ("AUTHOR", "COMMITTER")
                 for what in ("NAME", "EMAIL")}  # fmt: skip
        argv = ["git", "--git-dir", str(self.place / f"{repo}.git"), *words]
        done = subprocess.run(
            argv, input=given, capture_output=True, check=True, env={**os.environ, **names}
        )  # fmt: skip
        return done.stdout.decode().strip()

    def heads(self, repo: str) -> dict[str, str]:
        lines = self.git(repo, "for-each-ref", "--format=%(refname:lstrip=2) %(objectname)",
                         "refs/heads").splitlines()  # fmt: skip
        return dict(line.split() for line in lines)

    async def _git(self, asked: Asked) -> Response:
        """Serve a repository by git's own program, as Pagure does."""
        request = asked.request
        service = asked.query.get("service") or request.url.path.rpartition("/")[2]
        login = base64.b64encode(f"{USER}:{TOKEN}".encode()).decode()
        if service == "git-receive-pack" and (
            request.headers.get("authorization") != f"Basic {login}"
        ):
            raise RefusedError(401, error="Authorization Required")
        env = {
            **os.environ, "GIT_PROJECT_ROOT": str(self.place), "GIT_HTTP_EXPORT_ALL": "true",
            "REMOTE_USER": USER, "REQUEST_METHOD": request.method,
            "PATH_INFO": request.url.path, "QUERY_STRING": request.url.query,
            "CONTENT_TYPE": request.headers.get("content-type", ""),
            "HTTP_CONTENT_ENCODING": request.headers.get("content-encoding", ""),
        }  # fmt: skip
        process = await asyncio.create_subprocess_exec(
            "git", "http-backend", env=env, stdin=-1, stdout=-1
        )
        out, _ = await process.communicate(await request.body())
        head, _, body = out.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
        status = int(headers.pop("Status", "200").split()[0])
        return Response(body, status, headers)

    # --- projects

    async def _new(self, asked: Asked) -> Response:
        fields = asked.fields
        name = fields["name"]
        if not fields["description"]:
            errors = {"description": ["This field is required."]}
            raise RefusedError(
                400, error="Invalid or incomplete input submitted", error_code="EINVALIDREQ",
                errors=errors,
            )  # fmt: skip
        if name in self.projects:
            raise RefusedError(
                400, error=f'The project repo "{name}" already exists in the database.',
                error_code="ENOCODE",
            )  # fmt: skip
        # Its default is to wait, and whatever is not empty has it wait.
        assert fields.get("wait", "true") == ""
        self.projects[name] = {
            "id": len(self.projects) + 1, "name": name, "fullname": name, "namespace": None,
            "url_path": name, "full_url": f"{self.url}/{name}", "description":
            fields["description"], "date_created": str(time.time()), "parent": None,
            "user": {"name": USER, "fullname": USER},
        }  # fmt: skip
        self.requests[name], self.settings[name] = [], dict(SETTINGS)
        self.making.add(name)
        branch = fields["default_branch"]
        place = self.place / f"{name}.git"
        subprocess.run(["git", "init", "-q", "--bare", "-b", branch, str(place)], check=True)
        if fields.get("create_readme"):
            blob = self.git(name, "hash-object", "-w", "--stdin", given=f"# {name}\n".encode())
            tree = self.git(name, "mktree", given=f"100644 blob {blob}\tREADME.md\n".encode())
            commit = self.git(name, "commit-tree", tree, "-m", "Added the README")
            self.git(name, "update-ref", f"refs/heads/{branch}", commit)
        return JSONResponse({"message": "Project creation queued", "taskid": "1"})

    def _name(self, asked: Asked) -> str:
        name = asked.parts["repo"]
        if name not in self.projects:
            raise RefusedError(404, error="Project not found", error_code="ENOPROJECT")
        return name

    async def _project(self, asked: Asked) -> Response:
        return JSONResponse(self.projects[self._name(asked)])

    async def _branches(self, asked: Asked) -> Response:
        assert asked.query == {"with_commits": "true"}
        name = self._name(asked)
        if name in self.making:
            self.making.remove(name)
            return Response("<h1>Page not found (404)</h1>", 404, media_type="text/html")
        heads = self.heads(name)
        default = {"main": heads["main"]} if "main" in heads else {}
        found = {"total_branches": len(heads), "branches": heads, "default": default}
        return JSONResponse(found)

    async def _branch(self, asked: Asked) -> Response:
        name, fields = self._name(asked), asked.fields
        heads = self.heads(name)
        start, branch = fields.get("from_branch", "master"), fields["branch"]
        if start not in heads:
            words = f'The "{start}" branch does not exist'
            raise RefusedError(400, error=words, error_code="ENOCODE")
        if branch in heads:
            words = f'The branch "{branch}" already exists'
            raise RefusedError(400, error=words, error_code="ENOCODE")
        self.git(name, "update-ref", f"refs/heads/{branch}", heads[start])
        return JSONResponse({"message": "Project branch was created"})

    # --- pull requests

    async def _list(self, asked: Asked) -> Response:
        name, query = self._name(asked), asked.query
        assert query["status"] == "all"
        per_page, page = int(query["per_page"]), int(query["page"])
        assert 1 <= per_page <= 100
        found = [self._shown(name, one) for one in reversed(self.requests[name])]
        start = (page - 1) * per_page
        return JSONResponse(
            {
                "total_requests": len(found), "requests": found[start : start + per_page],
                "args": {**query}, "pagination": {"pages": -(-len(found) // per_page) or 1},
            }
        )  # fmt: skip

    def _shown(self, name: str, request: dict[str, Any]) -> dict[str, Any]:
        if request["status"] == "Open":
            request["commit_stop"] = self.heads(name)[request["branch_from"]]
        return request

    async def _open(self, asked: Asked) -> Response:
        name, fields = self._name(asked), asked.fields
        heads = self.heads(name)
        for branch in (fields["branch_from"], fields["branch_to"]):
            if branch not in heads:
                words = f"Branch {branch} does not exist"
                raise RefusedError(400, error="Invalid input", error_code="EINVALIDREQ",
                                   errors=words)  # fmt: skip
        number = len(self.requests[name]) + 1
        made = {
            "id": number, "title": fields["title"], "branch": fields["branch_to"],
            "branch_from": fields["branch_from"], "status": "Open", "comments": [],
            "initial_comment": fields.get("initial_comment"), "user": {"name": USER},
            "project": self.projects[name], "commit_stop": None,
            "full_url": f"{self.url}/{name}/pull-request/{number}",
        }  # fmt: skip
        self.requests[name].append(made)
        return JSONResponse(self._shown(name, made))

    def _one(self, asked: Asked) -> dict[str, Any]:
        name, number = self._name(asked), int(asked.parts["id"])
        if not 0 < number <= len(self.requests[name]):
            raise RefusedError(404, error="Pull-Request not found", error_code="ENOREQ")
        return self._shown(name, self.requests[name][number - 1])

    async def _request(self, asked: Asked) -> Response:
        return JSONResponse(self._one(asked))

    async def _comment(self, asked: Asked) -> Response:
        request = self._one(asked)
        said = {"comment": asked.fields["comment"], "user": {"name": USER}}
        request["comments"].append({"id": len(request["comments"]) + 1, **said})
        return JSONResponse({"message": "Comment added"})

    async def _flag(self, asked: Asked) -> Response:
        request, fields = self._one(asked), asked.fields
        assert fields["status"] in FLAGS
        assert fields["url"].startswith("http")
        assert fields["comment"]
        assert 0 < len(fields["uid"]) <= 32
        there = fields["uid"] in self.flags
        self.flags[fields["uid"]] = {**fields, "commit": request["commit_stop"]}
        message = f"Flag {'updated' if there else 'added'}"
        return JSONResponse({"message": message, "uid": fields["uid"], "flag": fields})

    async def _flagged(self, asked: Asked) -> Response:
        commit = self._one(asked)["commit_stop"]
        found = [flag for flag in self.flags.values() if flag["commit"] == commit]
        return JSONResponse({"flags": found})

    async def _merge(self, asked: Asked) -> Response:
        request, name = self._one(asked), asked.parts["repo"]
        heads = self.heads(name)
        target, source = heads[request["branch"]], heads[request["branch_from"]]
        try:
            tree = self.git(name, "merge-tree", "--write-tree", target, source)
        except subprocess.CalledProcessError:
            raise RefusedError(
                409, error="This pull-request conflicts and thus cannot be merged",
                error_code="EPRCONFLICTS",
            ) from None  # fmt: skip
        made = self.git(name, "commit-tree", tree, "-p", target, "-p", source, "-m", "Merge")
        self.git(name, "update-ref", f"refs/heads/{request['branch']}", made)
        request["status"] = "Merged"
        return JSONResponse({"message": "Changes merged!"})

    async def _close(self, asked: Asked) -> Response:
        self._one(asked)["status"] = "Closed"
        return JSONResponse({"message": "Pull-request closed!"})

    # --- hooks

    async def _options(self, asked: Asked) -> Response:
        return JSONResponse({"settings": self.settings[self._name(asked)], "status": "ok"})

    async def _update(self, asked: Asked) -> Response:
        settings = self.settings[self._name(asked)]
        for key, value in asked.fields.items():
            settings[key] = value or None
        return JSONResponse({"message": "Edited successfully settings", "status": "ok"})

    async def _connector(self, asked: Asked) -> Response:
        secret = f"hook-token-of-{self._name(asked)}"
        return JSONResponse(
            {"connector": {"hook_token": secret, "api_tokens": []}, "status": "ok"}
        )  # fmt: skip
