"""`rave pool token create`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from rave_cli.audited import audited
from rave_cli.options import POOL_ROLES, json_option, pass_app

if TYPE_CHECKING:
    from rave_cli.options import App
    from rave_cli.pool.api.tokens import Role


@click.command()
@click.argument("name", metavar="NAME")
@click.option(
    "--role", type=click.Choice(POOL_ROLES), default="viewer", show_default=True,
    help="What it may: look, submit jobs, cancel and scale, all.",
)  # fmt: skip
@click.option(
    "--hours", type=click.FloatRange(0, 168, min_open=True), default=8, show_default=True,
    metavar="N", help="How long it may be used.",
)  # fmt: skip
@json_option
@pass_app
@audited
def create(app: App, name: str, role: Role, hours: float) -> None:
    """Make a token for NAME and print it: whoever has it may ask the pool of `serve --listen`.

    It is kept nowhere. Give it as RAVE_POOL_TOKEN.

    \b
    Example: rave pool token create ci --role submitter --hours 1
    """
    import time

    from rave_cli.pool.api.tokens import Tokens
    from rave_cli.views.pool import token_document

    record, token = Tokens().create(name, role, hours, time.time())
    app.show.note(f"token {record.number} of {name}: {role}, for {hours:g} h")
    app.show.result(token_document(record) | {"token": token}, token)
