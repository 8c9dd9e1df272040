"""How jobs read, for people and as JSON."""

from __future__ import annotations

import shlex
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rave_cli.pool.jobs import Job
    from rave_cli.pool.jobstore import Scale
    from rave_cli.pool.served import ServingRecord
    from rave_cli.show import Line, Show

COLUMNS = ("job", "state", "age", "took", "attempt", "command")


def job_document(job: Job) -> dict[str, Any]:
    """Return what `--json` shows of a job."""
    asked = asdict(job.work)
    return {
        "job": job.name,
        "state": job.state,
        "why": job.why,
        "command": list(asked["command"]),
        "exitStatus": job.exit_status,
        "attempt": job.attempt,
        "failed": job.failed,
        "lost": job.lost,
        "agent": job.agent,
        "submitted": job.submitted,
        "began": job.began,
        "until": job.until,
        "ended": job.ended,
        "cancelling": job.cancelling and not job.over,
        "timeout": job.work.timeout,
        "retries": job.work.retries,
        "mostOutput": job.work.most_output,
        "expires": job.work.expires,
        "image": job.facts.image,
        "template": job.facts.template,
        "startingSeconds": job.facts.starting,
        "runSeconds": job.facts.ran,
    }


def job_rows(show: Show, jobs: list[Job]) -> list[Line]:
    """Return a table of jobs."""
    now = time.time()
    rows = [
        (
            job.name, job.state, duration(now - job.submitted), took(job, now),
            str(job.attempt), shlex.join(job.work.command),
        )
        for job in jobs
    ]  # fmt: skip
    return show.table(COLUMNS, rows) if rows else []


def job_line(job: Job) -> str:
    """Return what there is to say of a job that is another than before."""
    said = f"{job.name} {job.state}"
    if job.state == "running":
        return f"{said}: attempt {job.attempt}"
    if job.state == "waiting" and job.until is not None:
        return f"{said}: {job.why or 'given back'}, tried again in {in_seconds(job)}"
    if job.why:
        return f"{said}: {job.why}"
    return f"{said}: exit status {job.exit_status}" if job.exit_status is not None else said


def job_lines(job: Job) -> list[Line]:
    """Return all that is known of a job."""
    now = time.time()
    known = {
        "state": job.state + (f": {job.why}" if job.why else ""),
        "command": shlex.join(job.work.command),
        "exit status": "" if job.exit_status is None else str(job.exit_status),
        "submitted": f"{duration(now - job.submitted)} ago",
        "took": took(job, now) + _parts(job),
        "attempt": f"{job.attempt} ({job.failed} failed, {job.lost} lost)" if job.attempt else "",
        "agent": job.agent,
        "next": f"in {in_seconds(job)}" if job.until is not None else "",
        "cancelling": "asked for" if job.cancelling and not job.over else "",
        "limits": f"{job.work.timeout:g} s, {job.work.retries} retries,"
        f" {job.work.most_output >> 10} KiB of output",
    }
    return [f"job {job.name}", *(f"  {name:<12} {said}" for name, said in known.items() if said)]


def status_document(
    said: ServingRecord | None,
    wanted: Scale,
    *,
    counts: dict[str, int],
    running: list[Job],
    oldest: Job | None,
    dead: int,
    served: bool,
) -> dict[str, Any]:
    """Return how a pool stands, as `--json` shows it."""
    now = time.time()
    return {
        "served": served,
        "server": None if said is None else asdict(said),
        "draining": wanted.draining,
        "scale": wanted.agents,
        "jobs": counts,
        "dead": dead,
        "running": [
            {"job": job.name, "agent": job.agent, "seconds": round(now - (job.began or now), 3)}
            for job in running
        ],
        "oldestWaiting": None
        if oldest is None
        else {"job": oldest.name, "seconds": round(now - oldest.submitted, 3)},
    }


def status_lines(document: dict[str, Any]) -> list[Line]:
    """Return how a pool stands, for people."""
    said, oldest = document["server"], document["oldestWaiting"]
    counts = ", ".join(f"{count} {state}" for state, count in sorted(document["jobs"].items()))
    known = {
        "served": _served_by(said) if document["served"] else "by nobody: rave pool serve",
        "draining": "no job begins: rave pool drain --end" if document["draining"] else "",
        "held up": said["hold"]["why"] if said else "",
        "jobs": counts or "none",
        "oldest": f"{oldest['job']} waits for {duration(oldest['seconds'])}" if oldest else "",
        "dead": f"{document['dead']}: rave pool dead" if document["dead"] else "",
    }
    running = [
        f"  {one['agent']} has job {one['job']} for {duration(one['seconds'])}"
        for one in document["running"]
    ]
    return [*(f"{name:<12} {text}" for name, text in known.items() if text), *running]


def _served_by(said: dict[str, Any] | None) -> str:
    if said is None:
        return "yes"
    since = duration(time.time() - said["since"])
    machines = f"{said['profile']} on {said['base']}, {said['need_mib']} MiB each"
    working = f"{said['agents']} jobs at a time"
    return f"by process {said['pid']} for {since}: {working}, in machines of {machines}"


def in_seconds(job: Job) -> str:
    """Return how long it is until a job is tried again."""
    return f"{max(0.0, (job.until or 0.0) - time.time()):.0f} s"


def took(job: Job, now: float) -> str:
    """Return how long the last attempt took, or takes already."""
    if job.began is None or (job.state == "waiting"):
        return ""
    return f"{max(0.0, (job.ended or now) - job.began):.1f} s"


def _parts(job: Job) -> str:
    facts = job.facts
    if facts.starting is None or facts.ran is None:
        return ""
    return f": {facts.starting:.1f} s until the command began, {facts.ran:.1f} s for it"


def duration(seconds: float) -> str:
    """Return a time that has passed, as people say it."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"
