"""The verb traces: what became of a command or a webhook, in spans (contract.py). Whichever service
fulfils the contract answers for all that keep some (spans.py).
"""

from __future__ import annotations

import re

from rave_guest.contract import Contract, taken, takes
from rave_guest.refusal import Refused

# A trace, or the task or event of one, or how it begins; people may write a UUID's hyphens.
NAME = re.compile(r"[0-9a-f]{4}[0-9a-f-]{0,32}")
MOST = 1000  # traces that are shown at once

TAKES = {"list": {"most"}, "show": {"trace"}}


def check(action: object, wanted: object) -> None:
    """Check what is asked for, whoever sends it.

    Raises:
        Refused: an action that there is not, or arguments that it does not take.
    """
    wanted = taken(wanted, takes(TAKES, action, "traces"), action)
    most = wanted.get("most", 1)
    if type(most) is not int or not 1 <= most <= MOST:
        raise Refused("input", f"1 to {MOST} traces can be shown")
    name = wanted.get("trace", "0000")
    if not (isinstance(name, str) and NAME.fullmatch(name)):
        raise Refused("input", "a trace is named by 4 to 36 digits of its id, or its task's")


CONTRACT = Contract(
    "traces", "traces", does="keeps traces", check=check, looks={"list", "show"},
    result=lambda _answer: "", log="",
)  # fmt: skip
