"""What forges told a machine by webhooks: asked, and handed over again, through its door."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, ValidationError

from rave_cli.errors import ExitCode, RaveError
from rave_cli.flows.accounts import operator
from rave_cli.machines import store
from rave_cli.machines.guest import connection
from rave_cli.machines.guest.door import Door, UnusableAnswerError, VerbRefusedError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rave_cli.machines.spec import Machine

CONTRACT = "events"
TIMEOUT = 120.0  # seconds; the guest gives the program that answers 90
MOST = 1000  # events that the guest shows, or hands over again, at once


class HandedOver(BaseModel):
    """What became of an event: `accepted`, `published` or `dead`, and why the last."""

    model_config = ConfigDict(frozen=True, extra="allow")

    state: str
    why: str = ""


class ReceivedEvent(BaseModel):
    """An event as docs/reference/events.md has it; `payload` is there where one is shown."""

    model_config = ConfigDict(frozen=True, extra="allow")

    event_uuid: str
    received_at: str
    source: str
    kind: str
    action: str = ""
    project: str = ""
    actor: str = ""
    title: str = ""
    handover: HandedOver


class EventsAnswer(BaseModel):
    """What the guest answers: events, one event, or how many are handed over again."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    events: tuple[ReceivedEvent, ...] = ()
    event: ReceivedEvent | None = None
    replayed: int = 0


def listed(
    name: str, *, state: str | None = None, source: str | None = None, most: int = MOST
) -> tuple[ReceivedEvent, ...]:
    """Return events of a running machine, the newest first.

    Raises:
        RaveError: as `ask`.
    """
    wanted = {"state": state, "source": source, "most": most}
    given = {key: value for key, value in wanted.items() if value is not None}
    return ask(name, "list", given).events


def shown(name: str, event: str) -> ReceivedEvent:
    """Return one event of a running machine, with its payload.

    Raises:
        RaveError: as `ask`.
    """
    found = ask(name, "show", {"event": event}).event
    if found is None:
        raise _unusable(name)
    return found


def replay(name: str, events: Sequence[str]) -> int:
    """Have events handed over again; all that the stream did not take if none is named.

    Returns:
        How many.

    Raises:
        RaveError: as `ask`; nothing is handed over then.
    """
    if events:
        return ask(name, "replay", {"events": list(events)}).replayed
    return ask(name, "replay-dead", {}).replayed


def ask(name: str, action: str, wanted: dict[str, Any]) -> EventsAnswer:
    """Let a running machine carry out an action on its events (rave_guest/events.py).

    Raises:
        RaveError: USAGE if the machine takes no webhooks, or there is no such event; NOT_READY if
            it cannot be reached, or its dispatcher's program does not answer.
    """
    machine = store.load(name)
    _takes_webhooks(machine)
    request = {"action": action, "by": operator(), "arguments": wanted}
    with connection.connect(machine) as session:
        door = Door.of(machine, session)
        try:
            return EventsAnswer.model_validate(door.call("events", request, timeout=TIMEOUT))
        except VerbRefusedError as error:
            raise _refused(name, error) from error
        except ValidationError as error:
            raise _unusable(name) from error


def _takes_webhooks(machine: Machine) -> None:
    plan = store.plan(machine)
    if plan is None or not plan.provides(CONTRACT):
        spec = machine.spec
        raise RaveError(
            f"machine {machine.name} takes no webhooks: {spec.profile} on {spec.base} has nothing"
            " that receives them",
            hint="rave up --profile development --base debian",
            exit_code=ExitCode.USAGE,
        )


def _refused(machine: str, error: VerbRefusedError) -> RaveError:
    """Return the guest's no as an error of rave's, with the command that helps."""
    hints = {"input": "rave events list --help", "absent": f"rave events list {machine}"}
    if error.stage in hints:
        return RaveError(
            f"machine {machine}: {error.why}", hint=hints[error.stage], exit_code=ExitCode.USAGE
        )
    return RaveError(
        f"machine {machine} did not do it ({error.stage}): {error.why}",
        hint=f"rave vm status {machine}; rave vm logs {machine}",
        exit_code=ExitCode.NOT_READY,
    )


def _unusable(machine: str) -> UnusableAnswerError:
    return UnusableAnswerError(
        f"machine {machine} gave no usable answer about its events",
        hint=f"rave vm logs {machine}",
        exit_code=ExitCode.NOT_READY,
    )
