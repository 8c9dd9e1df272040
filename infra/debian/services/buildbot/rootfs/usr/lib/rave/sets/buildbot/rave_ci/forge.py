"""The forge, as CI asks it: what there is to build, and where it says what became of it.

A project goes by its full name: `hello`, `team/hello`, `forks/sam/hello`.
"""

from __future__ import annotations

import json
from typing import Any
from urllib.error import HTTPError
from urllib.parse import quote, urlencode
from urllib.request import Request, urlopen

# A project that has it is built: this runs.
RUN = ".ci/run"
WAITS = 120.0  # seconds, in an emulated guest on a busy host
MANY = 100  # of Pagure's answers, the most on a page
# One flag of a commit: what is said later takes its place.
FLAG = "rave-ci"


class Forge:
    """Pagure, as anybody sees it; with a token it can be told something."""

    def __init__(self, address: str, token: str = "") -> None:
        """`address` within the machine; `token` of an account that may flag commits."""
        self._address, self._token = address, token

    def source(self, project: str) -> str:
        """Return where git finds a project."""
        return f"{self._address}/{quote(project)}.git"

    def projects(self) -> list[str]:
        """Return all public projects."""
        found: list[str] = []
        page = f"{self._address}/api/0/projects?{urlencode({'per_page': MANY, 'short': 'true'})}"
        number, pages = 1, 1
        while number <= pages:
            told = json.loads(self._ask(f"{page}&page={number}") or b"{}")
            found += [one["fullname"] for one in told.get("projects", [])]
            number, pages = number + 1, told.get("pagination", {}).get("pages", 1)
        return found

    def heads(self, project: str) -> dict[str, str]:
        """Return the branches of a project with their commits; none if nobody may see it."""
        told = self._ask(f"{self._api(project)}/git/branches?with_commits=true")
        return dict(json.loads(told)["branches"]) if told else {}

    def wanted(self, project: str, commit: str) -> bool:
        """Return whether a commit says how it is built."""
        return bool(self._ask(f"{self._page(project)}/raw/{commit}/f/{RUN}"))

    def flag(self, project: str, commit: str, **said: str) -> None:
        """Say at a commit what became of it: `status`, `comment`, and `url` of the build."""
        fields = {"username": "Buildbot", "uid": FLAG, **said}
        self._ask(f"{self._api(project)}/c/{commit}/flag", urlencode(fields).encode())

    def _api(self, project: str) -> str:
        return f"{self._address}/api/0/{_path(project)}"

    def _page(self, project: str) -> str:
        return f"{self._address}/{_path(project)}"

    def _ask(self, address: str, fields: bytes | None = None) -> bytes:
        """Return what is answered; nothing if there is nothing.

        Raises:
            OSError: nobody answers, or it is refused.
        """
        headers = {"Authorization": f"token {self._token}"} if fields else {}
        asked = Request(address, fields, headers)  # noqa: S310 - of this machine
        try:
            with urlopen(asked, timeout=WAITS) as answer:  # noqa: S310
                return bytes(answer.read())
        except HTTPError as error:
            if error.code == 404 and not fields:
                return b""
            raise


def _path(project: str) -> str:
    """A project's path in addresses of pages, where `forks` is one."""
    kind, slash, rest = project.partition("/")
    return quote(f"fork/{rest}" if slash and kind == "forks" else project)


def project_of(place: str) -> str:
    """Return whose repository lies at a place of the disk; nothing if nobody's."""
    return place.partition("/repositories/")[2].removesuffix(".git")


def described(build: dict[str, Any]) -> str:
    """Return a build's status in the forge's words."""
    if not build["complete"]:
        return "pending"
    # Buildbot's results by number: 5 is one that is begun anew, as its worker has gone.
    return {0: "success", 2: "failure", 5: "pending", 6: "canceled"}.get(build["results"], "error")
