"""`rave pool run`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from rave_cli.audited import audited
from rave_cli.joboptions import idempotency_option, work_options
from rave_cli.options import endpoint_option, json_option, pass_app

if TYPE_CHECKING:
    from rave_cli.options import App
    from rave_cli.pool.access.pool import PoolAccess
    from rave_cli.pool.jobs.job import Job

# What ssh ends with for a command that has no exit status, since a signal ended it.
NO_STATUS = 255


@click.command(context_settings={"ignore_unknown_options": True})
@work_options
@idempotency_option
@endpoint_option
@json_option
@pass_app
@audited
def run(app: App, /, endpoint: str | None, key: str, **asked: Any) -> int:  # noqa: ANN401 - what Click read
    """Submit a command as a job, follow it, and end with its exit status.

    Its output is passed on as it comes and byte for byte, as `rave vm exec` does; with --json the
    document has it. When you interrupt this the job goes on.

    \b
    Example: rave pool run -- systemctl is-system-running
    """
    from rave_cli import signals
    from rave_cli.errors import ExitCode, RaveError
    from rave_cli.joboptions import work_of
    from rave_cli.pool.access.reach import reach
    from rave_cli.pool.asking.following import require_served
    from rave_cli.views.pool import job_document

    if endpoint is None:
        require_served()
    with reach(endpoint) as pool:
        (job,) = pool.submit([work_of(asked)], key)
        app.show.note(f"job {job.name}")
        try:
            job = _followed(app, pool, job)
        except signals.Interrupted:
            app.show.note(f"the job goes on: rave pool logs {job.name} --follow")
            raise
        document = job_document(job) | (_output(pool, job) if app.show.as_json else {})
    if job.exit_status is None:
        fault = RaveError(
            f"job {job.name} ended as {job.state}" + (f": {job.why}" if job.why else ""),
            hint=f"rave pool show {job.name}",
            exit_code=ExitCode.NOT_READY,
        )
        fault.data = document
        raise fault
    if app.show.as_json:
        app.show.result(document)
    return job.exit_status if job.exit_status >= 0 else NO_STATUS


def _followed(app: App, pool: PoolAccess, job: Job) -> Job:
    """Follow a job, passing its output on; return it as it ended."""
    from rave_cli.pool.jobs.store import Piece
    from rave_cli.views.pool import job_line

    for told in pool.follow(job.name):
        if isinstance(told, Piece):
            if not app.show.as_json:
                app.show.raw(told.data, error=told.stream != 1)
            continue
        job = told
        if job.state == "waiting" and job.attempt:
            app.show.note(job_line(job))
    return job


def _output(pool: PoolAccess, job: Job) -> dict[str, str]:
    """Return what the last attempt printed, for `--json`."""
    kept = {1: b"", 2: b""}
    for piece in pool.output(job):
        kept[piece.stream] += piece.data
    return {
        "stdout": kept[1].decode(errors="replace"),
        "stderr": kept[2].decode(errors="replace"),
    }
