"""Writes what an instruction says from a template: the same for the same task, without a model.

What people wrote stands in it as a literal of the language it stands in, so that it says nothing
else there.
"""

from __future__ import annotations

import html
import re
import sys
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING

from rave_platform.adapters.agents import workspace
from rave_platform.application.agents.ports import TaskFailedError, Written
from rave_platform.domain.agents import wording

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rave_platform.domain.agents.limits import TaskLimits
    from rave_platform.domain.tasks import AgentTask

TEMPLATES = Path(__file__).parents[2] / "templates"
ENDING = ".in"
# The last line of unittest's report is a verdict, and the one that counts is before it.
COUNTED = re.compile(rb"^Ran (\d+) tests? in", re.MULTILINE)


class TemplateRunner:
    """A Runner that scaffolds a package with its tests."""

    def __init__(self, allowed: TaskLimits) -> None:
        self._allowed = allowed

    @property
    def reads(self) -> bool:
        """As Runner: it writes a package of its own."""
        return False

    async def write(self, task: AgentTask, base: Mapping[str, bytes], budget: float) -> Written:
        """As Runner; it costs nothing."""
        del base, budget
        files = scaffold(task)
        return Written(files, f"{len(files)} files of the template {task.agent}")

    async def test(self, task: AgentTask, files: Mapping[str, bytes]) -> str:
        """As Runner."""
        argv = [
            sys.executable, "-B", "-m", "unittest", "discover", "-s", wording.package(task),
            "-t", ".",
        ]  # fmt: skip
        with workspace.workspace(files) as place:
            end = await workspace.run(argv, place, self._allowed)
        counted = COUNTED.search(end.err)
        if end.code != 0 or counted is None or counted[1] == b"0":
            raise TaskFailedError(f"its tests fail: {workspace.last_lines(end.err)}")
        return f"{counted[1].decode()} passed"


def scaffold(task: AgentTask) -> dict[str, bytes]:
    """Return the files of a template, by their paths in the project."""
    package = wording.package(task)
    values = {
        "package": package,
        "title_html": html.escape(wording.title(task)),
        "instruction_html": html.escape(task.instruction),
        "title": ascii(wording.title(task)),
        "instruction": ascii(task.instruction),
    }
    return {
        f"{package}/{file.name.removesuffix(ENDING)}": Template(file.read_text(encoding="utf-8"))
        .substitute(values)
        .encode()
        for file in sorted((TEMPLATES / task.agent).glob(f"*{ENDING}"))
    }
