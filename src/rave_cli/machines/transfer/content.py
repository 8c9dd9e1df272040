"""What is copied: the words that packing, taking apart and placing share."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from rave_cli.errors import ExitCode, RaveError

# How the one thing that is copied is called inside a stage.
CONTENT = "content"

# Bytes that are moved at once.
CHUNK = 1 << 18


class UnsafeContentError(RaveError):
    """What a guest sent could act outside of the place it was meant for."""

    reason = "unsafe-content"

    def __init__(self, why: str, hint: str = "copy less of it, or look at what it is") -> None:
        super().__init__(
            f"what the machine sent is refused: {why}", hint=hint, exit_code=ExitCode.CHECK_FAILED
        )


@dataclass
class Copied:
    """What was copied: `size` in bytes, what was left out of it, and what the guest remarked."""

    files: int = 0
    size: int = 0
    left_out: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)


def write(fd: int, data: bytes) -> None:
    """Write all of it."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest) :]
