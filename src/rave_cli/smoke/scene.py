"""What the host's own checks look at: the machine, its image, its secrets, the open listeners."""

from __future__ import annotations

import socket
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from rave_cli.images.manifest import Image
    from rave_cli.machines.spec import Machine
    from rave_cli.profiles.catalog import Plan


@dataclass(frozen=True)
class Operator:
    """The operator's secrets. `values` is empty, and `missing` says why, where there are none.

    Args:
        values: name -> value of every secret of the plan.
        problems: what validation found to be wrong with the file.
        missing: why there are no values; None if there are.
    """

    values: Mapping[str, str] = field(default_factory=dict, repr=False)
    problems: tuple[str, ...] = ()
    missing: str | None = None

    @property
    def why_none(self) -> str:
        """Why there is nothing to search for, for a check that is skipped."""
        return self.missing or "the plan needs none"


@dataclass(frozen=True)
class Scene:
    """Everything a check on the host may look at.

    Args:
        machine: the running machine.
        plan: what its base makes of its profile.
        image: the image it was made from.
        ports: guest port -> port of 127.0.0.1.
        operator: the operator's secrets.
        hidden: values, by name, that must turn up nowhere.
        decoys: listeners held open for the guest to try.
    """

    machine: Machine
    plan: Plan
    image: Image
    ports: Mapping[int, int]
    operator: Operator
    hidden: Mapping[str, str] = field(repr=False)
    decoys: tuple[Decoy, ...] = ()


@dataclass(frozen=True)
class Decoy:
    """A listener on the host; `seen` is how the guest would address it."""

    socket: socket.socket
    seen: tuple[str, int]

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens."""
        host, port = self.socket.getsockname()[:2]
        return host, port

    def visits(self) -> int:
        """Return how many connections arrived since the last call."""
        count = 0
        self.socket.setblocking(False)
        with suppress(BlockingIOError):
            while True:
                self.socket.accept()[0].close()
                count += 1
        return count


@contextmanager
def decoys(gateway: str) -> Iterator[tuple[Decoy, ...]]:
    """Hold listeners open: one on the loopback, which a guest with a free user network reaches
    through its gateway, and one on the address that leads to the world, if there is one.
    """
    with ExitStack() as stack:
        found = []
        for host in ("127.0.0.1", _own_address()):
            if host is not None:
                with suppress(OSError):
                    listener = stack.enter_context(socket.create_server((host, 0)))
                    port = listener.getsockname()[1]
                    found.append(Decoy(listener, (gateway if host == "127.0.0.1" else host, port)))
        yield tuple(found)


def _own_address() -> str | None:
    """Return the address this host would use towards the world; nothing is sent to find out."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as plain:
        try:
            # TEST-NET-1, RFC 5737.
            plain.connect(("192.0.2.1", 9))
        except OSError:
            return None
        return str(plain.getsockname()[0])
