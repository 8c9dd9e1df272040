"""`rave pool source test`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from rave_cli.audited import audited
from rave_cli.options import complete_source, json_option, pass_app

if TYPE_CHECKING:
    from rave_cli.options import App


@click.command()
@click.argument("name", metavar="SOURCE", shell_complete=complete_source)
@json_option
@pass_app
@audited
def test(app: App, name: str) -> int:
    """Say whether a source can work: its secrets, its forge's API, git, and its dispatcher.

    Nothing is built, and the forge is only asked.

    \b
    Example: rave pool source test app
    """
    from rave_cli.errors import ExitCode
    from rave_cli.pool.sources import source as sources
    from rave_cli.pool.sources.trying import trial

    found = list(trial(sources.load(name)))
    bad = [one for one in found if not one.good]
    lines = [f"{'ok' if one.good else 'no'}  {one.what}: {one.said}" for one in found]
    document = {
        "source": name,
        "good": not bad,
        "checks": [{"what": one.what, "good": one.good, "said": one.said} for one in found],
    }
    app.show.result(document, *lines)
    return int(ExitCode.CHECK_FAILED) if bad else 0
