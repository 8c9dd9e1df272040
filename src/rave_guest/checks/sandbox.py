"""Sandboxes of the host's pool, asked for from within, for a machine that it was lent to."""

from __future__ import annotations

from rave_guest.check import check
from rave_guest.journey import ALONE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from rave_guest.check import Subject
    from rave_guest.system import System
    from rave_guest.verdict import Verdict

    Step = Callable[[Mapping[str, Any], System], Verdict]

JOURNEY = 600.0  # seconds that one takes at most, in an emulated guest on a busy host

_travelled: dict[str, Verdict] = {}


def _step(name: str, title: str, **more: Any) -> Callable[[Step], Step]:
    """Return what makes a check of a step of the journey."""
    return check(
        f"sandbox.{name}", phase="sandbox", title=title, timeout=JOURNEY, step="sandbox",
        arguments=lambda about: {"step": name, "decoys": _decoys(about)}, **more,
    )  # fmt: skip


def _decoys(about: Subject) -> list[list[Any]]:
    return [list(place) for place in about.decoys]


@_step("door", "the host's pool answers this machine")
@_step("refused", "what is beyond its terms, and what is another's, is refused")
@_step("runs", "a command runs in a sandbox; its output and exit status come back",
       figures={"seconds": "sandbox_seconds"})  # fmt: skip
@_step("network", "nothing is reached from a sandbox")
@_step("apart", "a sandbox is another machine, which cannot ask for sandboxes")
@_step("time", "what takes longer than it may is ended, and told so")
@_step("disk", "what writes more than it may is ended, and told so")
@_step("memory", "what takes more memory than there is is killed, and told so")
def provisioned(arguments: Mapping[str, Any], _system: System) -> Verdict:
    """Return what became of a step; the first that asks lets the whole journey be made."""
    with ALONE:
        if not _travelled:
            from rave_guest import provisioning

            decoys = [(str(host), int(port)) for host, port in arguments["decoys"]]
            _travelled.update(provisioning.make(decoys))
    return _travelled[arguments["step"]]
