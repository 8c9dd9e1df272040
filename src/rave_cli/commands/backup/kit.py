"""`rave backup kit`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from rave_cli.audited import audited
from rave_cli.options import json_option, pass_app

if TYPE_CHECKING:
    from rave_cli.options import App


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--plain", is_flag=True, help="Leave the key as it is: for a page that is locked away."
)
@json_option
@pass_app
@audited
def kit(app: App, *, file: Path, plain: bool) -> None:
    """Write FILE, a page to print: what opens the backups when this host is lost, and how.

    The key on it is sealed to a passphrase, which you are asked for, or which comes as a line of
    standard input; the program age opens it. Print the page, keep it in another place than the
    passphrase and the backups, and delete the file. It never goes to standard output.

    \b
    Example: rave backup kit kit.txt && lp kit.txt && shred -u kit.txt
    """
    from rave_cli.flows import backup_kit

    made = backup_kit.make(file, app.settings, None if plain else _passphrase)
    sealed = "sealed to your passphrase" if made.sealed else "with the key as it is"
    app.show.result(
        made.document(), f"{made.place}, {sealed}; its key has checksum {made.checksum}"
    )
    app.show.note(f"print it, keep it outside of this host, then: shred -u {made.place}")


def _passphrase() -> str:
    if not sys.stdin.isatty():
        return sys.stdin.readline(1000).rstrip("\n")
    answer: str = click.prompt(
        "Passphrase of the kit", hide_input=True, confirmation_prompt=True, err=True
    )
    return answer
