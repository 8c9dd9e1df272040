"""The forges before which an adapter is tried: the stand-ins, and a real one where there is one."""

from __future__ import annotations

import os
import secrets
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

import httpx
import uvicorn

from rave_platform.adapters.forge.gitlab import GitLabForge, GitLabSettings
from rave_platform.adapters.forge.pagure import PagureForge, PagureSettings
from tests.integration.platform.services import answers, free_port
from tests.unit.platform.forges import gitlab, pagure
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.types import ASGIApp

    from rave_platform.application.forge import Forge

# Where a real Pagure is, and a user of it with a token: "URL USER TOKEN".
REAL = "RAVE_PAGURE"


class ForgeWorld(Protocol):
    """A forge, and what others see there."""

    name: str  # of a project that nobody has

    def forge(self) -> Forge: ...
    def requests(self) -> list[tuple[str, str]]:
        """Return the source and the state of each merge request."""

    def comments(self, number: int) -> list[str]: ...
    def statuses(self, number: int) -> list[str]: ...
    def hooks(self) -> list[str]: ...
    def complaints(self) -> list[str]: ...


@contextmanager
def served(stub: ASGIApp) -> Iterator[str]:
    """Serve a stand-in meanwhile; return where."""
    port = free_port()
    server = uvicorn.Server(
        uvicorn.Config(stub, port=port, log_config=None, lifespan="off", ws="none")
    )
    server.capture_signals = _nothing  # type: ignore[method-assign]
    serving = threading.Thread(target=server.run)
    serving.start()
    until(lambda: answers(port))
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        serving.join()


@contextmanager
def _nothing() -> Iterator[None]:
    yield


class GitLabWorld:
    """The stand-in for GitLab."""

    def __init__(self, url: str, stub: gitlab.GitLabStub) -> None:
        self.url, self.stub = url, stub
        self.name = "shop"

    def forge(self) -> GitLabForge:
        return GitLabForge(GitLabSettings(self.url, gitlab.NAMESPACE, gitlab.TOKEN))

    @property
    def _project(self) -> gitlab.Project:
        return self.stub.projects[f"{gitlab.NAMESPACE}/{self.name}"]

    def requests(self) -> list[tuple[str, str]]:
        states = {"opened": "open"}
        return [
            (one["source_branch"], states.get(one["state"], one["state"]))
            for one in self._project.requests
        ]

    def comments(self, number: int) -> list[str]:
        return [note["body"] for note in self._project.notes.get(number, [])]

    def statuses(self, number: int) -> list[str]:
        del number
        return [one["status"] for one in self._project.statuses]

    def hooks(self) -> list[str]:
        return [hook["url"] for hook in self._project.hooks]

    def complaints(self) -> list[str]:
        return self.stub.complaints


class PagureWorld:
    """The stand-in for Pagure, or a real one: looked at through its API either way."""

    def __init__(self, url: str, user: str, token: str, stub: pagure.PagureStub | None) -> None:
        self.url, self.user, self.token, self.stub = url, user, token, stub
        self.name = f"shop-{secrets.token_hex(4)}"

    def forge(self) -> PagureForge:
        return PagureForge(PagureSettings(self.url, self.user, self.token))

    def _ask(self, path: str) -> dict[str, Any]:
        answer = httpx.get(
            f"{self.url}/api/0/{self.name}{path}", timeout=240,
            headers={"authorization": f"token {self.token}"},
        )  # fmt: skip
        answer.raise_for_status()
        found: dict[str, Any] = answer.json()
        return found

    def requests(self) -> list[tuple[str, str]]:
        found = self._ask("/pull-requests?status=all&per_page=100&page=1")["requests"]
        return [(one["branch_from"], one["status"].lower()) for one in reversed(found)]

    def comments(self, number: int) -> list[str]:
        found = self._ask(f"/pull-request/{number}")["comments"]
        # Pagure notes there itself that it was merged, or that a commit came.
        return [one["comment"] for one in found if not one.get("notification")]

    def statuses(self, number: int) -> list[str]:
        return [one["status"] for one in self._ask(f"/pull-request/{number}/flag")["flags"]]

    def hooks(self) -> list[str]:
        return str(self._ask("/options")["settings"]["Web-hooks"] or "").split()

    def complaints(self) -> list[str]:
        return self.stub.complaints if self.stub else []


def real() -> tuple[str, str, str] | None:
    """Return where a real Pagure is, a user and a token, if there is one."""
    words = os.environ.get(REAL, "").split()
    return (words[0], words[1], words[2]) if len(words) == 3 else None
