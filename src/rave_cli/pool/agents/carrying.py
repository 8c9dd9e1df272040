"""Where an agent has the files of a job from, and where it brings what the job leaves: this host,
or the one whose job it is.
"""

from __future__ import annotations

import logging
import secrets
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Literal, Protocol, TypeVar

from rave_cli.errors import ExitCode, RaveError
from rave_cli.pool.agents.agent import UnfitJobError
from rave_cli.pool.files import artifacts, inputs, parcels
from rave_cli.pool.jobs.database import folder
from rave_cli.pool.queue.relay import KEPT, PIECE, Errand, RelayError
from rave_cli.pool.queue.streams import Fault

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from rave_cli.pool.agents.agent import Attempt
    from rave_cli.pool.jobs.job import Artifact
    from rave_cli.pool.queue.relay import Relay
    from rave_cli.pool.queue.streams import Task

T = TypeVar("T")

log = logging.getLogger("rave.pool")

# How often a file is sent for before the attempt is given up.
TRIES = 3


class Carrier(Protocol):
    """Has the files of jobs, and takes them."""

    def open_input(self, task: Task, attempt: Attempt) -> int:
        """Return a descriptor of what a job is given.

        Raises:
            RaveError: it cannot be had.
        """

    def deliver(self, task: Task, attempt: Attempt, left: Sequence[Artifact]) -> None:
        """See to it that what an attempt left lies with the job's owner.

        Raises:
            RaveError: it does not.
        """


class HostFiles:
    """All of it is on this host."""

    def open_input(self, task: Task, attempt: Attempt) -> int:
        """As Carrier says."""
        if task.work.given is None:
            raise UnfitJobError("it is given nothing", exit_code=ExitCode.USAGE)
        return inputs.open_kept(task.work.given)

    def deliver(self, task: Task, attempt: Attempt, left: Sequence[Artifact]) -> None:
        """They lie where they belong."""


class SharedFiles(HostFiles):
    """Jobs are of several hosts; `origin` is the store of this one, if it has one."""

    def __init__(self, relay: Relay, origin: str) -> None:
        self._relay, self._origin = relay, origin

    def open_input(self, task: Task, attempt: Attempt) -> int:
        """As Carrier says."""
        if task.origin == self._origin:
            return super().open_input(task, attempt)
        return _patiently(attempt, lambda: self._fetch(task, attempt))

    def deliver(self, task: Task, attempt: Attempt, left: Sequence[Artifact]) -> None:
        """As Carrier says; nothing of another host's job stays here."""
        if task.origin == self._origin:
            return
        place = artifacts.place_of(task.name, task.attempt)
        try:
            _patiently(attempt, lambda: self._send(task, attempt, left))
        finally:
            artifacts.remove(place)

    def _fetch(self, task: Task, attempt: Attempt) -> int:
        given = task.work.given
        if given is None:
            raise UnfitJobError("it is given nothing", exit_code=ExitCode.USAGE)
        with (
            self._asked(task, "input") as ticket,
            parcels.Arriving(folder() / "inputs", given.size) as arriving,
        ):
            self._relay.receive(ticket, arriving.write, waits=attempt.go_on)
            fd = arriving.descriptor(given)
        try:
            self._relay.receipt(ticket)
        except Fault as error:
            log.debug("the owner of %s waits in vain: %s", task.name, error)
        return fd

    def _send(self, task: Task, attempt: Attempt, left: Sequence[Artifact]) -> None:
        def put(key: str, data: bytes) -> None:
            attempt.hand_over(key, data, KEPT)

        place = artifacts.place_of(task.name, task.attempt)
        with parcels.packed(place, left) as stream, self._asked(task, "artifacts") as ticket:
            pieces = parcels.pieces(stream, PIECE)
            told = self._relay.send(ticket, pieces, put=put, waits=attempt.go_on)
        if told != parcels.listing(left):
            raise RelayError("artifacts did not arrive as they are", exit_code=ExitCode.HOST)

    @contextmanager
    def _asked(self, task: Task, what: Literal["input", "artifacts"]) -> Iterator[str]:
        """Ask the owner; it does not wait in vain if that comes to nothing here."""
        ticket = secrets.token_hex(16)
        self._relay.ask(task.origin, Errand(what, task.name, task.attempt, ticket))
        try:
            yield ticket
        except BaseException:
            with suppress(Fault):
                self._relay.refuse(ticket, "it was broken off")
            raise


def _patiently(attempt: Attempt, do: Callable[[], T]) -> T:
    """Do something that a server or a host that is away for a moment may break off."""
    for left in range(TRIES - 1, -1, -1):
        try:
            return do()
        except (Fault, RelayError) as error:
            attempt.go_on()
            if not left:
                raise RaveError(
                    f"a file of the job did not arrive: {error}", exit_code=ExitCode.NOT_READY
                ) from error
            attempt.rest()
    raise AssertionError
