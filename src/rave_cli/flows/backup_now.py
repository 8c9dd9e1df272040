"""Back a machine up, with PostgreSQL's log before and behind, where its schedule wants that."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rave_cli.backups import schedule
from rave_cli.errors import RaveError
from rave_cli.flows import backup
from rave_cli.flows import log as logs
from rave_cli.flows.events import Event

if TYPE_CHECKING:
    from rave_cli.flows.backup import BackedUp
    from rave_cli.flows.events import OnEvent
    from rave_cli.settings import Settings


def now(name: str, settings: Settings, *, on_event: OnEvent) -> BackedUp:
    """Back a running machine up; a log that cannot be fetched keeps nobody from it.

    Raises:
        RaveError: as `backup.now`.
    """
    planned = schedule.load().of(name)
    fetches = planned is not None and planned.log > 0
    if fetches:
        # The log that leads on from the backup has begun before it.
        _fetch(name, settings, on_event)
    done = backup.now(name, settings, on_event=on_event)
    if fetches:
        _fetch(name, settings, on_event)
    return done


def _fetch(name: str, settings: Settings, on_event: OnEvent) -> None:
    try:
        logs.fetch(name, settings, on_event=on_event)
    except RaveError as error:
        on_event(Event("warning", "log", f"the log is not fetched: {error.message}"))
