"""What somebody submits at a time, whose it is, and how it is known again when it comes twice."""

from __future__ import annotations

import hashlib
import json
import os
import pwd
import re
from dataclasses import dataclass, replace

from rave_cli.errors import ExitCode, RaveError
from rave_cli.pool.jobs.work import Work, work_said

# A string of Structured Fields (RFC 9651, 3.3.3), in which Idempotency-Key comes, has these.
KEY = re.compile(r"[\x21-\x7e]{1,255}")


class ReusedKeyError(RaveError):
    """A key that its owner has used already, for something else."""


@dataclass(frozen=True)
class Submission:
    """Jobs that are taken in together.

    Attributes:
        works: what is asked for.
        owner: who asks; empty if nobody knows.
        key: tells it from any other of that owner, so that the same one comes to the same jobs;
            empty if it need not be known again.
    """

    works: tuple[Work, ...]
    owner: str = ""
    key: str = ""

    @property
    def digest(self) -> str:
        """The sha256 of what is asked for. When it expires and the span of whoever asks are no part
        of it: whoever says "in a minute" again says another moment, and asks in another span.
        """
        asked = [work_said(replace(work, expires=None, traceparent="")) for work in self.works]
        return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()

    def reused(self) -> ReusedKeyError:
        """Return the error of a key that stands for something else."""
        return ReusedKeyError(
            f"the idempotency key {self.key!r} was used before, for other jobs",
            hint="take a new key for what is new; with the same one ask for the same",
            exit_code=ExitCode.USAGE,
        )


def check_key(key: str) -> str:
    """Return an idempotency key.

    Raises:
        RaveError: USAGE if it is none.
    """
    if not KEY.fullmatch(key):
        raise RaveError(
            "an idempotency key has 1 to 255 printable characters of ASCII, and no space",
            hint='--idempotency-key "$(uuidgen)"',
            exit_code=ExitCode.USAGE,
        )
    return key


def local_owner() -> str:
    """Return who owns what this process submits: its user, whatever the environment says."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"uid:{os.getuid()}"


def holder_owner(token: str) -> str:
    """Return who owns what is submitted with a token of that name: never a user of this host."""
    return f"token:{token}"


def source_owner(source: str) -> str:
    """Return who owns the jobs of a forge's repository."""
    return f"source:{source}"
