"""`rave secrets edit`."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import click

from rave_cli.audited import audited
from rave_cli.options import json_option, pass_app, secrets_file_option

if TYPE_CHECKING:
    from pathlib import Path

    from rave_cli.options import App
    from rave_cli.secrets.draft import KeptDraft


@click.command()
@secrets_file_option
@click.option("--reencrypt", is_flag=True, help="Only write it anew for the policy's recipients.")
@click.option("--discard", is_flag=True, help="Only throw away what an interrupted edit left.")
@json_option
@pass_app
@audited
def edit(app: App, file: Path | None, reencrypt: bool, discard: bool) -> None:
    """Change the secrets in your editor; the plaintext lies in memory, and only meanwhile.

    The editor is $SOPS_EDITOR, $VISUAL or $EDITOR. A text that cannot be used is not lost: the
    editor is offered again, and so it is by the next edit, whatever ended this one.

    \b
    Example: EDITOR=nano rave secrets edit
    """
    from rave_cli.secrets import edit as editing
    from rave_cli.secrets import editor, identity, store

    if reencrypt and discard:
        raise click.UsageError("Give --reencrypt or --discard, not both.")
    place = store.place(file)
    if discard:
        thrown = editing.discard(place)
        app.show.result({"file": str(place), "discarded": thrown}, f"{thrown} texts thrown away")
        return
    keys, changed = identity.load(), True
    if reencrypt:
        editing.reencrypt(place, keys)
    else:
        changed = editing.edit(
            place,
            app.catalog().secrets,
            keys,
            editor=editor.launch,
            again=partial(_again, app),
            resume=partial(_resume, app),
        )
    text = f"{place}: {'written' if changed else 'unchanged'}"
    if changed:
        app.show.note("check it: rave secrets validate")
    app.show.result({"file": str(place), "changed": changed}, text)


def _again(app: App, why: str) -> bool:
    for line in why.splitlines():
        app.show.warning(line)
    try:
        return app.show.confirm("Edit again?", default=True)
    except click.Abort:
        return False


def _resume(app: App, kept: KeptDraft) -> bool:
    """Ask what to do with the text of an earlier edit; without anybody to ask, it stays."""
    when = f"{kept.saved.astimezone():%Y-%m-%d %H:%M}"
    app.show.warning(
        f"an edit of {when} was not finished; what was typed is kept in {kept.directory}"
    )
    if kept.outdated:
        app.show.warning("the secrets file has changed since; going on undoes those changes")
    return app.show.confirm("Go on with it? No throws it away.", default=not kept.outdated)
