"""`rave pool export check`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from rave_cli.options import json_option, pass_app

if TYPE_CHECKING:
    from rave_cli.options import App


@click.command()
@click.argument(
    "files", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path), metavar="FILE…"
)
@json_option
@pass_app
def check(app: App, files: tuple[Path, ...]) -> int:
    """Check manifests of a pool, and the YAML files in folders: strictly, and without a cluster.

    What `rave pool export k8s` does not say is an error, a misspelt field most of all. The exit
    code is 1 if there is one.

    \b
    Example: rave pool export check deploy/rave-pool
    """
    from rave_cli.errors import ExitCode
    from rave_cli.pool.export.checking import check as checked

    found = list(checked(files))
    lines = [f"{file}: {fault}" for file, faults in found for fault in faults]
    said = "1 file is good" if len(found) == 1 else f"{len(found)} files are good"
    document = [{"file": str(file), "faults": faults} for file, faults in found]
    app.show.result(document, *(lines or [said if found else "there is no YAML file"]))
    return ExitCode.CHECK_FAILED if lines or not found else 0
