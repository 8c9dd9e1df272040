"""`rave backup`: what machines keep, kept a second time, a file per verb."""

from __future__ import annotations

import click

from rave_cli.lazy import CONTEXT, Lazy, LazyGroup


@click.group(
    cls=LazyGroup,
    context_settings=CONTEXT,
    lazy={
        "now": Lazy("rave_cli.commands.backup.now:now", "Back a machine up."),
        "list": Lazy("rave_cli.commands.backup.list:list_", "The backups that there are."),
        "status": Lazy("rave_cli.commands.backup.status:status", "Whether all is well with them."),
        "show": Lazy("rave_cli.commands.backup.show:show", "One of them."),
        "verify": Lazy("rave_cli.commands.backup.verify:verify", "Whether they are sound."),
        "restore": Lazy("rave_cli.commands.backup.restore:restore", "Put one into a machine."),
        "log": Lazy("rave_cli.commands.backup.log:log", "Fetch PostgreSQL's log, between backups."),
        "copy": Lazy("rave_cli.commands.backup.copy:copy", "Copy them to another place."),
        "fetch": Lazy("rave_cli.commands.backup.fetch:fetch", "Get them back from there."),
        "schedule": Lazy(
            "rave_cli.commands.backup.schedule:schedule", "Backups that are made by themselves."
        ),
        "prune": Lazy("rave_cli.commands.backup.prune:prune", "Take old ones away."),
        "key": Lazy("rave_cli.commands.backup.key:key", "What opens them."),
        "kit": Lazy("rave_cli.commands.backup.kit:kit", "A page to print: what opens them."),
    },
)
def backup() -> None:
    """What the services of machines keep, kept a second time in a folder of this host, encrypted.

    A machine sends it and never holds the key: it can take no backup away, and read none.
    """
