"""`rave completion`: the script that teaches a shell to complete rave."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print a shell's completion script.

    \b
    Example: rave completion bash > ~/.local/share/bash-completion/completions/rave
    """
    kind = get_completion_class(shell)
    if kind is None:
        raise click.UsageError(f"Click knows no completion for {shell}")
    click.echo(kind(ctx.find_root().command, {}, "rave", "_RAVE_COMPLETE").source())
