"""`rave secrets edit`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from rave_cli.options import json_option, pass_app, secrets_file_option

if TYPE_CHECKING:
    from pathlib import Path

    from rave_cli.options import App


@click.command()
@secrets_file_option
@click.option("--reencrypt", is_flag=True, help="Only write it anew for the policy's recipients.")
@json_option
@pass_app
def edit(app: App, file: Path | None, reencrypt: bool) -> None:
    """Change the secrets in your editor; the plaintext lies in memory, and only meanwhile.

    The editor is $VISUAL or $EDITOR.

    \b
    Example: EDITOR=nano rave secrets edit
    """
    from rave_cli.flows import secure
    from rave_cli.secrets import edit as editing
    from rave_cli.secrets import identity

    place, keys = secure.place(file), identity.load()
    if reencrypt:
        editing.reencrypt(place, keys)
        changed = True
    else:
        changed = editing.edit(place, keys, editor=editing.launch_editor, again=_again)
    text = f"{place}: {'written' if changed else 'unchanged'}"
    if changed:
        app.show.note("check it: rave secrets validate")
    app.show.result({"file": str(place), "changed": changed}, text)


def _again(why: str) -> bool:
    return click.confirm(f"The text cannot be used: {why}. Edit again?", default=True, err=True)
