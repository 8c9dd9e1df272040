"""`rave vm status`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from rave_cli.options import chosen, json_option, machines_argument, pass_app
from rave_cli.views.template import format_option

if TYPE_CHECKING:
    from rave_cli.options import App


@click.command()
@machines_argument
@format_option
@json_option
@pass_app
def status(app: App, names: tuple[str, ...], every: bool, template: str | None) -> int:
    """Show what machines are doing, as their processes, QEMU and their guests tell.

    \b
    Example: rave vm status demo --json
    Example: rave vm status demo --format '{state} {residentMiB}'
    """
    from rave_cli.machines import status as present
    from rave_cli.machines import store
    from rave_cli.views.machine import status_rows
    from rave_cli.views.several import Outcome, for_each
    from rave_cli.views.template import lines_of

    line = lines_of(template, present.FIELDS, as_json=app.show.as_json)

    def do(name: str) -> Outcome:
        document = present.of(store.load(name), thorough=True).document
        if line is not None:
            return Outcome(document, [line(document)])
        return Outcome(document, app.show.table(("", ""), status_rows(document)))

    wanted = chosen(names, every=every)
    return for_each(app.show, wanted, do, several=every or len(wanted) > 1)
