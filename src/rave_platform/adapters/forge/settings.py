"""Which forge there is, and who we are there."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - pydantic reads it
from typing import TYPE_CHECKING, Annotated, Self

from pydantic import StringConstraints, model_validator

from rave_platform.adapters import configuration
from rave_platform.adapters.configuration import StrictSettings
from rave_platform.adapters.forge.gitlab import GitLabForge, GitLabSettings
from rave_platform.adapters.forge.pagure import PagureForge, PagureSettings

if TYPE_CHECKING:
    from rave_platform.application.forge import Forge

# Without its last slash: paths are put behind it.
Address = Annotated[str, StringConstraints(pattern=r"^https?://[^/\s]+(/[^\s]*[^/\s])?$")]
Name = Annotated[str, StringConstraints(min_length=1, max_length=255)]


class GitLabPart(StrictSettings):
    """A GitLab, and the namespace in which projects are that are named without one."""

    url: Address
    namespace: Name
    token_file: Path


class PagurePart(StrictSettings):
    """A Pagure, and our user there; the token is for its API and for git."""

    url: Address
    user: Name
    namespace: str = ""
    token_file: Path
    # Who is told of what happens in the projects that agents make.
    hook: Address | None = None


class ForgePart(StrictSettings):
    """Either of them."""

    gitlab: GitLabPart | None = None
    pagure: PagurePart | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.gitlab is None) == (self.pagure is None):
            raise ValueError("there is to be either gitlab or pagure")
        return self


def hook(found: ForgePart) -> str:
    """Return who is told of what happens in the projects that agents make; empty for nobody."""
    return (found.pagure.hook if found.pagure else None) or ""


def forge(found: ForgePart) -> Forge:
    """Return the forge.

    Raises:
        SettingsError: if its token is not there, or not fit to be one.
    """
    if found.gitlab:
        part = found.gitlab
        token = configuration.token(part.token_file)
        return GitLabForge(GitLabSettings(part.url, part.namespace, token))
    assert found.pagure is not None  # noqa: S101 - one of them is there
    pagure = found.pagure
    token = configuration.token(pagure.token_file)
    return PagureForge(PagureSettings(pagure.url, pagure.user, token, pagure.namespace))
