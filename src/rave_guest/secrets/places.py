"""Where the programs that handle secrets find things on this machine."""

from __future__ import annotations

import fcntl
import json
import os
from collections import namedtuple
from contextlib import contextmanager

from rave_guest.refusal import Refused
from rave_guest.secrets.generations import Place

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any


class Places(
    namedtuple("Places", ("plan", "sops", "store", "handed", "lock", "systemctl", "generations"))
):
    """The plan, the program sops, the directory of what is kept for the next boot, the age identity
    that this boot was handed by its host, the lock that one installation holds, the program
    systemctl, and where generations of plain secrets lie.
    """

    __slots__ = ()
    plan: str
    sops: str
    store: str
    handed: str
    lock: str
    systemctl: str
    generations: Place


HERE = Places(
    plan="/usr/lib/rave/plan.json",
    sops="/usr/lib/rave/sops",
    store="/var/lib/rave/secrets",
    handed="/run/credentials/@system/rave.age-key",
    lock="/run/rave/secrets.lock",
    systemctl="systemctl",
    generations=Place(root="/run/secrets.d", link="/run/secrets"),
)


def read_plan(places: Places) -> dict[str, Any]:
    """Return the plan of this guest.

    Raises:
        OSError: it cannot be read.
    """
    with open(places.plan, "rb") as stream:
        plan: dict[str, Any] = json.load(stream)
    return plan


@contextmanager
def locked(places: Places) -> Iterator[None]:
    """Keep other installations out.

    Raises:
        Refused: another one is running.
    """
    fd = os.open(places.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Refused("request", "another installation of secrets is running") from error
        yield
    finally:
        os.close(fd)
