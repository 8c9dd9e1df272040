"""What became of commands and webhooks in a machine, in spans: asked through its door."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from rave_cli.errors import ExitCode, RaveError
from rave_cli.flows.provided import ProvidedVerb
from rave_cli.machines import store
from rave_cli.machines.spec import Machine

TRACES = ProvidedVerb("traces", "traces", "keeps no traces", "that would have any")
# As the guest takes it (rave_guest/traces.py).
NAME = re.compile(r"[0-9a-f]{4}[0-9a-f-]{0,32}")

Text = Annotated[str, StringConstraints(max_length=4096)]
Nanoseconds = Annotated[int, Field(ge=0, lt=1 << 63)]


class TraceSummary(BaseModel):
    """A trace as it is listed: what began it, and what all services know of it."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    trace_id: Text
    name: Text
    start_time_unix_nano: Nanoseconds
    end_time_unix_nano: Nanoseconds | None
    going_on: bool
    spans: int
    errors: int
    services: tuple[Text, ...]


class SpanStatus(BaseModel):
    """How a span ended: 2 for an error, as OpenTelemetry has it."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    code: int
    message: Text = ""


class GuestSpan(BaseModel):
    """A part of a trace, called as OpenTelemetry calls it (docs/reference/traces.md)."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    trace_id: Text
    span_id: Text
    parent_span_id: Text
    service_name: Text
    name: Text
    kind: int
    start_time_unix_nano: Nanoseconds
    end_time_unix_nano: Nanoseconds | None
    status: SpanStatus
    attributes: dict[str, Any]


class GuestTrace(BaseModel):
    """A trace with its spans, the first to begin first."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    trace_id: Text
    spans: tuple[GuestSpan, ...]


class TracesAnswer(BaseModel):
    """What the guest answers: traces, or one of them."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    traces: tuple[TraceSummary, ...] = ()
    trace: GuestTrace | None = None


def machine_of(name: str | None) -> str:
    """Return the machine that is named, or the only one that there is.

    Raises:
        RaveError: USAGE if none is named, and there is none or more than one.
    """
    if name is not None:
        return name
    names = [one.name for one in store.list_machines() if isinstance(one, Machine)]
    if len(names) == 1:
        return names[0]
    raise RaveError(
        f"no machine is named, and there are {len(names)}: {', '.join(names) or 'none'}",
        hint="rave trace list --vm NAME; rave vm list",
        exit_code=ExitCode.USAGE,
    )


def listed(name: str, *, most: int) -> tuple[TraceSummary, ...]:
    """Return the newest traces of a running machine.

    Raises:
        RaveError: USAGE if the machine keeps none; NOT_READY if it cannot be reached, or what its
            services keep cannot be read.
    """
    return _ask(name, "list", {"most": most}).traces


def shown(name: str, trace_id: str) -> GuestTrace:
    """Return a trace of a running machine, by its id or its task's, or how that begins.

    Raises:
        RaveError: USAGE if it is none, or there is none or more than one; otherwise as `listed`.
    """
    asked = trace_id.lower()
    if not NAME.fullmatch(asked):
        raise RaveError(
            f"{trace_id[:64]!r} is no trace: 4 to 36 digits of its id, or its task's",
            hint=f"rave trace list --vm {name}",
            exit_code=ExitCode.USAGE,
        )
    found = _ask(name, "show", {"trace": asked}).trace
    if found is None:
        raise TRACES.unusable(name)
    return found


def _ask(name: str, action: str, wanted: dict[str, Any]) -> TracesAnswer:
    hint = f"rave trace list --vm {name}"
    hints = {"input": hint, "absent": hint}
    return TRACES.ask(name, action, wanted, TracesAnswer, hints)
