"""An agent's settings; agents of all kinds share them."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - pydantic reads it
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, StringConstraints

from rave_platform.adapters import configuration
from rave_platform.adapters.agents.llm import LlmCommand, LlmRunner, UnconfiguredRunner
from rave_platform.adapters.agents.template import TemplateRunner
from rave_platform.adapters.configuration import StrictSettings, TaskStreamSettings
from rave_platform.adapters.forge.settings import ForgePart  # noqa: TC001 - pydantic reads it
from rave_platform.domain.agents.limits import TaskLimits
from rave_platform.domain.handover import RETENTION_DAYS
from rave_platform.domain.tasks import AgentKind  # noqa: TC001 - pydantic reads it

if TYPE_CHECKING:
    from rave_platform.application.agents.ports import Runner

Word = Annotated[str, StringConstraints(min_length=1, max_length=4096)]
Variable = Annotated[str, StringConstraints(pattern=r"^[A-Z_][A-Z0-9_]{0,63}$")]


class LimitsPart(StrictSettings):
    """What one task may take."""

    seconds: Annotated[float, Field(gt=0)] = 900.0
    memory_mib: Annotated[int, Field(ge=64)] = 512
    cost_usd: Annotated[float, Field(ge=0)] = 2.0
    attempts: Annotated[int, Field(ge=1)] = 5


class LlmPart(StrictSettings):
    """A coding agent on the command line, and the router that it asks."""

    argv: Annotated[tuple[Word, ...], Field(min_length=1)]
    test_argv: Annotated[tuple[Word, ...], Field(min_length=1)]
    environment: dict[Variable, str] = Field(default_factory=dict)
    key_variable: Variable = "ANTHROPIC_AUTH_TOKEN"
    key_file: Path


class AgentSettings(StrictSettings):
    """All of it."""

    # A directory: each instance has a file of its own in it.
    state: Path
    mode: Literal["safe", "full"] = "safe"
    runner: Literal["template", "llm"] = "template"
    # Seconds without a word from an agent after which its task is another's.
    silent_seconds: Annotated[float, Field(ge=1)] = 30.0
    nats: TaskStreamSettings = TaskStreamSettings()
    limits: LimitsPart = LimitsPart()
    forge: ForgePart
    llm: LlmPart | None = None
    # Where each agent answers on loopback how it is; one that is not named answers nowhere.
    ports: dict[AgentKind, Annotated[int, Field(ge=0, le=65535)]] = Field(default_factory=dict)

    @property
    def retention_days(self) -> int:
        """Days that tasks which have ended are kept."""
        return RETENTION_DAYS[self.mode]


def read(place: Path) -> AgentSettings:
    """Return the settings of a file.

    Raises:
        SettingsError: if it is not there or says something else.
    """
    return configuration.read(place, AgentSettings)


def limits(found: AgentSettings) -> TaskLimits:
    """Return what one task may take."""
    part = found.limits
    return TaskLimits(part.seconds, part.memory_mib, part.cost_usd, part.attempts)


def runner(found: AgentSettings) -> Runner:
    """Return what writes files; a coding agent that is not configured is one that says so.

    Raises:
        SettingsError: if its key is not fit to be one.
    """
    if found.runner == "template":
        return TemplateRunner(limits(found))
    part = found.llm
    key = configuration.secret(part.key_file) if part else None
    if part is None or key is None:
        return UnconfiguredRunner()
    command = LlmCommand(
        part.argv, part.test_argv, part.environment, part.key_variable,
        configuration.token(part.key_file),
    )  # fmt: skip
    return LlmRunner(command, limits(found))
