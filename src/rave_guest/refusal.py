"""What the guest will not do, or cannot."""

from __future__ import annotations


class Refused(Exception):  # noqa: N818 - it reads as what happened
    """A request was not carried out; `stage` says at which step. Never holds a secret."""

    def __init__(self, stage: str, message: str) -> None:
        super().__init__(message)
        self.stage = stage
