"""What the chat bridge needs of the world; adapters fill it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from rave_platform.application.ports import AgingStore, OutgoingStore, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from collections.abc import Set as AbstractSet
    from uuid import UUID

    from rave_platform.domain.chat.conversation import (
        ChatDeed,
        ChatOutcome,
        ChatTask,
        HeardMessage,
    )
    from rave_platform.domain.handover import HandoverStep
    from rave_platform.domain.tasks import AgentHeartbeat, AgentTask, DecisionOutcome

    # Keeps what was heard, with the position up to which the chat was read; returns once both are
    # on the disk.
    Hear = Callable[[Sequence[HeardMessage], str], Awaitable[None]]


class ChatUnavailableError(UnavailableError):
    """The chat cannot be reached, or wants us to wait; nothing is wrong with the deed."""


class DirectoryUnavailableError(UnavailableError):
    """The identity provider cannot be asked now."""


class ChatRefusedError(Exception):
    """The chat answered, and to this deed never otherwise: why, and its own word for it."""

    def __init__(self, why: str, code: str = "") -> None:
        super().__init__(why)
        self.code = code


@dataclass(frozen=True)
class PendingDeed:
    """A deed that is not known to be done."""

    number: int
    deed: ChatDeed


@dataclass(frozen=True)
class ToldTask:
    """What an agent, or the forge, said; `taken` tells the stream that it is kept."""

    data: bytes
    taken: Callable[[], Awaitable[None]]
    traceparent: str = ""


@dataclass(frozen=True)
class ChatFigures:
    """How much is not done yet, and when what the oldest of each comes of was heard."""

    undecided: int
    deeds: int
    dead_deeds: int
    waiting: int
    dead: int
    oldest: float | None
    oldest_deed: float | None = None
    oldest_waiting: float | None = None


@dataclass(frozen=True)
class QueueFigures:
    """Of what a consumer of the stream of tasks has to read: what it has not been given, what it
    works on, and what it was given again.
    """

    consumer: str
    pending: int
    unacknowledged: int
    redelivered: int


class ConversationStore(AgingStore, Protocol):
    """Everything that was heard and decided. What was written is on the disk on return.

    Every method raises StoreUnavailableError.
    """

    @property
    def outgoing(self) -> OutgoingStore:
        """Return what is handed over to the stream."""

    def position(self) -> str:
        """Return up to where the chat was read; empty at first."""

    def began(self, now: float) -> float:
        """Return when the bridge was started for the first time; now, if that is yet to come.

        A clock that was wrong then must not have us deaf until it is right.
        """

    def hear(self, heard: Sequence[HeardMessage], position: str) -> None:
        """Keep what was heard, once each, and the position, together."""

    def undecided(self, most: int) -> list[tuple[int, HeardMessage]]:
        """Return what is not decided, the oldest first."""

    def decide(self, number: int, outcome: ChatOutcome) -> None:
        """Keep what was decided on something that was heard, all of it at once."""

    def tasks(self, room: str, task: str, most: int) -> list[ChatTask]:
        """Return the tasks of a room whose id begins so; of an empty one all that have not ended.

        The newest come first.
        """

    def task(self, task_id: UUID) -> ChatTask | None:
        """Return a task that was asked for in a chat."""

    def tell(self, task: AgentTask, deed: ChatDeed) -> None:
        """Keep how a task stands, and what is said of it."""

    def tell_outcome(self, outcome: DecisionOutcome, deed: ChatDeed) -> None:
        """Keep what is said of a decision; what was not carried out may be decided anew."""

    def tell_merged(self, task_id: UUID, by: str, deed: ChatDeed) -> None:
        """Keep what is said of a merge in the forge, and that the task needs no judgement more.

        Of one that was approved here, whoever carries that out says so.
        """

    def deeds(self, most: int) -> list[PendingDeed]:
        """Return what is not known to be done, the oldest first."""

    def last_deed(self) -> int:
        """Return the number of the newest deed; 0 if there is none."""

    def record_deeds(self, steps: Sequence[tuple[int, HandoverStep]]) -> None:
        """Take in what came of deeds, by their numbers."""

    def figures(self) -> ChatFigures:
        """Return the figures of the moment."""


class ChatChannel(Protocol):
    """A chat in which the bridge has an account of its own."""

    @property
    def connected(self) -> bool:
        """Return whether the chat answered last."""

    @property
    def rooms(self) -> AbstractSet[str] | None:
        """Return the ids of rooms that it has itself, in which commands are obeyed, too; None as
        long as that is not known.
        """

    def routes(self) -> list[Any]:
        """Return the end points by which it is told, if there are any."""

    async def listen(self, hear: Hear, position: str) -> None:
        """Read the chat on from a position, until cancelled.

        Something is heard once at least: `hear` returning is what lets the chat forget it.
        """

    async def act(self, deed: ChatDeed) -> None:
        """Do something. What is done already may be done again, but for what is said.

        Raises:
            ChatUnavailableError: if it is not known to be done.
            ChatRefusedError: if it will never be.
        """

    async def close(self) -> None:
        """Close its connections."""

    async def acted(self, deed: ChatDeed) -> bool:
        """Return whether something was said already, by its key.

        Raises:
            ChatUnavailableError: if the chat cannot be asked.
        """


class QueueReader(Protocol):
    """How far the readers of the stream are."""

    async def queues(self) -> Sequence[QueueFigures]:
        """Return how far the readers of the stream are.

        Raises:
            StreamUnavailableError: if the stream cannot be asked.
        """


class TaskReader(Protocol):
    """What agents say in the stream."""

    async def told(self) -> Sequence[ToldTask]:
        """Wait a moment for what agents say of tasks; return what came.

        Raises:
            StreamUnavailableError: if the stream cannot be asked.
        """

    async def agents(self) -> Sequence[AgentHeartbeat]:
        """Return the agents that gave a sign of life lately.

        Raises:
            StreamUnavailableError: if the stream cannot be asked.
        """


class ForgeReader(Protocol):
    """What the forge says of merge requests in the stream."""

    async def said(self) -> Sequence[ToldTask]:
        """Wait a moment for what the forge says; return what came.

        Raises:
            StreamUnavailableError: if the stream cannot be asked.
        """


class Directory(Protocol):
    """The groups of the identity provider."""

    async def groups(self, account: str) -> frozenset[str]:
        """Return the groups of an account; none for one that is not known.

        Raises:
            DirectoryUnavailableError: if they cannot be asked for.
        """
