"""The chat bridge's settings."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - pydantic reads it
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from rave_platform.adapters import configuration
from rave_platform.adapters.chat.directory import FileDirectory, SocketDirectory
from rave_platform.adapters.chat.matrix import MatrixChannel, MatrixSettings
from rave_platform.adapters.chat.mattermost import MattermostChannel, MattermostSettings
from rave_platform.adapters.configuration import (
    SPANS,
    SettingsError,
    StrictSettings,
    TaskStreamSettings,
)
from rave_platform.domain.chat.commands import Verb  # noqa: TC001 - pydantic reads it
from rave_platform.domain.chat.merges import AgentsForge
from rave_platform.domain.chat.permissions import ChatPermissions
from rave_platform.domain.events import SourceName  # noqa: TC001 - pydantic reads it
from rave_platform.domain.handover import RETENTION_DAYS

if TYPE_CHECKING:
    from rave_platform.application.chat.ports import ChatChannel, Directory

Alias = Annotated[str, StringConstraints(pattern=r"^[a-z0-9._=-]{1,64}$")]
Word = Annotated[str, StringConstraints(min_length=1, max_length=255)]


class MatrixPart(StrictSettings):
    """A homeserver that knows us as an application service."""

    url: str = "http://127.0.0.1:8008"
    service: Word = "rave"
    # The aliases, without their server, of rooms that the bridge makes and obeys in.
    own_rooms: tuple[Alias, ...] = ()
    as_token_file: Path
    hs_token_file: Path


class MattermostPart(StrictSettings):
    """A server on which we have a bot's account."""

    url: str
    token_file: Path


class AgentsForgePart(StrictSettings):
    """The forge in which agents work, whose webhooks the dispatcher takes in."""

    source: SourceName
    namespace: str = ""


class BridgeSettings(StrictSettings):
    """All of it."""

    store: Path
    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 3005
    mode: Literal["safe", "full"] = "safe"
    # The rooms in which commands are obeyed, and what each group may command there.
    rooms: tuple[Word, ...] = ()
    permissions: dict[Word, frozenset[Verb]] = Field(default_factory=dict)
    # Members of groups: as the identity provider says at this socket, or a file that is read
    # whenever it changed; and of these settings.
    groups_socket: Path | None = None
    groups_file: Path | None = None
    groups: dict[Word, frozenset[Word]] = Field(default_factory=dict)
    nats: TaskStreamSettings = TaskStreamSettings()
    # Without it, nobody is told of what was merged in the forge itself.
    forge: AgentsForgePart | None = None
    matrix: MatrixPart | None = None
    mattermost: MattermostPart | None = None

    @model_validator(mode="after")
    def _one_chat(self) -> Self:
        if (self.matrix is None) == (self.mattermost is None):
            raise ValueError("there is to be either matrix or mattermost")
        if self.groups_socket and self.groups_file:
            raise ValueError("there is to be either groups_socket or groups_file")
        return self

    @property
    def spans(self) -> Path:
        """Where spans are kept: beside what was said."""
        return self.store.with_name(SPANS)

    @property
    def retention_days(self) -> int:
        """Days that what was said and done is kept."""
        return RETENTION_DAYS[self.mode]


def read(place: Path) -> BridgeSettings:
    """Return the settings of a file.

    Raises:
        SettingsError: if it is not there or says something else.
    """
    return configuration.read(place, BridgeSettings)


def permissions(found: BridgeSettings) -> ChatPermissions:
    """Return who may command what."""
    return ChatPermissions(frozenset(found.rooms), found.permissions)


def directory(found: BridgeSettings) -> Directory:
    """Return the groups of accounts."""
    if found.groups_socket:
        return SocketDirectory(found.groups_socket, found.groups)
    return FileDirectory(found.groups_file, found.groups)


def forge(found: BridgeSettings) -> AgentsForge | None:
    """Return the forge in which agents work, if its webhooks are to be heard."""
    return AgentsForge(found.forge.source, found.forge.namespace) if found.forge else None


def channel(found: BridgeSettings) -> ChatChannel:
    """Return the chat.

    Raises:
        SettingsError: if a token is not there, or not fit to be one.
    """
    if found.matrix:
        part = found.matrix
        return MatrixChannel(
            MatrixSettings(
                part.url, part.service,
                configuration.token(part.as_token_file), configuration.token(part.hs_token_file),
                part.own_rooms,
            )
        )  # fmt: skip
    if found.mattermost is None:
        raise SettingsError("there is no chat")
    mattermost = found.mattermost
    return MattermostChannel(
        MattermostSettings(mattermost.url, found.rooms, configuration.token(mattermost.token_file))
    )
