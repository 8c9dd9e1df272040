"""What the platform knows of a forge, whichever it is: projects, commits, merge requests."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

# Of one commit: files, and bytes of all of them together.
MOST_FILES = 500
MOST_BYTES = 2 * 1024 * 1024

# Each part of a path of a file; what git keeps for itself is none (git-check-ref-format(1) and
# `core.protectNTFS` refuse more, for the sake of other systems).
PART = re.compile(r'(?!\.{1,2}$)(?!(?i:\.git)$)[^\x00-\x1f\x7f/"\\:]{1,255}')


@dataclass(frozen=True)
class ForgeProject:
    """A project; `path` is with its namespace, `url` for people."""

    path: str
    url: str
    default_branch: str
    created_at: datetime


@dataclass(frozen=True)
class NewCommit:
    """Files to write on top of a branch; known again by its message, which is to be its own."""

    branch: str
    message: str
    files: Mapping[str, bytes]
    at: datetime

    def __post_init__(self) -> None:
        """Refuse what a forge would.

        Raises:
            ValueError: if a path is none, or it is too much.
        """
        require_files(self.files)


class MergeState(StrEnum):
    """What became of a merge request."""

    OPEN = "open"
    MERGED = "merged"
    CLOSED = "closed"


@dataclass(frozen=True)
class NewMergeRequest:
    """What is wanted; a branch has one merge request."""

    source: str
    target: str
    title: str
    text: str


@dataclass(frozen=True)
class MergeRequest:
    """One that is there; `commit` is the newest of its source."""

    number: int
    url: str
    state: MergeState
    source: str
    target: str
    commit: str


class StatusState(StrEnum):
    """What came of a check."""

    PENDING = "pending"
    SUCCESS = "success"
    FAILED = "failed"


@dataclass(frozen=True)
class CommitStatus:
    """A check of what is to be merged, known again by its name."""

    name: str
    state: StatusState
    text: str
    url: str


def require_files(files: Mapping[str, bytes]) -> None:
    """See to it that files can be written.

    Raises:
        ValueError: if a path is none, or there are too many, or too large ones.
    """
    for path in files:
        if not all(PART.fullmatch(part) for part in path.split("/")):
            raise ValueError(f"{path!r} is no path of a file")
    if not files or len(files) > MOST_FILES:
        raise ValueError(f"a commit has 1 to {MOST_FILES} files, not {len(files)}")
    size = sum(map(len, files.values()))
    if size > MOST_BYTES:
        raise ValueError(f"a commit has at most {MOST_BYTES} bytes, not {size}")
