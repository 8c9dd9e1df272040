"""What the services need of a forge; adapters for Pagure and GitLab fill it.

Whatever is asked for twice is there once: each looks before it makes, so that it can be repeated
after whatever was killed in between.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from rave_platform.application.ports import UnavailableError

if TYPE_CHECKING:
    from rave_platform.domain.forge import (
        CommitStatus,
        ForgeProject,
        MergeRequest,
        NewCommit,
        NewMergeRequest,
    )


class ForgeUnavailableError(UnavailableError):
    """The forge cannot be asked now, or has not finished."""


class ForgeRefusedError(Exception):
    """The forge answered, and to this never otherwise: why, and its status."""

    def __init__(self, why: str, status: int = 0) -> None:
        super().__init__(why)
        self.status = status


class Forge(Protocol):
    """Where projects are. Every method raises ForgeUnavailableError and ForgeRefusedError."""

    async def project(self, path: str) -> ForgeProject | None:
        """Return a project, if there is one."""

    async def create_project(self, path: str, description: str) -> ForgeProject:
        """Return a project, which is made if there is none, with a first commit."""

    async def files(self, project: str, branch: str) -> dict[str, bytes]:
        """Return the files of a branch by their paths; links and modules are left out."""

    async def create_branch(self, project: str, branch: str, start: str) -> str:
        """Return the newest commit of a branch, which begins where another is if there is none."""

    async def commit(self, project: str, wanted: NewCommit) -> str:
        """Return the commit that a branch has by a message, made on top of it if there is none."""

    async def merge_request(self, project: str, source: str) -> MergeRequest | None:
        """Return the merge request of a branch, if there is one; an open one before others."""

    async def open_merge_request(self, project: str, wanted: NewMergeRequest) -> MergeRequest:
        """Return the merge request of a branch, opened if there is none."""

    async def comment(self, project: str, number: int, text: str) -> None:
        """Say something of a merge request; what we said already is not said again."""

    async def set_status(self, project: str, request: MergeRequest, status: CommitStatus) -> None:
        """Say what a check came to."""

    async def merge(self, project: str, request: MergeRequest) -> None:
        """Merge what was looked at; a merge request that is merged stays so."""

    async def close_merge_request(self, project: str, number: int) -> None:
        """Close a merge request without merging it."""

    async def see_to_hook(self, project: str, url: str, secret: str) -> str:
        """Have the forge tell an address of what happens; return the secret that it signs with.

        It is the one given where the forge takes one, and otherwise the forge's own.
        """

    async def close(self) -> None:
        """Close its connections."""
