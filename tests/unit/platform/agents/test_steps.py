"""Whoever is to hear of projects that agents make."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

import pytest

from rave_platform.application.agents.steps import Steps
from rave_platform.domain.agents.limits import TaskLimits
from rave_platform.domain.agents.progress import TaskProgress
from rave_platform.domain.forge import ForgeProject
from rave_platform.domain.tasks import TaskKind
from tests.unit.platform.agents.world import MOMENT, task

if TYPE_CHECKING:
    from rave_platform.application.agents.ports import Runner
    from rave_platform.application.forge import Forge


RUNNING: dict[str, Any] = {"status": "running", "attempt": 1, "started_at": MOMENT}


class Forgeful:
    """Makes projects, and remembers who is told of what."""

    def __init__(self) -> None:
        self.hooks: list[tuple[str, str]] = []

    async def create_project(self, path: str, _description: str) -> ForgeProject:
        return ForgeProject(f"team/{path}", "https://forge.test/shop", "main", MOMENT)

    async def see_to_hook(self, project: str, url: str, _secret: str) -> str:
        self.hooks.append((project, url))
        return ""


@pytest.mark.parametrize("hook", ["", "http://127.0.0.1:3001/webhooks/pagure"])
def test_a_project_that_was_made_tells_whom_the_settings_name(hook: str) -> None:
    forge: Any = Forgeful()
    made = TaskProgress(task(kind=TaskKind.CREATE_PROJECT, **RUNNING))
    steps = Steps(cast("Forge", forge), cast("Runner", None), TaskLimits(), hook=hook)
    found = asyncio.run(steps.carry_out(made))
    assert found["path"] == "team/shop"
    assert forge.hooks == ([("team/shop", hook)] if hook else [])
