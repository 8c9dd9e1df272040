"""`rave backup schedule`: a file per verb."""

from __future__ import annotations

import click

from rave_cli.lazy import CONTEXT, Lazy, LazyGroup

_ROOM = "rave_cli.commands.backup.schedule"


@click.group(
    cls=LazyGroup,
    context_settings=CONTEXT,
    lazy={
        "set": Lazy(f"{_ROOM}.set:set_", "Back a machine up by itself."),
        "list": Lazy(f"{_ROOM}.list:list_", "What is backed up when, and what wakes rave up."),
        "remove": Lazy(f"{_ROOM}.remove:remove", "Back a machine up by hand alone."),
        "run": Lazy(f"{_ROOM}.run:run", "Do what is due."),
    },
)
def schedule() -> None:
    """Backups that are made by themselves, kept for days and months, and restored each week to see
    whether they can be.

    A timer of this host's systemd, or cron, calls `rave backup schedule run` each quarter of an
    hour; what is due then rave knows.
    """
