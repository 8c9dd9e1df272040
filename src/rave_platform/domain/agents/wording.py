"""How what an agent does is called in a forge: names that follow from the task alone."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rave_platform.domain.tasks import AgentTask, TaskDecision

# Characters of a title, and of the words that a package is called by.
LONGEST_TITLE = 72
LONGEST_SLUG = 32


def branch(task: AgentTask) -> str:
    """Return the branch on which a task is done: no other has it."""
    return f"rave/{task.agent}-{task.task_id.hex}"


def title(task: AgentTask) -> str:
    """Return the first line of an instruction, not too long."""
    line = " ".join(task.instruction.strip().splitlines()[0].split()) or "Untitled"
    return line if len(line) <= LONGEST_TITLE else line[: LONGEST_TITLE - 1] + "…"


def package(task: AgentTask) -> str:
    """Return the name of a package for a task, such as `say_hello_3f2a91c4`."""
    words = re.sub(r"[^a-z0-9]+", "_", title(task).lower()).strip("_")[:LONGEST_SLUG].strip("_")
    slug = words if words and words[0].isalpha() else f"task_{words}".rstrip("_")
    return f"{slug}_{task.task_id.hex[:8]}"


def message(task: AgentTask) -> str:
    """Return the message of a task's commit: its own, since it names the task."""
    return (
        f"{title(task)}\n\nAsked for: {_plainly(task.instruction, 4000)}\n\n"
        f"Agent: {task.agent}\nTask: {task.task_id}\nTrace: {task.trace_id}"
    )


def description(task: AgentTask, summary: str, tests: str) -> str:
    """Return what a merge request says of itself; what people wrote stands in it as code."""
    return (
        f"{_fenced(_plainly(task.instruction, 4000))}\n\n{_fenced(_plainly(summary, 2000))}\n\n"
        f"Tests: {tests}\n\nMade by {task.agent} for task `{task.task_id}`, trace"
        f" `{task.trace_id}`."
    )


def verdict(decision: TaskDecision) -> str:
    """Return what is said below a merge request of a decision on it."""
    reason = f"\n\n{_fenced(_plainly(decision.reason, 4000))}" if decision.reason else ""
    word = {"approve": "Approved", "reject": "Rejected", "cancel": "Cancelled"}[decision.decision]
    return f"{word} by `{decision.by.replace('`', '')}` (`{decision.decision_uuid}`).{reason}"


def _plainly(text: str, most: int) -> str:
    kept = "".join(c for c in text if c in "\n\t" or c.isprintable()).strip()
    return kept if len(kept) <= most else kept[: most - 1] + "…"


def _fenced(text: str) -> str:
    """Return text as a block of code, whatever is in it."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}text\n{text}\n{fence}"
