"""`rave tls renew`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from rave_cli.audited import audited
from rave_cli.options import json_option, machines_argument, pass_app

if TYPE_CHECKING:
    from rave_cli.options import App


@click.command()
@machines_argument
@click.option("--now", is_flag=True, help="Also what has more than a third of its time left.")
@click.option("--issue", is_flag=True, help="Also in the place of a certificate of your own.")
@json_option
@pass_app
@audited
def renew(app: App, names: tuple[str, ...], every: bool, *, now: bool, issue: bool) -> int:
    """Renew the certificates that rave issued, where less than a third of their time is left.

    Machines that run show them at once, others from their next start on. A start renews, too.

    \b
    Example: rave tls renew --all
    Example: rave tls renew demo --now
    """
    from rave_cli.flows import certificates
    from rave_cli.options import chosen
    from rave_cli.views.certificate import change_line
    from rave_cli.views.several import Outcome, for_each

    def do(name: str) -> Outcome:
        done = certificates.renew(name, now=now, issue=issue)
        return Outcome(done.document(), [change_line(done)])

    wanted = chosen(names, every=every)
    return for_each(app.show, wanted, do, several=every or len(wanted) > 1)
