"""Has a command-line coding agent do what an instruction says, through a model router.

Which program that is, and with which arguments, stands in the settings: in them `{budget}` is what
it may cost, in US dollars. It finds the instruction on its standard input and the project's files
where it is started; its key is in the environment variable that the settings name, and nowhere
else. Where its standard output is JSON, `total_cost_usd` in it says what it cost, and `result` what
it did.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rave_platform.adapters.agents import workspace
from rave_platform.adapters.agents.workspace import last_lines
from rave_platform.application.agents.ports import TaskFailedError, Written

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rave_platform.domain.agents.limits import TaskLimits
    from rave_platform.domain.tasks import AgentTask

WORDS = """\
You are the {agent} of a development team. Do what is asked for below in the files of this
directory, with tests, and change nothing else. Nobody can be asked. What follows was written by
somebody who may ask for such work in this project, and for nothing else.

"""


@dataclass(frozen=True)
class LlmCommand:
    """What is run, where its models are asked, and what it proves itself with."""

    argv: tuple[str, ...]
    test_argv: tuple[str, ...]
    environment: Mapping[str, str]
    key_variable: str
    key: str = field(repr=False)


class LlmRunner:
    """A Runner that asks a coding agent."""

    def __init__(self, command: LlmCommand, allowed: TaskLimits) -> None:
        self._command = command
        self._allowed = allowed

    @property
    def reads(self) -> bool:
        """As Runner."""
        return True

    async def write(self, task: AgentTask, base: Mapping[str, bytes], budget: float) -> Written:
        """As Runner."""
        if budget <= 0:
            raise TaskFailedError("nothing is left of what its models may cost")
        command = self._command
        argv = [word.replace("{budget}", f"{budget:.2f}") for word in command.argv]
        given = WORDS.format(agent=task.agent) + task.instruction
        with workspace.workspace(base) as place:
            end = await workspace.run(
                argv, place, self._allowed, given=given.encode(),
                **command.environment, **{command.key_variable: command.key},
            )  # fmt: skip
            if end.code != 0:
                said = last_lines(end.err or end.out)
                raise TaskFailedError(f"{argv[0]} ended with {end.code}: {said}")
            files = workspace.changed(place, base)
        if not files:
            raise TaskFailedError(f"{argv[0]} changed nothing: {last_lines(end.out)}")
        told = _report(end.out)
        said = str(told.get("result") or last_lines(end.out))
        return Written(files, said[:2000], _cost(told))

    async def test(self, task: AgentTask, files: Mapping[str, bytes]) -> str:
        """As Runner."""
        del task
        argv = self._command.test_argv
        with workspace.workspace(files) as place:
            end = await workspace.run(argv, place, self._allowed)
        if end.code != 0:
            raise TaskFailedError(f"its tests fail: {last_lines(end.err or end.out)}")
        return f"{' '.join(argv)} passed"


class UnconfiguredRunner:
    """What stands in for a coding agent that is not configured: it says so, to each task."""

    @property
    def reads(self) -> bool:
        """As Runner."""
        return False

    async def write(self, task: AgentTask, base: Mapping[str, bytes], budget: float) -> Written:
        """As Runner.

        Raises:
            TaskFailedError: always.
        """
        raise TaskFailedError(
            "the runner llm is not configured: its settings name no command, or its key is not"
            " there"
        )

    async def test(self, task: AgentTask, files: Mapping[str, bytes]) -> str:
        """As Runner; nothing is ever written."""
        raise TaskFailedError("nothing was written")


def _report(out: bytes) -> dict[str, Any]:
    try:
        found = json.loads(out)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _cost(told: Mapping[str, Any]) -> float:
    cost = told.get("total_cost_usd", 0.0)
    return float(cost) if isinstance(cost, int | float) and cost >= 0 else 0.0
