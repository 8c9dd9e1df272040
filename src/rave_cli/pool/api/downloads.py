"""What is kept of a job, as it lies there: its proof, and the files that it left."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.responses import FileResponse, Response

from rave_cli.errors import ExitCode, RaveError
from rave_cli.pool.access.wire import ENVELOPE
from rave_cli.pool.files import artifacts

if TYPE_CHECKING:
    from rave_cli.pool.access.local import LocalPool

# Whatever it is, no browser is to make a page of it.
_DATA = {"X-Content-Type-Options": "nosniff", "Content-Security-Policy": "sandbox"}


def proof(pool: LocalPool, name: str) -> Response:
    """Return the signed statement about a job that is over.

    Raises:
        RaveError: UnknownJobError; VERIFICATION if there is none.
    """
    job = pool.load(name)
    found = pool.proof(job)
    if found is None:
        raise RaveError(
            f"there is no proof of job {job.name}: it is {job.state}",
            hint=f"rave pool show {job.name}",
            exit_code=ExitCode.VERIFICATION,
        )
    return Response(found, media_type=ENVELOPE)


def artifact(pool: LocalPool, name: str, path: str) -> Response:
    """Return a file that a job left, by the path under which it is told.

    Raises:
        RaveError: UnknownJobError; USAGE if it left none; VERIFICATION if it is not there any more.
    """
    job = pool.load(name)
    one = next((one for one in job.facts.artifacts if one.path == path), None)
    if one is None:
        raise RaveError(
            f"job {job.name} has left no such file",
            hint=f"rave pool artifacts {job.name}",
            exit_code=ExitCode.USAGE,
        )
    file = artifacts.kept_file(job, one)
    return FileResponse(
        file, media_type="application/octet-stream", headers=_DATA,
        filename=file.name, content_disposition_type="attachment",
    )  # fmt: skip
