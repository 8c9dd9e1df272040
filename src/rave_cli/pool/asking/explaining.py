"""Why a job waits: a pure function over how the world is, and what looks at the world."""

from __future__ import annotations

import time
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from rave_cli.pool import served as record
from rave_cli.pool.jobs.store import MOST_COUNTED
from rave_cli.pool.served import FREE, served

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rave_cli.pool.jobs.job import Job
    from rave_cli.pool.jobs.store import JobStore, Scale
    from rave_cli.pool.served import HoldUp

ReasonCode = Literal[
    "over", "running", "cancelling", "not-served", "draining", "no-agents", "template", "queue",
    "disk", "secrets", "back-off", "cap", "memory", "turn", "at-once",
]  # fmt: skip

# What holds every job up until somebody does something about the host (served.HoldCode).
HELD_BY_HOST: Mapping[str, ReasonCode] = MappingProxyType(
    {"disk": "disk", "queue": "queue", "making": "template", "template": "template"}
)


@dataclass(frozen=True)
class PoolWorld:
    """How things stand around a job.

    Attributes:
        now: seconds since the epoch.
        served: whether anybody serves the pool.
        draining: whether somebody wants no job to begin.
        agents: how many jobs may run at a time.
        running: how many run.
        before: how many wait that came before the job and may begin now; MOST_COUNTED are that or
            more.
        hold: what keeps agents from taking jobs.
        shared: whether agents of other hosts take them, too.
    """

    now: float
    served: bool
    draining: bool
    agents: int
    running: int
    before: int
    hold: HoldUp = FREE
    shared: bool = False


@dataclass(frozen=True)
class JobReason:
    """Why a job does not run; `hint` is the command that helps, if there is one."""

    code: ReasonCode
    text: str
    hint: str = ""


def explain(job: Job, world: PoolWorld) -> tuple[JobReason, ...]:
    """Return why a job waits: all that keeps it, what must be dealt with first before the rest.

    What only somebody can change stands before what changes by itself.
    """
    if job.over:
        return (JobReason("over", f"it is over: {job.state}", f"rave pool show {job.name}"),)
    if job.state == "running":
        text = f"it runs: attempt {job.attempt}, by {job.agent}"
        return (JobReason("running", text, f"rave pool logs {job.name} --follow"),)
    found = [*_for_somebody(job, world), *_for_time(job, world)]
    if found:
        return tuple(found)
    if world.before:
        text = f"{_jobs(world.before)} came before it"
        return (JobReason("turn", text, "rave pool list --state waiting"),)
    return (JobReason("at-once", "nothing keeps it; an agent is about to take it"),)


def _for_somebody(job: Job, world: PoolWorld) -> list[JobReason]:
    """Return what lasts until somebody does something about it."""
    found = []
    if job.cancelling:
        text = "it is to be cancelled, which whoever serves the pool does"
        found.append(JobReason("cancelling", text))
    if not world.served:
        found.append(JobReason("not-served", "nobody serves the pool", "rave pool serve"))
    if world.draining:
        text = "the pool is drained: no job begins"
        found.append(JobReason("draining", text, "rave pool drain --end"))
    elif world.served and world.agents == 0 and not world.shared:
        text = "the pool is scaled to no agents"
        found.append(JobReason("no-agents", text, "rave pool scale 2"))
    code = world.hold.code
    if world.served and code in HELD_BY_HOST:
        found.append(JobReason(HELD_BY_HOST[code], world.hold.why, world.hold.hint))
    if job.lacking:
        text = f"no host that could have taken it lends it the secret {job.lacking}"
        helps = f"rave pool serve --lend {job.lacking.split(', ')[0]}   (on a host that has it)"
        found.append(JobReason("secrets", text, helps))
    return found


def _for_time(job: Job, world: PoolWorld) -> list[JobReason]:
    """Return what passes by itself."""
    found = []
    if job.until is not None and job.until > world.now and not job.lacking:
        why = job.why or ("its command failed" if job.failed else "it was given back")
        text = f"it rests for {job.until - world.now:.0f} s more after attempt {job.attempt}: {why}"
        found.append(JobReason("back-off", text, f"rave pool logs {job.name}"))
    if not world.served or world.draining or world.agents == 0 or world.shared:
        # What keeps our own agents from it keeps no other.
        return found
    if world.running >= world.agents:
        text = f"{_jobs(world.running)} of {world.agents} at a time run, and"
        text += f" {_counted(world.before)} wait before it"
        found.append(JobReason("cap", text, f"rave pool scale {world.agents + 1}"))
    if world.hold.code == "memory":
        text = f"there is no memory for one more machine: {world.hold.why}"
        found.append(JobReason("memory", text, "rave vm list   (what takes it)"))
    return found


def look(store: JobStore, job: Job) -> PoolWorld:
    """Return how things stand around a job now."""
    now = time.time()
    wanted, there = store.scale, served()
    said = record.read() if there else None
    return PoolWorld(
        now=now,
        served=there,
        draining=wanted.draining,
        agents=_agents(wanted, said),
        running=len(store.running()),
        before=store.before(job, now),
        hold=said.hold if said is not None else FREE,
        shared=said is not None and said.shared,
    )


def _agents(wanted: Scale, said: record.ServingRecord | None) -> int:
    if wanted.agents is not None:
        return wanted.agents
    # Whoever begins to serve has said nothing yet, and means to serve.
    return said.most if said is not None else 1


def _jobs(count: int) -> str:
    return "1 job" if count == 1 else f"{_counted(count)} jobs"


def _counted(count: int) -> str:
    return str(count) if count < MOST_COUNTED else f"{MOST_COUNTED} or more"
