"""What the host's own checks look at: machine, image, secrets, open listeners, the connection."""

from __future__ import annotations

import math
import socket
import time
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rave_cli.machines.guest.door import Door
from rave_cli.smoke.banturn import BanTurn
from rave_cli.smoke.knocks import Knocks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from rave_cli.images.manifest import Image
    from rave_cli.machines.guest.channel import CommandChannel
    from rave_cli.machines.guest.session import Session
    from rave_cli.machines.spec import Machine
    from rave_cli.profiles.catalog import Plan
    from rave_cli.smoke.operator import Operator
    from rave_cli.smoke.provisioning import Provisions
    from rave_cli.smoke.recovering import Recovers
    from rave_cli.transcript.check import CheckResult
    from rave_cli.transcript.events import Moment


@dataclass(frozen=True)
class Recorded:
    """How much a run has recorded: events, and places in them that had to be redacted."""

    events: int
    redacted: int


@dataclass
class CheckContext:
    """Everything a check on the host may look at, and what earlier looks left for later ones.

    Args:
        machine: the running machine.
        plan: the plan that it was made from.
        image: the image it was made from.
        ports: guest port -> port of 127.0.0.1.
        operator: the operator's secrets.
        hidden: values, by name, that must turn up nowhere.
        decoys: listeners held open for the guest to try.
        deadline: end of the run (time.monotonic()).
        known: the results so far, by id.
        digests: the image's sha256 in hex, `before` and `after` the checks, where it is known.
        keep_digest: records one of them, and returns it.
        recorded: tells how much the run has recorded.
        stack: closed when nothing more is asked through the connection.
        session: the one connection; None before the login, and if it failed.
        channel: the command channel, over which the guest is asked sooner; None if it is not to be
            had.
        knocks: connections of strangers that were made ahead.
        ban: what passes between the ban and the guest's batch that lifts it.
        recovery: what backs the machine up and restores it into a second one; None where that is
            not asked for.
        provisions: what knows of the sandboxes that the machine had; None where none is lent.
        greeting: what came of offering TLS 1.3, and the certificate (DER); None before it was.
        told: what the guest's clock said, with the host's before and after; None before it did.
    """

    machine: Machine
    plan: Plan
    image: Image
    ports: Mapping[int, int]
    operator: Operator
    hidden: Mapping[str, str] = field(repr=False)
    decoys: tuple[Decoy, ...] = ()
    deadline: float = math.inf
    known: Mapping[str, CheckResult] = field(default_factory=dict)
    digests: Mapping[str, str] = field(default_factory=dict)
    keep_digest: Callable[[Moment, str], str] = lambda _, sha256: sha256
    recorded: Callable[[], Recorded] = lambda: Recorded(0, 0)
    stack: ExitStack = field(default_factory=ExitStack)
    session: Session | None = None
    channel: CommandChannel | None = None
    knocks: Knocks = field(default_factory=Knocks)
    ban: BanTurn = field(default_factory=BanTurn)
    recovery: Recovers | None = None
    provisions: Provisions | None = None
    greeting: tuple[str, bytes | None] | None = None
    told: tuple[float, float, float] | None = None

    @property
    def asked(self) -> Door | None:
        """The way by which batches are asked, one at a time: the quicker one."""
        if self.channel is None or self.session is None:
            return self.door
        return Door.of(self.machine, self.channel)

    @property
    def door(self) -> Door | None:
        """The way into the guest, if there is a connection."""
        return None if self.session is None else Door.of(self.machine, self.session)

    def within(self, seconds: float) -> float:
        """Return `seconds`, or what is left of the run if that is less."""
        return max(0.1, min(seconds, self.deadline - time.monotonic()))


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
