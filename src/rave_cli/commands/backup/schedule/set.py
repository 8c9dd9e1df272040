"""`rave backup schedule set`."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import click

from rave_cli.audited import audited
from rave_cli.options import json_option, machine_argument, pass_app

if TYPE_CHECKING:
    from rave_cli.backups.schedule import Interval, Weekday
    from rave_cli.options import App

# As rave_cli.backups.schedule has them, which is loaded when the command runs.
EVERY = ("15min", "30min", "1h", "2h", "4h", "6h", "12h", "1d")
WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


@click.command("set")
@machine_argument
@click.option(
    "--every", type=click.Choice(EVERY), default="1d", show_default=True, help="How often."
)
@click.option(
    "--at", default="02:30", show_default=True, metavar="HH:MM",
    help="When the first of a day is due, in UTC.",
)  # fmt: skip
@click.option(
    "--days", type=click.IntRange(min=1), default=30, show_default=True, metavar="N",
    help="Keep the last backup of so many days.",
)  # fmt: skip
@click.option(
    "--months", type=click.IntRange(min=0), default=12, show_default=True, metavar="N",
    help="Keep the last backup of so many months.",
)  # fmt: skip
@click.option(
    "--tested", type=click.Choice((*WEEKDAYS, "never")), default="sun", show_default=True,
    help="On which day of the week the latest is restored into a machine of its own, which is"
    " deleted then.",
)  # fmt: skip
@click.option(
    "--log", type=click.IntRange(min=0), default=0, show_default=True, metavar="DAYS",
    help="Fetch PostgreSQL's log each four minutes, and keep what restores it to any moment of so"
    " many days; 0 for none.",
)  # fmt: skip
@json_option
@pass_app
@audited
def set_(
    app: App, *, name: str, every: str, at: str, days: int, months: int, tested: str, log: int
) -> None:
    """Back the machine NAME up by itself, from now on.

    A timer of systemd is written and started: the host's for root, else your own. Where no systemd
    runs, it is said what has to be called instead. In SAFE mode it comes after all else that this
    host does.

    \b
    Example: rave backup schedule set dev
    Example: rave backup schedule set dev --every 1h --tested sat
    Example: rave backup schedule set dev --log 7
    """
    from rave_cli.backups.schedule import BackupSchedule, minute_of
    from rave_cli.flows import backup_schedule

    minute = minute_of(at)
    if minute is None:
        raise click.BadParameter(f"{at!r} is no time of day such as 02:30", param_hint="--at")
    wanted = BackupSchedule(
        name, cast("Interval", every), minute, days, months,
        None if tested == "never" else cast("Weekday", tested), log,
    )  # fmt: skip
    with app.show.events() as on_event:
        waking = backup_schedule.put(wanted, app.settings, on_event=on_event)
    proven = "never restored by itself" if tested == "never" else f"restored to see each {tested}"
    text = f"{name} is backed up each {every} from {at} UTC, {proven}"
    if log:
        text += f"; PostgreSQL's log is fetched each 4 min, for {log} days"
    app.show.result({"machine": name, "waking": waking.document()}, text)
