"""How much a task may take: time, memory, and money for models."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TaskLimits:
    """What one task may take."""

    seconds: float = 900.0  # of one attempt
    memory_mib: int = 512  # of each program that is run for it
    cost_usd: float = 2.0  # of all that a model does for it
    attempts: int = 5  # at one step, whose agent is lost each time


def budget(limits: TaskLimits, begun: int) -> float:
    """Return what one run of a model may cost, in US dollars; 0 where nothing is left.

    A run that ended without a word may have cost all it might, so each has an equal part.

    Args:
        limits: of the task.
        begun: how often it was begun, this time among them.
    """
    return limits.cost_usd / limits.attempts if begun <= limits.attempts else 0.0


def too_dear(cost: float, allowed: float) -> str:
    """Return why a run was too dear; nothing if it was not."""
    if cost <= allowed:
        return ""
    return f"it cost {cost:.2f} USD, of {allowed:.2f} that it may"
