"""How large a machine of a job is: what whoever serves says, or one of a few sizes that a job asks
for. A template's memory and processors are its own, so each size has one, made when it is first
asked for.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from rave_cli.errors import ExitCode, RaveError
from rave_cli.pool.jobs.work import MEMORIES, PROCESSORS

if TYPE_CHECKING:
    from rave_cli.flows.machine import NewMachine
    from rave_cli.pool.jobs.work import Work

MOST_MEMORY, MOST_CPUS = max(MEMORIES), max(PROCESSORS)


def bounded(wanted: NewMachine) -> NewMachine:
    """Return a machine for jobs: what a plan has beyond that no job gets.

    Raises:
        RaveError: USAGE if more is asked for.
    """
    planned = wanted.plan.resources.of(wanted.mode)
    for option, value, most in (
        ("--memory", wanted.memory_mib, MOST_MEMORY),
        ("--cpus", wanted.cpus, MOST_CPUS),
    ):
        if value is not None and value > most:
            raise RaveError(
                f"{option} {value} is more than a machine of a job has",
                hint=f"{option} {most}, or less",
                exit_code=ExitCode.USAGE,
            )
    return replace(
        wanted,
        memory_mib=wanted.memory_mib or min(planned.memory_mib, MOST_MEMORY),
        cpus=wanted.cpus or min(planned.cpus, MOST_CPUS),
    )


def of_job(wanted: NewMachine, work: Work) -> NewMachine:
    """Return the machine that a job asks for, where others are like `wanted`."""
    return replace(
        wanted,
        memory_mib=work.memory_mib or wanted.memory_mib,
        cpus=work.cpus or wanted.cpus,
        has_cache=bool(work.cache),
    )
