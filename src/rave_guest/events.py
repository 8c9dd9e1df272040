"""The verb events: what forges told this guest. The service that keeps the events carries it out
(contract.py).
"""

from __future__ import annotations

import re

from rave_guest.contract import Contract, taken, takes
from rave_guest.refusal import Refused

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


def check(action: object, wanted: object) -> None:
    """Check what is asked for, whoever sends it.

    Raises:
        Refused: an action that there is not, or arguments that it does not take.
    """
    known = takes(TAKES, action, "events")
    wanted = taken(wanted, known, action, each=action != "list")
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


CONTRACT = Contract(
    "events", "events", does="takes webhooks", check=check, looks={"list", "show"},
    result=lambda answer: f"{answer.get('replayed', 0)} replayed", log="/var/log/rave/events.log",
)  # fmt: skip
