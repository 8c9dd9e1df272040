"""A service's proof that it took a secret."""

from __future__ import annotations

from collections import namedtuple

from rave_guest.refusal import Refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

TIMEOUT = 5.0  # seconds for one exchange
CALLED = 45.0  # seconds for a program
# Refused by every service: no generated or valid value is this short.
WRONG = "wrong"


class Unproven(Exception):  # noqa: N818 - it reads as what happened
    """A service does not behave as its secret demands. Never holds a value."""


class Proof(namedtuple("Proof", ("service", "secret", "ask"))):
    """How to ask a service about a secret.

    Attributes:
        service: who is asked, for people: the service, and within it whom.
        secret: the secret's name.
        ask: gets the value and the previous one if that was another; returns what was refused
            (`none`, `previous`, `wrong`), and raises Unproven, OSError or ValueError as long as the
            service does not behave as it must.
    """

    __slots__ = ()
    service: str
    secret: str
    ask: Callable[[str, str | None], list[str]]


def call(*argv: str) -> None:
    """Run a program that writes or reads anew what follows from the secrets in force.

    Raises:
        Refused: it fails.
    """
    # Services' modules are loaded while the machine boots.
    import subprocess

    done = subprocess.run(argv, capture_output=True, timeout=CALLED, check=False)
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        raise Refused("refresh", f"{argv[0]} ended with {done.returncode}: {said[:200]}")


def demand(problems: list[str]) -> None:
    """Raise Unproven with the problems if there are any."""
    if problems:
        raise Unproven("; ".join(problems))
