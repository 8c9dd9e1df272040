"""`rave completion`: the script that teaches a shell to complete rave."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from click.shell_completion import get_completion_class

from rave_cli.options import pass_app

if TYPE_CHECKING:
    from rave_cli.options import App


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@pass_app
@click.pass_context
def completion(ctx: click.Context, app: App, shell: str) -> None:
    """Print a shell's completion script.

    \b
    Example: rave completion bash > ~/.local/share/bash-completion/completions/rave
    """
    kind = get_completion_class(shell)
    if kind is None:
        raise click.UsageError(f"Click knows no completion for {shell}")
    script = kind(ctx.find_root().command, {}, "rave", "_RAVE_COMPLETE").source()
    for line in script.splitlines():
        app.show.line(line)
