"""The verb events: what forges told this guest. The service that keeps the events carries it out.

Arguments {"action", "by", "arguments"}: what to do, who says so, and with which events. That events
are handed over again is written down (audit.py).
"""

from __future__ import annotations

import re

from rave_guest import audit, plan, registry
from rave_guest.refusal import Refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    Provider = Callable[[str, Mapping[str, Any]], dict[str, Any]]

CONTRACT = "events"
LOG = "/var/log/rave/events.log"

UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
SOURCE = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")
STATES = ("accepted", "published", "dead")
MOST = 1000  # events that are shown, or handed over again, at once

# Which arguments each action takes; of those of `list`, any may be missing.
TAKES = {
    "list": {"state", "source", "most"},
    "show": {"event"},
    "replay": {"events"},
    "replay-dead": set(),
}
READS = {"list", "show"}


def verb(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Carry out an action on the events of this guest."""
    if set(arguments) != {"action", "by", "arguments"}:
        raise Refused("request", "a request on events has an action, by whom, and its arguments")
    action, by, wanted = arguments["action"], arguments["by"], arguments["arguments"]
    check(action, wanted)
    if not isinstance(by, str) or not 0 < len(by) <= 200:
        raise Refused("request", "it is not said who asks")
    return carry_out(action, wanted, by, provider(plan.own()))


def carry_out(
    action: str, wanted: Mapping[str, Any], by: str, provide: Provider, log: str = LOG
) -> dict[str, Any]:
    """Let the provider do what was asked for, and write down what became of it.

    Raises:
        Refused: as the provider does; AUDIT if it cannot be written down, before it is done.
    """
    if action in READS:
        return provide(action, wanted)
    with audit.entry(log, action=action, by=by, **wanted) as entry:
        answer = provide(action, wanted)
        entry.result = f"{answer.get('replayed', 0)} replayed"
        return answer


def provider(own: Mapping[str, Any]) -> Provider:
    """Return what carries out actions on events in a guest of this plan.

    Raises:
        Refused: it has none.
    """
    for name, record in own["services"].items():
        if CONTRACT in record["provides"]:
            provide: Provider = registry.service(name).events  # type: ignore[union-attr]
            return provide
    raise Refused("request", "this guest carries no service that takes webhooks")


def check(action: object, wanted: object) -> None:
    """Check what is asked for, whoever sends it.

    Raises:
        Refused: an action that there is not, or arguments that it does not take.
    """
    if not isinstance(action, str) or action not in TAKES:
        raise Refused("request", f"there is no action {action!r} on events")
    takes = TAKES[action]
    if not isinstance(wanted, dict) or not set(wanted) <= takes:
        raise Refused("request", f"{action} takes {', '.join(sorted(takes)) or 'nothing'}")
    if action != "list" and set(wanted) != takes:
        raise Refused("request", f"{action} takes {', '.join(sorted(takes))}")
    if "state" in wanted and wanted["state"] not in STATES:
        raise Refused("input", f"a state is one of {', '.join(STATES)}")
    if "source" in wanted:
        _text(wanted["source"], SOURCE, "a source is a name of a to z, 0 to 9 and hyphen")
    most = wanted.get("most", 1)
    if type(most) is not int or not 1 <= most <= MOST:
        raise Refused("input", f"1 to {MOST} events can be shown")
    several = wanted.get("events", [wanted["event"]] if "event" in wanted else [])
    if not isinstance(several, list) or len(several) > MOST or (not several and "events" in wanted):
        raise Refused("input", f"events are a list of 1 to {MOST}")
    for event in several:
        _text(event, UUID, "an event is named by its UUID, in lower case")


def _text(value: object, form: re.Pattern[str], what: str) -> None:
    if not (isinstance(value, str) and form.fullmatch(value)):
        raise Refused("input", what)
