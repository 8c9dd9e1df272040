"""How jobs read, for people and as JSON."""

from __future__ import annotations

import shlex
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rave_cli.pool.api.tokens import TokenRecord
    from rave_cli.pool.asking.standing import PoolStanding
    from rave_cli.pool.jobs.job import Job
    from rave_cli.show import Line, Show

COLUMNS = ("job", "state", "age", "took", "attempt", "owner", "command")


def job_document(job: Job) -> dict[str, Any]:
    """Return what `--json` shows of a job."""
    asked = asdict(job.work)
    return {
        "job": job.name,
        "state": job.state,
        "why": job.why,
        "owner": job.owner,
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
        "lacking": job.lacking or None,
        "timeout": job.work.timeout,
        "retries": job.work.retries,
        "mostOutput": job.work.most_output,
        "expires": job.work.expires,
        "memoryMiB": job.work.memory_mib,
        "cpus": job.work.cpus,
        "cache": job.work.cache or None,
        "cacheFrom": job.facts.cache or None,
        "cacheKept": job.facts.cached,
        "image": job.facts.image,
        "template": job.facts.template,
        "startingSeconds": job.facts.starting,
        "runSeconds": job.facts.ran,
        "trace": job.trace,
    }


def asked_for(job: Job) -> str:
    """Return the command of a job, as a shell would have it; of a script that it is one."""
    command = shlex.join(job.work.command)
    return f"(script) {command}".rstrip() if job.work.script else command


def job_rows(show: Show, jobs: list[Job]) -> list[Line]:
    """Return a table of jobs."""
    now = time.time()
    rows = [
        (
            job.name, job.state, duration(now - job.submitted), took(job, now),
            str(job.attempt), job.owner, asked_for(job),
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
        why = job.why or ("failed" if job.failed else "given back")
        if job.lacking:
            return f"{said}: no host that took it lends it the secret {job.lacking}"
        return f"{said}: {why}, tried again in {in_seconds(job)}"
    if job.why:
        return f"{said}: {job.why}"
    return f"{said}: exit status {job.exit_status}" if job.exit_status is not None else said


def job_lines(job: Job, now: float | None = None) -> list[Line]:
    """Return all that is known of a job. `now` is in seconds since the epoch."""
    now = time.time() if now is None else now
    known = {
        "state": job.state + (f": {job.why}" if job.why else ""),
        "command": asked_for(job),
        "exit status": "" if job.exit_status is None else str(job.exit_status),
        "submitted": f"{duration(now - job.submitted)} ago"
        + (f" by {job.owner}" if job.owner else ""),
        "took": took(job, now) + _parts(job),
        "attempt": f"{job.attempt} ({job.failed} failed, {job.lost} lost)" if job.attempt else "",
        "agent": job.agent,
        "next": f"in {in_seconds(job)}" if job.until is not None else "",
        "cancelling": "asked for" if job.cancelling and not job.over else "",
        "lacks": f"the secret {job.lacking}" if job.lacking else "",
        "cache": _cache(job),
        "limits": f"{job.work.timeout:g} s, {job.work.retries} retries,"
        f" {job.work.most_output >> 10} KiB of output" + _size(job),
    }
    return [f"job {job.name}", *(f"  {name:<12} {said}" for name, said in known.items() if said)]


def _size(job: Job) -> str:
    memory, cpus = job.work.memory_mib, job.work.cpus
    said = f", {memory} MiB of memory" if memory else ""
    return said + (f", {cpus} processors" if cpus else "")


def _cache(job: Job) -> str:
    if not job.work.cache:
        return ""
    began = f"as {job.facts.cache} left it" if job.facts.cache else "empty"
    said = f"{job.work.cache}: {began}" if job.facts.starting is not None else job.work.cache
    return said + (", and kept" if job.facts.cached else "")


def token_document(token: TokenRecord) -> dict[str, Any]:
    """Return what `--json` shows of a token."""
    return asdict(token) | {"good": token.good(time.time())}


def token_rows(show: Show, tokens: list[TokenRecord]) -> list[Line]:
    """Return a table of tokens."""
    now = time.time()
    rows = [(one.number, one.name, one.role, _token_state(one, now)) for one in tokens]
    return show.table(("token", "name", "role", "state"), rows) if rows else []


def _token_state(token: TokenRecord, now: float) -> str:
    if token.revoked is not None:
        return f"revoked {duration(now - token.revoked)} ago"
    if token.expires <= now:
        return f"ended {duration(now - token.expires)} ago"
    return f"for {duration(token.expires - now)} more"


def status_document(found: PoolStanding) -> dict[str, Any]:
    """Return how a pool stands, as `--json` shows it."""
    now, oldest = time.time(), found.oldest
    return {
        "served": found.served,
        "server": None if found.said is None else asdict(found.said),
        "draining": found.wanted.draining,
        "scale": found.wanted.agents,
        "standby": found.wanted.standby,
        "jobs": found.counts,
        "dead": found.dead,
        "running": [
            {"job": job.name, "agent": job.agent, "seconds": round(now - (job.began or now), 3)}
            for job in found.running
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
