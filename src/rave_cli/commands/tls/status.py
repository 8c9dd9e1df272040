"""`rave tls status`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from rave_cli.options import json_option, machines_argument, pass_app

if TYPE_CHECKING:
    from rave_cli.options import App


@click.command()
@machines_argument
@json_option
@pass_app
def status(app: App, names: tuple[str, ...], every: bool) -> int:
    """Show the certificates of machines: who issued them, for how long, and who trusts them.

    Without a NAME: of all machines. What nginx shows is looked at, not believed. Exit code 1 if
    something is wrong with one.

    \b
    Example: rave tls status demo
    """
    from rave_cli.errors import ExitCode
    from rave_cli.flows import certificates
    from rave_cli.options import chosen
    from rave_cli.views.certificate import status_rows
    from rave_cli.views.several import Outcome, for_each

    wrong = False

    def do(name: str) -> Outcome:
        nonlocal wrong
        found = certificates.status(name)
        wrong = wrong or bool(found.problems)
        for problem in found.problems:
            app.show.warning(f"certificate of {name}: {problem}")
        return Outcome(found.document(), app.show.table(("", ""), status_rows(found)))

    wanted = chosen(names, every=every or not names)
    worst = for_each(app.show, wanted, do, several=len(names) != 1)
    return worst or (ExitCode.CHECK_FAILED if wrong else ExitCode.OK)
