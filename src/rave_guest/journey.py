"""A journey: steps that stand on each other, each of which a check of its own reports."""

from __future__ import annotations

import threading

from rave_guest.refusal import Refused
from rave_guest.verdict import Verdict, errored, failed, skipped

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from typing import TypeVar

    Subject = TypeVar("Subject")

# One at a time: they tell how long things take.
ALONE = threading.Lock()


class Broken(Exception):  # noqa: N818 - it reads as what happened
    """What is looked at does not do what it must."""


def expect(true: bool, otherwise: str) -> None:
    """Raise Broken with what is so otherwise."""
    if not true:
        raise Broken(otherwise)


def travel(
    journey: Subject, steps: Mapping[str, Callable[[Subject], Verdict]], ground: Collection[str],
    told: Callable[[str, Verdict], None] = lambda _name, _verdict: None,
) -> dict[str, Verdict]:  # fmt: skip
    """Make a journey; returns a verdict for each step.

    Args:
        journey: what the steps know of each other.
        steps: in the order in which they are made.
        ground: steps without which the later ones are skipped.
        told: told of each step, once it is over.
    """
    verdicts: dict[str, Verdict] = {}
    for name, step in steps.items():
        missing = [one for one in ground if one in verdicts and verdicts[one].status != "pass"]
        verdicts[name] = skipped(f"needs {missing[0]}") if missing else carried_out(journey, step)
        told(name, verdicts[name])
    return verdicts


def carried_out(journey: Subject, step: Callable[[Subject], Verdict]) -> Verdict:
    """Make one step of a journey."""
    try:
        return step(journey)
    except Broken as error:
        return failed(str(error))
    except Refused as error:
        return errored(f"{error.stage}: {error}")
    except (OSError, ValueError, KeyError) as error:
        return errored(f"{type(error).__name__}: {error}")
