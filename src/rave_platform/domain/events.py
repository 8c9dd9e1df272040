"""What a webhook says, whoever sent it: one event, versioned.

A field is only ever added, with a value that older readers can do without; whatever else changes is
a new version under a new subject.
"""

from __future__ import annotations

from datetime import datetime  # noqa: TC003 - pydantic reads it
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, Literal
from uuid import UUID, uuid5

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from rave_platform.domain import tracing

if TYPE_CHECKING:
    from rave_platform.domain.tracing import TraceContext

SCHEMA_VERSION: Literal[1] = 1

# Where the names of deliveries become ids of events; any constant would do.
NAMESPACE = UUID("6f1d3a52-7a0e-5c0f-9d0b-2f6a7f6e4b11")

TraceId = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]
SourceName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,31}$")]
ShortText = Annotated[str, StringConstraints(max_length=512)]
LongText = Annotated[str, StringConstraints(max_length=4096)]


class Provider(StrEnum):
    """Whose payloads a source sends."""

    GITLAB = "gitlab"
    GITHUB = "github"
    GITEA = "gitea"
    PAGURE = "pagure"
    STANDARD = "standard"


class EventKind(StrEnum):
    """What an event is about."""

    PUSH = "push"
    MERGE_REQUEST = "merge_request"
    ISSUE = "issue"
    NOTE = "note"
    PIPELINE = "pipeline"
    OTHER = "other"


class EventFacts(BaseModel):
    """What every sender says in its own words; empty where it does not."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: EventKind = Field(description="what it is about")
    action: ShortText = Field(
        default="",
        description="what happened: `open`, `update`, `merge`, `close`, `reopen`, `create`,"
        " `delete`; of a pipeline its state; otherwise the sender's word",
    )
    project: ShortText = Field(default="", description="path of the project, with its namespace")
    actor: ShortText = Field(default="", description="who did it: the sender's user name")
    ref: ShortText = Field(default="", description="the branch or tag, without `refs/heads/`")
    commit: ShortText = Field(default="", description="the commit that it is about")
    number: int | None = Field(
        default=None, description="of the merge request, issue or pipeline, as people see it"
    )
    title: ShortText = Field(default="", description="of the merge request or issue")
    text: LongText = Field(default="", description="of a note, cut after 4096 characters")
    url: LongText = Field(default="", description="where people can look at it")


class WebhookEvent(EventFacts):
    """A webhook that was accepted."""

    schema_version: Literal[1] = Field(default=SCHEMA_VERSION, description="of this form")
    event_uuid: UUID = Field(description="the same for every repetition of one delivery")
    trace_id: TraceId = Field(description="W3C trace id: the sender's, or one of our own")
    received_at: datetime = Field(description="when it came, by the guest's clock, in UTC")
    source: SourceName = Field(description="the name that the settings give to the sender")
    provider: Provider = Field(description="whose form the payload has")
    delivery_id: Annotated[str, StringConstraints(max_length=200)] = Field(
        description="the sender's name for the delivery, if it gives one"
    )
    body_sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")] = Field(
        description="of the body as it came"
    )
    processed: bool = Field(
        default=False,
        description="whether the stream has it; never true of a message in the stream",
    )


class EventMessage(WebhookEvent):
    """An event as the stream carries it: with the payload as the sender signed it."""

    payload: dict[str, Any] = Field(description="the body, byte for byte what came")


def event_uuid(source: str, identity: str) -> UUID:
    """Return the id of an event: the same whenever the same delivery comes again."""
    return uuid5(NAMESPACE, f"{source}\n{identity}")


def span_of(event: WebhookEvent) -> TraceContext:
    """Return the span in which an event was received."""
    return tracing.named(event.trace_id, event.event_uuid)


def message(event: WebhookEvent, body: bytes) -> bytes:
    """Return the bytes of an `EventMessage`, with a body that was read as a JSON object.

    The body is not read and written anew: what consumers see is what was signed.
    """
    return event.model_dump_json().encode()[:-1] + b',"payload":' + body.strip() + b"}"


def subject(event: WebhookEvent) -> str:
    """Return where an event is published: `rave.events.v1.SOURCE.KIND`."""
    return f"rave.events.v{event.schema_version}.{event.source}.{event.kind}"
