"""Push what a job left to a registry: its files as an artifact, its proof beside them.

Whoever pushes is who has the credentials: the process that serves the pool holds nobody's.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from rave_cli.errors import ExitCode, RaveError
from rave_cli.flows import shipping
from rave_cli.flows.events import step
from rave_cli.pool import proof
from rave_cli.registry import pushed
from rave_cli.registry.content import Content, Descriptor, digest_of, of_bytes, of_file
from rave_cli.registry.manifest import CREATED, EMPTY, EMPTY_DATA, TITLE, Manifest

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from pathlib import Path

    from rave_cli.flows.events import OnEvent
    from rave_cli.pool.jobs.job import Artifact, Job
    from rave_cli.registry.pushed import Pushed
    from rave_cli.registry.repository import Repository
    from rave_cli.transcript import SigningKey

ARTIFACT = "application/vnd.rave.job.artifacts.v1"
PROOF = "application/vnd.rave.job.proof.v1"
FILE = "application/octet-stream"


def push(
    job: Job,
    envelope: bytes | None,
    left: AbstractContextManager[Path],
    repository: Repository,
    key: SigningKey,
    *,
    on_event: OnEvent,
) -> Pushed:
    """Push the artifacts of a job that is over, its proof, and a signed statement that it was done.

    Args:
        job: the job.
        envelope: its proof.
        left: has what it left in a folder meanwhile, as it was when the job ended.
        repository: where to; the reference's tag names it at last, when all the rest is there.
        key: signs that it was pushed.
        on_event: told what happens.

    Raises:
        RaveError: USAGE if it is not over, or has left nothing; VERIFICATION if an artifact was
            changed; as `left` and pushing.
    """
    shipping.require_tag(repository)
    _require_artifacts(job)
    with left as place, step(on_event, "push", f"Pushing what job {job.name} left") as doing:
        manifest, contents = packed(job, place)
        sent = shipping.send(repository, contents, doing)
        subject = repository.put(manifest)
        created = manifest.annotations[CREATED]
        what = {"kind": "job", "name": job.name, "sha256": proof.job_digest(job)}
        if envelope is not None:
            pushed.attach_statement(
                repository,
                subject,
                PROOF,
                envelope,
                predicate=proof.PREDICATE_TYPE,
                created=created,
            )
            what["proof"] = digest_of(envelope)
        return shipping.conclude(repository, manifest, subject, what, key=key, sent=sent)


def packed(job: Job, place: Path) -> tuple[Manifest, list[tuple[Content, Descriptor]]]:
    """Return the manifest of a job's artifacts and the content of it; the same for the same job."""
    left = {one.sha256: (_content(one, place), _layer(one)) for one in job.facts.artifacts}
    config = Descriptor(EMPTY, digest_of(EMPTY_DATA), len(EMPTY_DATA))
    ended = datetime.fromtimestamp(job.ended or 0.0, UTC)
    manifest = Manifest(
        config,
        tuple(_layer(one) for one in job.facts.artifacts),
        ARTIFACT,
        annotations={
            CREATED: ended.isoformat(timespec="seconds"),
            "io.rave.job.name": job.name,
            "io.rave.job.result": job.state,
            "io.rave.job.sha256": proof.job_digest(job),
        },
    )
    return manifest, [(of_bytes(EMPTY_DATA), config), *left.values()]


def _require_artifacts(job: Job) -> None:
    if not job.over:
        raise RaveError(
            f"job {job.name} is not over",
            hint=f"rave pool push {job.name} DEST --wait",
            exit_code=ExitCode.USAGE,
        )
    if not job.facts.artifacts:
        raise RaveError(
            f"job {job.name} has left nothing that is kept",
            hint="rave pool submit --artifact PATH",
            exit_code=ExitCode.USAGE,
        )


def _content(one: Artifact, place: Path) -> Content:
    return of_file(place / one.path, one.size)


def _layer(one: Artifact) -> Descriptor:
    return Descriptor(FILE, f"sha256:{one.sha256}", one.size, {TITLE: one.path})
