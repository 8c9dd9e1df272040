"""How the way from a sentence to a merge reads for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rave_cli.flows.workflow import CarriedOut
    from rave_cli.show import Line, Show
    from rave_cli.transcript.check import CheckResult


def narrated(result: CheckResult) -> str:
    """Return a step that is over as a line."""
    return f"  {result.status:5} {result.title}: {result.detail}"


def outcome(show: Show, found: CarriedOut) -> list[Line]:
    """Return what people want to know at the end: each step with its evidence."""
    rows = [(show.mark(one.status), one.id.rpartition(".")[2], one.detail) for one in found.steps]
    good = sum(one.status == "pass" for one in found.steps)
    lines: list[Line] = [*show.table(("", "step", "evidence"), rows), ""]
    lines.append(f"{found.machine}: {good} of {len(found.steps)} steps passed")
    traces = [one.data["trace"] for one in found.steps if "trace" in one.data]
    lines += [f"look at it: rave trace show {trace} --vm {found.machine}" for trace in traces]
    return lines
