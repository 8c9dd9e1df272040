"""A call of a guest's program as a value: what is sent, and how its answer is read."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True)
class Refusal:
    """A guest's own words for not doing something: at which step, and why."""

    stage: str
    why: str


@dataclass(frozen=True)
class Call:
    """One call.

    Args:
        argv: the program, which root runs. Never a secret.
        stdin: its standard input: the way for secrets.
        read: takes the JSON document apart that it prints; raises ValueError, KeyError or TypeError
            for one that is no answer.
    """

    argv: tuple[str, ...]
    stdin: bytes = field(repr=False)
    read: Callable[[Any], dict[str, Any] | Refusal]
