"""Options that say how a registry is reached, and what they ask for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rave_cli.options import complete_secret

if TYPE_CHECKING:
    from collections.abc import Callable

    from rave_cli.flows.registries import RegistryAccess


def registry_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add how a registry is reached; `registry_access` takes their values."""
    for option in reversed((
        click.option(
            "--auth-file", type=click.Path(exists=True, dir_okay=False, path_type=Path),
            metavar="FILE", help="Credentials as docker keeps them, instead of its own file.",
        ),
        click.option(
            "--auth-secret", metavar="NAME", shell_complete=complete_secret,
            help="The secret that is USER:PASSWORD for the registry.",
        ),
        click.option(
            "--auth-stdin", is_flag=True, help="Read USER:PASSWORD from standard input."
        ),
        click.option(
            "--ca", type=click.Path(exists=True, dir_okay=False, path_type=Path), metavar="FILE",
            help="Trust the certificates in it, in PEM, instead of this host's.",
        ),
        click.option(
            "--plain-http", is_flag=True, help="Without TLS: a registry on this host alone."
        ),
    )):  # fmt: skip
        command = option(command)
    return command


def registry_access(asked: dict[str, Any]) -> RegistryAccess:
    """Return what the options of `registry_options` say.

    Raises:
        click.UsageError: more than one place of credentials.
    """
    from rave_cli.flows.registries import RegistryAccess

    given = [asked["auth_file"], asked["auth_secret"], asked["auth_stdin"]]
    if sum(map(bool, given)) > 1:
        raise click.UsageError("One of --auth-file, --auth-secret and --auth-stdin.")
    return RegistryAccess(
        asked["auth_file"], asked["auth_secret"], asked["auth_stdin"], asked["ca"],
        asked["plain_http"],
    )  # fmt: skip
