"""Which secrets of whoever serves a job may read: names travel with it, values never do."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from rave_cli.errors import ExitCode, RaveError
from rave_cli.pool.agents.agent import UnfitJobError
from rave_cli.pool.jobs.store import open_store
from rave_cli.pool.jobs.work import work_said
from rave_cli.secrets import identity, store

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rave_cli.pool.jobs.work import Work
    from rave_cli.pool.queue.streams import Task


@dataclass(frozen=True)
class SecretLending:
    """What jobs may read of the secrets of whoever serves.

    Attributes:
        origin: the store of this host; its jobs may read any. Empty if it has none.
        names: what jobs of other hosts may read; None where there are no others.
    """

    origin: str = ""
    names: frozenset[str] | None = None

    def secrets(self, task: Task) -> dict[str, bytes]:
        """Return the values of the secrets that a job reads.

        Raises:
            UnfitJobError: there is none of that name, and no other host; or none is lent to it.
            RaveError: SECRETS if the file cannot be decrypted here, or has none of that name.
        """
        wanted = task.work.secrets
        if not wanted:
            return {}
        own = self.names is None or task.origin == self.origin
        if self.names is not None:
            _require_own(task) if own else _require_lent(wanted, self.names)
        opened = _opened()
        if missing := [name for name in wanted if name not in opened]:
            # Of hosts that share a server another may have it.
            raise (UnfitJobError if self.names is None else RaveError)(
                f"there is no secret {', '.join(missing)}",
                hint="rave secrets edit",
                exit_code=ExitCode.SECRETS,
            )
        return {name: opened[name].encode() for name in wanted}


def require(names: Iterable[str]) -> frozenset[str]:
    """Return names of secrets that this host has.

    Raises:
        RaveError: SECRETS if it has not, or cannot open them.
    """
    found = frozenset(names)
    if found and (missing := sorted(found - _opened().keys())):
        raise RaveError(
            f"there is no secret {', '.join(missing)} that jobs could be lent",
            hint="rave secrets edit",
            exit_code=ExitCode.SECRETS,
        )
    return found


def _opened() -> dict[str, str]:
    data = store.read(store.place(None))
    return store.names_of(store.decrypt(data, identity.load(), output="json"))


def _require_own(task: Task) -> None:
    """Refuse what only says that it is a job of this host: whoever can write into a shared queue
    can say so of any.
    """
    with open_store() as jobs:
        job = jobs.load(task.name)
    if job.name != task.name or job.over or _said(job.work) != _said(task.work):
        raise UnfitJobError(
            f"job {task.name} is not what was submitted here under that name",
            hint="redis-cli monitor   (who writes into the server)",
            exit_code=ExitCode.SECRETS,
        )


def _said(work: Work) -> object:
    # On its way a job is given the span that it is.
    return work_said(replace(work, traceparent=""))


def _require_lent(wanted: Iterable[str], lent: frozenset[str]) -> None:
    if missing := [name for name in wanted if name not in lent]:
        raise UnfitJobError(
            f"the secret {', '.join(missing)} is not lent to jobs of other hosts here",
            hint=f"rave pool serve --lend {missing[0]}",
            exit_code=ExitCode.SECRETS,
        )
