"""Reaches the pool that a command is to ask: that of whoever calls, or one at an endpoint."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from rave_cli.pool.access.local import LocalPool
from rave_cli.pool.asking.following import require_served
from rave_cli.pool.jobs.store import open_store
from rave_cli.pool.jobs.submission import local_owner
from rave_cli.pool.served import api_socket

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rave_cli.pool.access.pool import PoolAccess
    from rave_cli.pool.jobs.job import Job


@contextmanager
def reach(endpoint: str | None) -> Iterator[PoolAccess]:
    """Yield the pool at an endpoint; without one that of whoever calls.

    Raises:
        RaveError: USAGE if the endpoint is none; HOST if the store cannot be opened.
    """
    if endpoint is None:
        with open_store() as store:
            yield LocalPool(store, local_owner())
        return
    # What it takes to talk to another is not loaded for this one's commands.
    from rave_cli.pool.access.remote import RemotePool, connection

    with connection(endpoint) as client:
        yield RemotePool(client)


def changes(endpoint: str | None) -> Iterator[Job]:
    """Yield each job of such a pool that becomes another than before, until whoever serves it ends.

    Raises:
        RaveError: NOT_READY if nobody serves it, or it says nothing more.
    """
    if endpoint is None:
        # What happens to jobs is known where they are served, and told there as to anybody else.
        require_served()
    from rave_cli.pool.access.remote import RemotePool, connection

    with connection(endpoint or f"unix:{api_socket()}") as client:
        yield from RemotePool(client).changes()
