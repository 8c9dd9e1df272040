"""What the sandbox phase asks of the pool's side: which jobs the machine had run, what is left of
them. Who knows that is above smoke (pool/guests/seen.py); a check knows what it returns.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

# Why the phase is not asked, unless somebody knows better.
NOT_LENT = "no pool is lent to this machine (rave pool guest add NAME, or smoke run --sandbox)"


@dataclass(frozen=True)
class ProvisionedJob:
    """A job that the machine had run.

    Attributes:
        name: as `rave pool show` has it.
        state: how it stands, or how it ended.
        proven: whether what became of it is signed for, and the proof says the same.
        machine: whether it was run in a machine of its own, of an image and a template.
    """

    name: str
    state: str
    proven: bool
    machine: bool


class Provisions(Protocol):
    """The pool, seen from this host."""

    @property
    def withheld(self) -> str:
        """Why the machine can have no sandboxes; empty if it can."""
        ...

    def jobs(self) -> Sequence[ProvisionedJob]:
        """Return the jobs that the machine has submitted since the run began."""
        ...

    def left(self, names: Sequence[str], seconds: float) -> Sequence[str]:
        """Return what is left of the machines of jobs that are over: directories, disks, sockets
        and processes, each as a sentence. What goes within `seconds` is not left.
        """
        ...
