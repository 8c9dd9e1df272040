"""`rave pool logs`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from rave_cli.options import endpoint_option, job_argument, json_option, pass_app

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rave_cli.options import App
    from rave_cli.pool.access.pool import PoolAccess
    from rave_cli.pool.jobs.store import Piece


@click.command()
@job_argument
@click.option("-f", "--follow", is_flag=True, help="Go on until the job is over.")
@endpoint_option
@json_option
@pass_app
def logs(app: App, job: str, *, follow: bool, endpoint: str | None) -> None:
    """Show what the last attempt at a job printed. Nothing in it acts on the terminal.

    \b
    Example: rave pool logs 3f2a --follow
    """
    from rave_cli.pool.access.reach import reach

    if follow and app.show.as_json:
        raise click.UsageError("--follow does not go with --json.")
    with reach(endpoint) as pool:
        found = pool.load(job)
        pieces = _followed(pool, found.name) if follow else pool.output(found)
        lines = _lines(pieces)
        if app.show.as_json:
            document = {"job": found.name, "attempt": found.attempt, "lines": list(lines)}
            app.show.result(document)
            return
        for line in lines:
            app.show.line(line)


def _followed(pool: PoolAccess, name: str) -> Iterator[Piece]:
    from rave_cli.pool.jobs.job import Job

    return (told for told in pool.follow(name) if not isinstance(told, Job))


def _lines(pieces: Iterator[Piece]) -> Iterator[str]:
    """Yield whole lines as they come, and what is left at the end."""
    rest = b""
    for piece in pieces:
        *whole, rest = (rest + piece.data).split(b"\n")
        for line in whole:
            yield line.decode(errors="replace")
    if rest:
        yield rest.decode(errors="replace")
