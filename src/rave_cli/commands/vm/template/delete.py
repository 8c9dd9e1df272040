"""`rave vm template delete`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from rave_cli.audited import audited
from rave_cli.options import complete_template, json_option, pass_app

if TYPE_CHECKING:
    from rave_cli.options import App


@click.command()
@click.argument("template", shell_complete=complete_template)
@json_option
@pass_app
@audited
def delete(app: App, template: str) -> None:
    """Delete a template; machines that were made from it keep what they need of it.

    \b
    Example: rave vm template delete demo-0123456789ab
    """
    from rave_cli.machines.templates import kept

    size = kept.delete(template)
    document = {"name": template, "deleted": True, "bytes": size}
    app.show.result(document, f"template {template} deleted: {size >> 20} MiB")
