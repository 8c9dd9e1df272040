"""Commits over git's own protocol, for a forge whose API takes none; without a work tree.

What is fetched is never checked out, so that no link in it leads a file of ours elsewhere.
"""

from __future__ import annotations

import base64
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from rave_platform.adapters import commands
from rave_platform.adapters.commands import BARE, CommandEnd, CommandError
from rave_platform.adapters.forge import archive
from rave_platform.application import tracing
from rave_platform.application.forge import ForgeRefusedError, ForgeUnavailableError

if TYPE_CHECKING:
    from rave_platform.domain.forge import NewCommit

# Commits of a branch among which one is looked for by its message.
LOOKED_AT = 50
REFUSED = ("[rejected]", "[remote rejected]", "couldn't find remote ref")


@dataclass(frozen=True)
class GitRemote:
    """Where repositories are served over HTTP, and who we are there."""

    url: str
    user: str
    password: str = field(repr=False)
    name: str = "rave"
    mail: str = "rave@localhost"

    async def commit(self, path: str, wanted: NewCommit) -> str:
        """Return the commit that a branch has by a message, made and pushed if there is none.

        Made again after whatever happened, it is the same: nothing in it is by chance.

        Raises:
            ForgeUnavailableError: if the forge cannot be asked.
            ForgeRefusedError: if it does not take the commit.
        """
        with tempfile.TemporaryDirectory(prefix="rave-git-") as place:
            work = _GitWork(Path(place), self, path)
            await work.fetch(wanted.branch)
            if found := await work.by_message(wanted.message):
                return found
            made = await work.write(wanted)
            try:
                await work.push(wanted.branch)
            except ForgeRefusedError:
                # A push of ours that was given up may have been carried out meanwhile.
                await work.fetch(wanted.branch)
                if found := await work.by_message(wanted.message):
                    return found
                raise
        return made

    async def files(self, path: str, branch: str) -> dict[str, bytes]:
        """Return the files of a branch.

        Raises:
            ForgeUnavailableError: if the forge cannot be asked.
            ForgeRefusedError: if there is no such branch, or too much on it.
        """
        with tempfile.TemporaryDirectory(prefix="rave-git-") as place:
            work = _GitWork(Path(place), self, path)
            await work.fetch(branch, depth=1)
            return archive.files(await work.tar(), strip=0)


@dataclass(frozen=True)
class _GitWork:
    place: Path
    remote: GitRemote
    path: str

    async def fetch(self, branch: str, depth: int = LOOKED_AT) -> None:
        await self._git("init", "--quiet", "--bare", ".")
        await self._git(
            "fetch", "--quiet", f"--depth={depth}", "--no-tags", self._url,
            f"+refs/heads/{branch}:refs/heads/start",
        )  # fmt: skip

    async def by_message(self, message: str) -> str:
        found = await self._git("log", "--format=%H%x00%B%x00%x00", "refs/heads/start")
        for entry in found.out.decode(errors="replace").split("\0\0"):
            commit, _, said = entry.strip().partition("\0")
            if said.strip() == message.strip():
                return commit
        return ""

    async def write(self, wanted: NewCommit) -> str:
        """Write a commit on top of what was fetched; return its id."""
        await self._git("fast-import", "--quiet", "--done", given=self._stream(wanted))
        found = await self._git("rev-parse", "refs/heads/made")
        return found.out.decode().strip()

    def _stream(self, wanted: NewCommit) -> bytes:
        """Return a commit as git-fast-import(1) reads it."""
        who = f"{self.remote.name} <{self.remote.mail}> {int(wanted.at.timestamp())} +0000"
        files = b"".join(
            f"M 100644 inline {path}\n".encode() + _data(data)
            for path, data in sorted(wanted.files.items())
        )
        return b"".join(
            (
                b"commit refs/heads/made\n",
                f"author {who}\ncommitter {who}\n".encode(),
                _data(wanted.message.encode()),
                b"from refs/heads/start^0\n",
                files,
                b"done\n",
            )
        )

    async def push(self, branch: str) -> None:
        await self._git("push", "--quiet", self._url, f"refs/heads/made:refs/heads/{branch}")

    async def tar(self) -> bytes:
        found = await self._git(
            "archive", "--format=tar", "refs/heads/start", most=2 * archive.MOST_BYTES
        )
        return found.out

    @property
    def _url(self) -> str:
        return f"{self.remote.url}/{self.path}.git"

    async def _git(
        self, *words: str, given: bytes = b"", most: int = commands.MOST_KEPT
    ) -> CommandEnd:
        with tracing.part(f"git {words[0]}") as span:
            try:
                end = await commands.run(
                    ["git", *words], cwd=self.place, env=self._environment(), given=given,
                    most=most,
                )  # fmt: skip
            except CommandError as fault:
                raise ForgeUnavailableError(str(fault)) from fault
            if span and end.code:
                span.fail(f"exit status {end.code}")
        if end.code == 0:
            return end
        said = end.err.decode(errors="replace")
        why = f"git {words[0]}: {' '.join(said.split())[-300:]}"
        if any(word in said for word in REFUSED):
            raise ForgeRefusedError(why)
        raise ForgeUnavailableError(why)

    def _environment(self) -> dict[str, str]:
        """Return what git sees: the password neither in its arguments nor in a file."""
        login = base64.b64encode(f"{self.remote.user}:{self.remote.password}".encode()).decode()
        settings = {
            "http.extraHeader": f"Authorization: Basic {login}",
            "http.followRedirects": "false",
            "gc.auto": "0",
        }
        found = {
            **BARE, "HOME": str(self.place), "LC_ALL": "C", "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_TERMINAL_PROMPT": "0",
            "GIT_ALLOW_PROTOCOL": "http:https", "GIT_CONFIG_COUNT": str(len(settings)),
        }  # fmt: skip
        for number, (name, value) in enumerate(settings.items()):
            found |= {f"GIT_CONFIG_KEY_{number}": name, f"GIT_CONFIG_VALUE_{number}": value}
        return found


def _data(content: bytes) -> bytes:
    return f"data {len(content)}\n".encode() + content + b"\n"
