"""What can be commanded, as data: the parser, the answers and the reference read the same."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

PREFIX = "!rave"


class Verb(StrEnum):
    """What is commanded."""

    HELP = "help"
    CREATE_PROJECT = "create project"
    STATUS = "status"
    AGENTS = "agents"
    RUN = "run"
    APPROVE = "approve"
    REJECT = "reject"
    CANCEL = "cancel"


class ParameterKind(StrEnum):
    """What a parameter is written as."""

    VERB = "verb"
    AGENT = "agent"
    NAME = "name"
    PROJECT = "project"
    TASK = "task"
    TEXT = "text"  # everything to the end of the message


@dataclass(frozen=True)
class Parameter:
    """A parameter of a command, by the name of its field."""

    name: str
    kind: ParameterKind
    required: bool = True

    @property
    def shown(self) -> str:
        """Return it as a usage shows it."""
        return self.name.upper() if self.required else f"[{self.name.upper()}]"


@dataclass(frozen=True)
class HelpCommand:
    """What can be said."""

    command: str = ""


@dataclass(frozen=True)
class CreateProjectCommand:
    """A new project in the forge."""

    name: str
    description: str = ""


@dataclass(frozen=True)
class StatusCommand:
    """How a task stands, or all that have not ended."""

    task: str = ""


@dataclass(frozen=True)
class AgentsCommand:
    """Which agents are there."""


@dataclass(frozen=True)
class RunCommand:
    """A task for an agent."""

    agent: str
    project: str
    instruction: str


@dataclass(frozen=True)
class ApproveCommand:
    """What a task came to is wanted."""

    task: str
    comment: str = ""


@dataclass(frozen=True)
class RejectCommand:
    """What a task came to is not wanted."""

    task: str
    reason: str


@dataclass(frozen=True)
class CancelCommand:
    """A task is no longer wanted."""

    task: str
    reason: str = ""


ChatCommand: TypeAlias = (
    HelpCommand | CreateProjectCommand | StatusCommand | AgentsCommand
    | RunCommand | ApproveCommand | RejectCommand | CancelCommand
)  # fmt: skip


@dataclass(frozen=True)
class CommandForm:
    """How a command is written, and what it does."""

    verb: Verb
    made: type[ChatCommand]
    parameters: tuple[Parameter, ...]
    about: str
    example: str

    @property
    def usage(self) -> str:
        """Return how it is written, such as `!rave status [TASK]`."""
        return " ".join([PREFIX, self.verb, *(p.shown for p in self.parameters)])


FORMS = (
    CommandForm(
        Verb.HELP, HelpCommand,
        (Parameter("command", ParameterKind.VERB, required=False),),
        "says what can be commanded, or how one command is written", "!rave help run",
    ),
    CommandForm(
        Verb.CREATE_PROJECT, CreateProjectCommand,
        (
            Parameter("name", ParameterKind.NAME),
            Parameter("description", ParameterKind.TEXT, required=False),
        ),
        "has an agent make a project in the forge", '!rave create project hello-world "Says hello"',
    ),
    CommandForm(
        Verb.STATUS, StatusCommand,
        (Parameter("task", ParameterKind.TASK, required=False),),
        "says how a task stands, or all that have not ended", "!rave status 3f2a91c4",
    ),
    CommandForm(
        Verb.AGENTS, AgentsCommand, (),
        "says which agents are there", "!rave agents",
    ),
    CommandForm(
        Verb.RUN, RunCommand,
        (
            Parameter("agent", ParameterKind.AGENT),
            Parameter("project", ParameterKind.PROJECT),
            Parameter("instruction", ParameterKind.TEXT),
        ),
        "gives an agent a task; what becomes of it is said in the thread",
        "!rave run backend-architect hello-world Add an end point that says hello",
    ),
    CommandForm(
        Verb.APPROVE, ApproveCommand,
        (
            Parameter("task", ParameterKind.TASK),
            Parameter("comment", ParameterKind.TEXT, required=False),
        ),
        "has what a completed task came to merged", "!rave approve 3f2a91c4",
    ),
    CommandForm(
        Verb.REJECT, RejectCommand,
        (Parameter("task", ParameterKind.TASK), Parameter("reason", ParameterKind.TEXT)),
        "has what a completed task came to closed, not merged",
        "!rave reject 3f2a91c4 The tests are missing",
    ),
    CommandForm(
        Verb.CANCEL, CancelCommand,
        (
            Parameter("task", ParameterKind.TASK),
            Parameter("reason", ParameterKind.TEXT, required=False),
        ),
        "asks the agent to leave off a task that has not ended", "!rave cancel 3f2a91c4",
    ),
)  # fmt: skip


def form(verb: Verb) -> CommandForm:
    """Return the form of a command."""
    return next(found for found in FORMS if found.verb is verb)


def verb_of(command: ChatCommand) -> Verb:
    """Return what is commanded."""
    return next(found.verb for found in FORMS if found.made is type(command))
