"""`rave backup restore`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from rave_cli.audited import audited
from rave_cli.options import json_option, machine_argument, pass_app

if TYPE_CHECKING:
    from datetime import datetime

    from rave_cli.options import App


@click.command()
@machine_argument
@click.option(
    "--from", "wanted", metavar="BACKUP", default="latest", show_default=True,
    help="Which one: its name, or the last one not later than a time such as 2026-11-26T06:00Z.",
)  # fmt: skip
@click.option(
    "--at", "moment", metavar="TIME",
    help="Let PostgreSQL be as of this time, such as 2026-11-26T06:00:30Z or …+01:00.",
)  # fmt: skip
@click.option("--to", metavar="NEW", help="Make a machine NEW, with its secrets, and restore that.")
@click.option(
    "--only", metavar="SERVICE", multiple=True, help="Restore this service alone (repeatable)."
)
@click.option(
    "--instance", metavar="ID", help="The instance the backup is of, if that is another machine."
)
@json_option
@pass_app
@audited
def restore(
    app: App,
    *,
    name: str,
    wanted: str,
    moment: str | None,
    to: str | None,
    only: tuple[str, ...],
    instance: str | None,
) -> None:
    """Put a backup of the machine NAME back into it, or into a new one.

    The machine runs, and what is restored stands still meanwhile. What it had before is put aside,
    and comes back if anything fails. Without --to NAME must be the machine that the backup is of,
    not another of the same name.

    With --to the machine is made as `rave up` makes it, from a template where one fits, and is
    healthy at the end; it is said how long that took. Of a call that was killed the next goes on.

    With --at PostgreSQL goes on from the backup to that time, with the log that was fetched since;
    everything else is as of the backup. `rave backup list` has the times that can be reached.

    \b
    Example: rave backup restore dev
    Example: rave backup restore dev --from dev-20261126T060000Z-1f3a --only postgresql
    Example: rave backup restore dev --from 2026-11-26T06:00Z --to dev2
    Example: rave backup restore dev --at 2026-11-26T06:14:30Z --to dev2
    """
    from rave_cli.flows import restore as flow
    from rave_cli.flows import restore_new
    from rave_cli.views.backup import recovered_lines, restored_line

    if to is not None and instance is not None:
        raise click.UsageError("Either --to or --instance.")
    at = _moment(moment) if moment is not None else None
    if to is None:
        with app.show.events() as on_event:
            done = flow.into(
                name, wanted, app.settings, at=at, only=only, instance=instance, on_event=on_event
            )
        app.show.result(done.document(), restored_line(done))
        return
    with app.show.events() as on_event:
        made = restore_new.new(
            name, wanted, to, app.catalog(), app.settings, at=at, only=only, on_event=on_event
        )
    app.show.result(made.document(), *recovered_lines(made))


def _moment(text: str) -> datetime:
    """Return a time that says its zone (ISO 8601)."""
    from datetime import UTC, datetime

    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        found = datetime.min
    if found.tzinfo is None:
        raise click.BadParameter(
            f"{text!r} is no time with its zone, such as 2026-11-26T06:00:30Z", param_hint="--at"
        )
    return found.astimezone(UTC)
