"""A forge's REST API as it is documented, and no more: whoever asks otherwise is refused."""

from __future__ import annotations

import hashlib
import json
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, parse_qsl, urlsplit

from .forges import REPOSITORY, TOKEN

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rave_cli.pool.sources.source import Forge

# Entries of a page, whatever is asked for: forges may give less.
PAGE = 2

_ENCODED = REPOSITORY.replace("/", "%2F")
_LISTS: dict[str, dict[str, str]] = {
    "github": {
        f"/api/v3/repos/{REPOSITORY}/branches": "push",
        f"/api/v3/repos/{REPOSITORY}/tags": "tag",
        f"/api/v3/repos/{REPOSITORY}/pulls": "merge-request",
    },
    "gitea": {
        f"/api/v1/repos/{REPOSITORY}/branches": "push",
        f"/api/v1/repos/{REPOSITORY}/tags": "tag",
        f"/api/v1/repos/{REPOSITORY}/pulls": "merge-request",
    },
    "gitlab": {
        f"/api/v4/projects/{_ENCODED}/repository/branches": "push",
        f"/api/v4/projects/{_ENCODED}/repository/tags": "tag",
        f"/api/v4/projects/{_ENCODED}/merge_requests": "merge-request",
    },
    "pagure": {
        f"/api/0/{REPOSITORY}/git/branches": "push",
        f"/api/0/{REPOSITORY}/git/tags": "tag",
        f"/api/0/{REPOSITORY}/pull-requests": "merge-request",
    },
}
_STATUSES = {
    "github": f"/api/v3/repos/{REPOSITORY}/statuses/",
    "gitea": f"/api/v1/repos/{REPOSITORY}/statuses/",
    "gitlab": f"/api/v4/projects/{_ENCODED}/statuses/",
    "pagure": f"/api/0/{REPOSITORY}/c/",
}
_OPEN = {"github": ("state", "open"), "gitea": ("state", "open"), "gitlab": ("state", "opened"),
         "pagure": ("status", "Open")}  # fmt: skip
_SIZES = {
    "github": ("per_page", 100), "gitea": ("limit", 50), "gitlab": ("per_page", 100),
    "pagure": ("per_page", 100),
}  # fmt: skip
_STATES = {
    "github": {"error", "failure", "pending", "success"},
    "gitea": {"pending", "success", "error", "failure", "warning"},
    "gitlab": {"pending", "running", "success", "failed", "canceled", "skipped"},
    "pagure": {"success", "failure", "error", "pending", "canceled"},
}
_FIELDS = {
    "github": ({"state"}, {"target_url", "description", "context"}),
    "gitea": ({"state"}, {"target_url", "description", "context"}),
    "gitlab": ({"state"}, {"ref", "name", "target_url", "description", "coverage", "pipeline_id"}),
    "pagure": ({"username", "comment", "url"}, {"status", "percent", "uid"}),
}


@dataclass
class StubForge:
    """What a forge has, and what it was asked and told."""

    forge: Forge
    url: str = ""
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    # Number, commit, and whether it is a fork's.
    requests: dict[int, tuple[str, bool]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    unchanged: int = 0
    statuses: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    # What the next answers are instead, each once: a status, headers and a body.
    instead: list[tuple[int, dict[str, str], bytes]] = field(default_factory=list)
    # Headers of all good answers.
    says: dict[str, str] = field(default_factory=dict)

    @property
    def dialect(self) -> str:
        """How it speaks."""
        return "gitea" if self.forge == "forgejo" else self.forge

    def token_good(self, headers: dict[str, str]) -> bool:
        """Whether a request shows the token as this forge wants it."""
        shown = {
            "github": headers.get("authorization") == f"Bearer {TOKEN}",
            "gitea": headers.get("authorization") == f"token {TOKEN}",
            "gitlab": headers.get("private-token") == TOKEN,
            "pagure": headers.get("authorization") == f"token {TOKEN}",
        }
        return shown[self.dialect]

    def get(self, target: str, headers: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
        """Answer a GET."""
        parts = urlsplit(target)
        kind = _LISTS[self.dialect].get(parts.path)
        query = {name: words[-1] for name, words in parse_qs(parts.query).items()}
        if kind is None:
            return 404, {}, b'{"message":"Not Found"}'
        fault = self._query_fault(kind, query)
        if fault:
            return 400, {}, json.dumps({"message": fault}).encode()
        number = int(query.get("page", "1"))
        document, more = self._page(kind, number)
        link = {}
        if more:
            following = f"{self.url}{parts.path}?{self._following(query, number + 1)}"
            if self.dialect == "pagure":
                document["pagination"] = {"next": following}
            else:
                link = {"Link": f'<{following}>; rel="next", <{self.url}/x>; rel="last"'}
        body = json.dumps(document).encode()
        etag = f'W/"{hashlib.sha256(body + repr(link).encode()).hexdigest()[:32]}"'
        if headers.get("if-none-match") == etag:
            self.unchanged += 1
            return 304, {"ETag": etag, **link}, b""
        return 200, {"ETag": etag, **link}, body

    def post(
        self, target: str, headers: dict[str, str], body: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        """Answer a POST."""
        begin, form = _STATUSES[self.dialect], self.dialect == "pagure"
        rest = target.removeprefix(begin)
        sha = rest.removesuffix("/flag") if form else rest
        if not self.token_good(headers) or not target.startswith(begin) or len(sha) != 40:
            # What a token may not see is not there.
            return 404, {}, b'{"message":"Not Found"}'
        expected = "application/x-www-form-urlencoded" if form else "application/json"
        if headers.get("content-type") != expected:
            return 415, {}, b'{"message":"Unsupported Media Type"}'
        told = dict(parse_qsl(body.decode(), strict_parsing=True)) if form else json.loads(body)
        needed, allowed = _FIELDS[self.dialect]
        known = needed <= told.keys() <= needed | allowed
        state = told.get("status" if form else "state")
        good = state in _STATES[self.dialect] and len(told.get("description", "")) <= 140
        if not known or not good:
            return 422, {}, b'{"message":"Validation Failed"}'
        if self.dialect == "gitlab" and (sha, told) in self.statuses[-1:]:
            said = "Cannot transition status via :enqueue from :pending (Reason(s): ...)"
            return 400, {}, json.dumps({"message": said}).encode()
        self.statuses.append((sha, told))
        return (200 if form else 201), {}, b"{}"

    def _query_fault(self, kind: str, query: dict[str, str]) -> str:
        size, most = _SIZES[self.dialect]
        allowed = {size, "page"} | ({_OPEN[self.dialect][0]} if kind == "merge-request" else set())
        if self.dialect == "pagure" and kind != "merge-request":
            allowed = {"with_commits"}
            if query.get("with_commits") != "true":
                return "no commits were asked for"
        if not query.keys() <= allowed or int(query.get(size, "1")) > most:
            return f"unknown, or too much: {query}"
        if kind == "merge-request" and query.get(_OPEN[self.dialect][0]) != _OPEN[self.dialect][1]:
            return "closed ones, too?"
        return ""

    def _following(self, query: dict[str, str], page: int) -> str:
        return "&".join(f"{n}={v}" for n, v in (query | {"page": str(page)}).items())

    def _page(self, kind: str, number: int) -> tuple[Any, bool]:
        if self.dialect == "pagure" and kind != "merge-request":
            refs = self.branches if kind == "push" else self.tags
            return {"branches" if kind == "push" else "tags": refs}, False
        if kind == "merge-request":
            known = [self._request(n, *one) for n, one in sorted(self.requests.items())]
        else:
            refs = self.branches if kind == "push" else self.tags
            key = (
                "id"
                if self.dialect == "gitlab" or (self.dialect, kind) == ("gitea", "push")
                else "sha"
            )
            known = [{"name": name, "commit": {key: sha}} for name, sha in sorted(refs.items())]
        entries = known[(number - 1) * PAGE : number * PAGE]
        more = len(known) > number * PAGE
        return ({"requests": entries} if self.dialect == "pagure" else entries), more

    def _request(self, number: int, sha: str, fork: bool) -> dict[str, Any]:
        theirs = "mallory/app" if fork else REPOSITORY
        if self.dialect == "gitlab":
            return {
                "iid": number, "sha": sha, "target_branch": "main", "target_project_id": 1,
                "source_project_id": 2 if fork else 1,
            }  # fmt: skip
        if self.dialect == "pagure":
            return {
                "id": number, "commit_stop": sha, "branch": "main",
                "project": {"fullname": REPOSITORY}, "repo_from": {"fullname": theirs},
            }  # fmt: skip
        return {
            "number": number, "head": {"sha": sha, "ref": "page", "repo": {"full_name": theirs}},
            "base": {"ref": "main", "repo": {"full_name": REPOSITORY}},
        }  # fmt: skip


@contextmanager
def serving(forge: Forge) -> Iterator[StubForge]:
    """Serve a forge meanwhile."""
    stub = StubForge(forge)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self, body: bytes | None) -> None:
            given = {name.lower(): value for name, value in self.headers.items()}
            stub.asked.append(f"{self.command} {self.path}")
            if stub.instead:
                status, headers, content = stub.instead.pop(0)
            elif not given.get("user-agent", "").startswith("rave/"):
                status, headers, content = 403, {}, b'{"message":"no User-Agent"}'
            elif body is None:
                status, headers, content = stub.get(self.path, given)
                headers = {**headers, **stub.says}
            else:
                status, headers, content = stub.post(self.path, given, body)
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def do_GET(self) -> None:
            self._answer(None)

        def do_POST(self) -> None:
            self._answer(self.rfile.read(int(self.headers["content-length"])))

        def log_message(self, *_words: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    stub.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield stub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
