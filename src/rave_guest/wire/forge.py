"""What a program asks of Pagure, as far as the checks need it: its API 0, and git over HTTP."""

from __future__ import annotations

import json
import os
import time
from base64 import b64encode
from contextlib import contextmanager, suppress
from urllib.parse import quote, urlencode

from rave_guest.wire import http

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

    from rave_guest.system import System

API = "/api/0"
DAY = 86400  # seconds


def tomorrow() -> str:
    """Return the day on which a token ends that is for now."""
    return time.strftime("%Y-%m-%d", time.gmtime(time.time() + DAY))


class PagureError(Exception):
    """Pagure refused, or git failed."""


class PagureUser:
    """Somebody at a forge of this machine, who shows a token of theirs."""

    def __init__(self, port: int, user: str, token: str, timeout: float) -> None:
        """`timeout`: seconds for one request, and for one run of git."""
        self._port, self._base = port, f"http://127.0.0.1:{port}"
        self._user, self._token, self._timeout = user, token, timeout

    def whoami(self) -> str | None:
        """Return who the token is of; None if it is nobody's."""
        answer = self._post("/-/whoami", {})
        if answer.status == 401:
            return None
        return str(self._told(answer)["username"])

    def create(self, name: str, *, private: bool = True) -> str:
        """Make a project, with a branch `main` and a README, and return where it is: Pagure puts
        what is private below its owner's name.

        Raises:
            PagureError: it was refused.
        """
        wanted = {
            "name": name, "description": "of the smoke suite", "create_readme": "true",
            "default_branch": "main", "private": str(private).lower(), "wait": "true",
        }  # fmt: skip
        self._told(self._post("/new", wanted))
        return self.private(name) if private else name

    def private(self, name: str) -> str:
        """Return where a private project of this user is."""
        return f"{self._user}/{name}"

    def look(self, path: str) -> Mapping[str, Any] | None:
        """Return what anybody is shown at a place of the API; None if there is nothing.

        Raises:
            PagureError: it is refused.
        """
        answer = http.get(f"{self._base}{API}{path}", self._timeout)
        return None if answer.status == 404 else self._told(answer)

    def delete(self, project: str) -> None:
        """Delete a project, if there is one, however much of it. That takes a token of the project
        itself.

        Raises:
            PagureError: it was refused.
        """
        wanted = {"acls": "modify_project", "description": "rave", "expiration_date": tomorrow()}
        answer = self._post(f"/{quote(project)}/token/new", wanted)
        if answer.status == 404:
            return
        own = PagureUser(self._port, self._user, self._told(answer)["token"]["id"], self._timeout)
        answer = own._post(f"/{quote(project)}/delete", {})
        if answer.status == 400:
            # Its making was broken off: nobody may delete it until its rights are settled.
            self._told(self._post(f"/{quote(project)}/git/generateacls", {"wait": "true"}))
            answer = own._post(f"/{quote(project)}/delete", {})
        self._told(answer)

    @contextmanager
    def trying(self, project: str) -> Iterator[str]:
        """Yield a new folder of nobody's; before and afterwards there is no such project.

        Raises:
            PagureError: as `delete` and what is tried; or one of the answers takes too long.
        """
        from shutil import chown, rmtree

        folder = f"/tmp/rave-forge-{os.urandom(8).hex()}"  # noqa: S108 - nobody can guess it
        os.mkdir(folder, 0o700)
        chown(folder, "nobody")
        try:
            # One that a run which was broken off has left.
            self.delete(project)
            yield folder
        except TimeoutError as late:
            raise PagureError(f"one answer takes longer than {self._timeout:g} s") from late
        finally:
            with suppress(PagureError, OSError, ValueError):
                self.delete(project)
            rmtree(folder, ignore_errors=True)

    def git(self, system: System, folder: str, *words: str) -> str:
        """Let git carry out something in a folder of nobody's, as this user; returns what it says.

        Raises:
            PagureError: it fails; its last line.
            TimeoutError: it takes too long.
        """
        basic = b64encode(f"{self._user}:{self._token}".encode()).decode()
        env = {
            "HOME": folder, "GIT_TERMINAL_PROMPT": "0", "GIT_CONFIG_COUNT": "1",
            # Not among its words, which everybody sees.
            "GIT_CONFIG_KEY_0": "http.extraHeader",
            "GIT_CONFIG_VALUE_0": f"Authorization: Basic {basic}",
        }  # fmt: skip
        done = system.run(
            ["git", "-C", folder, *words], self._timeout, user="nobody", env=env
        )  # fmt: skip
        if done.returncode:
            said = done.stderr.strip().splitlines() or ["it says nothing"]
            raise PagureError(f"git {words[0]}: {said[-1]}")
        return done.stdout.strip()

    def address(self, project: str) -> str:
        """Return where git finds a project, within this machine."""
        return f"{self._base}/{project}.git"

    def _post(self, path: str, fields: Mapping[str, str]) -> http.Response:
        headers = {"Authorization": f"token {self._token}"}
        return http.post(f"{self._base}{API}{path}", urlencode(fields), headers, self._timeout)

    @staticmethod
    def _told(answer: http.Response) -> Mapping[str, Any]:
        try:
            document: Mapping[str, Any] = json.loads(answer.body)
        except ValueError:
            document = {}
        if answer.status != 200:
            raise PagureError(f"{answer.status} {document.get('error', 'without a reason')}")
        return document
