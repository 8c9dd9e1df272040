"""`rave backup prune`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from rave_cli.audited import audited
from rave_cli.options import json_option, pass_app, yes_option

if TYPE_CHECKING:
    from rave_cli.options import App


@click.command()
@click.option(
    "--days", type=click.IntRange(min=1), default=30, show_default=True, metavar="N",
    help="Keep the last backup of so many days.",
)  # fmt: skip
@click.option(
    "--months", type=click.IntRange(min=0), default=12, show_default=True, metavar="N",
    help="Keep the last backup of so many months.",
)  # fmt: skip
@click.option(
    "--log", type=click.IntRange(min=0), default=7, show_default=True, metavar="N",
    help="Keep what restores PostgreSQL to any moment of so many days.",
)  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Say what would go; take nothing away.")
@yes_option
@json_option
@pass_app
@audited
def prune(app: App, *, days: int, months: int, log: int, dry_run: bool, yes: bool) -> None:
    """Take old backups away, and what broke off. The latest of each machine always stays.

    Days and months are counted for each machine, and only those with a backup. Somebody is asked
    first.

    \b
    Example: rave backup prune --dry-run
    """
    from rave_cli.backups.retention import RetentionPolicy
    from rave_cli.flows import vault
    from rave_cli.views.consent import agreed

    policy = RetentionPolicy(days, months, log)
    plan = vault.pruning(app.settings, policy)
    question = f"Take {len(plan.gone)} backups away, and {plan.broken} that broke off?"
    done = not dry_run and agreed(app.show, question, yes=yes)
    if done:
        with app.show.events() as on_event:
            plan = vault.prune(app.settings, policy, on_event=on_event)
    document = {
        "gone": [one.name for one in plan.gone],
        "stay": [one.name for one in plan.stay],
        "broken": plan.broken,
        "logs": len(plan.logs),
        "done": done,
    }
    app.show.result(document, *(f"{one.name} {'went' if done else 'goes'}" for one in plan.gone))
    parts = f", {len(plan.logs)} parts of logs {'went' if done else 'go'}" if plan.logs else ""
    app.show.note(f"{len(plan.stay)} stay, {plan.broken} broke off{parts}")
