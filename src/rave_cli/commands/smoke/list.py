"""`rave smoke list`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from rave_cli.options import (
    base_option,
    json_option,
    mode_option,
    output_option,
    pass_app,
    profile_option,
)

if TYPE_CHECKING:
    from pathlib import Path

    from rave_cli.options import App
    from rave_cli.profiles.names import Mode


@click.command("list")
@profile_option
@base_option
@mode_option
@click.option(
    "--runs", is_flag=True, help="List the runs in the output directory instead of the checks."
)
@output_option("With --runs: the directory.")
@json_option
@pass_app
def list_(
    app: App,
    *,
    profile: str | None,
    base: str | None,
    mode: Mode | None,
    runs: bool,
    output: Path,
) -> None:
    """List every check of a profile, or the runs there have been.

    \b
    Example: rave smoke list --profile demo --base debian
    Example: rave smoke list --runs
    """
    if runs:
        _list_runs(app, output)
        return
    from rave_cli.smoke.suite import suite

    checks = suite(app.plan(profile, base), mode=mode or app.settings.mode)
    columns = ("check", "phase", "from", "severity", "passes if")
    rows = [(c.id, c.phase, c.viewpoint, c.severity, c.title) for c in checks]
    documents = [
        {
            "id": c.id, "phase": c.phase, "viewpoint": c.viewpoint, "severity": c.severity,
            "title": c.title, "needs": list(c.needs), "timeout": c.timeout,
            "retryFor": c.retry_for, "skip": c.skip,
        }
        for c in checks
    ]  # fmt: skip
    app.show.result(documents, *app.show.table(columns, rows))


def _list_runs(app: App, output: Path) -> None:
    from rave_cli.smoke.runs import find_runs

    found = find_runs(output)
    rows = [(r.started, r.status, f"{r.profile} on {r.base}", r.counts, str(r.file)) for r in found]
    if not found:
        app.show.note(f"no runs in {output}; make one: rave smoke run --profile demo --base debian")
    lines = (
        app.show.table(("started", "status", "of", "checks", "transcript"), rows) if rows else []
    )
    app.show.result([r.document() for r in found], *lines)
