"""`rave secrets init`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from rave_cli.audited import audited
from rave_cli.options import json_option, pass_app, secrets_file_option

if TYPE_CHECKING:
    from pathlib import Path

    from rave_cli.options import App


@click.command()
@secrets_file_option
@click.option(
    "--recipient", "recipients", multiple=True, metavar="AGE1…",
    help="A further operator who may read the file (repeatable; only for a new policy).",
)  # fmt: skip
@json_option
@pass_app
@audited
def init(app: App, file: Path | None, recipients: tuple[str, ...]) -> None:
    """Make the age identity, the policy, and a value for every secret that has none.

    What exists stays as it is, so running it again adds what a newer catalog asks for.

    \b
    Example: rave secrets init
    """
    from rave_cli.flows import secure
    from rave_cli.secrets import store

    with app.show.events() as on_event:
        done = secure.make(
            store.place(file), app.catalog().secrets, on_event=on_event, recipients=recipients
        )
    text = f"{done.file}: {len(done.added)} secrets added, {len(done.kept)} kept"
    app.show.result(done.document(), text)
