"""How a smoke run reads for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rave_cli.smoke.phases import PHASES
from rave_cli.smoke.runner import NOT_ASKED
from rave_cli.smoke.simulated import WHY, is_simulated
from rave_cli.transcript.check import STATUSES

if TYPE_CHECKING:
    from rave_cli.show import Line, Show
    from rave_cli.smoke.model import SmokeRun


def summary(show: Show, found: SmokeRun) -> list[Line]:
    """Return what people want to know: a line per phase, what failed and what it means."""
    rows = []
    for phase in PHASES:
        counts = found.count(phase.id)
        if not sum(counts.values()):
            continue
        verdict = next((s for s in ("error", "fail", "warn", "pass") if counts[s]), "skip")
        numbers = ", ".join(f"{counts[s]} {s}" for s in STATUSES if counts[s])
        seconds = f"{found.phase_seconds.get(phase.id, 0.0):.1f} s"
        rows.append((show.mark(verdict), phase.title, numbers, seconds))
    lines = [*show.table(("", "phase", "checks", "time"), rows), ""]
    for result in found.results:
        if result.status in ("fail", "error", "warn"):
            lines.append((show.mark(result.status), f" {result.id}: {result.title}"))
            lines.append(f"     {result.detail}")
    reasons = [
        r
        for r in found.results
        if r.status == "skip" and r.detail != NOT_ASKED and not is_simulated(r)
    ]
    lines += [(show.mark("skip"), f" {r.id}: {r.detail}") for r in reasons]
    why = [f"{found.aborted}, and this is no evidence"] if found.aborted == WHY else []
    return [*lines, "", *why, f"{found.status} in {found.seconds:.1f} s", *_places(found)]


def _places(found: SmokeRun) -> list[str]:
    lines = [f"transcript: {found.files['transcript']}"]
    if "attestation" in found.files:
        lines.append(f"verify it:  rave smoke verify {found.files['transcript']} --allowed-signers"
                     " ~/.config/rave/signing/allowed_signers")  # fmt: skip
    lines.append(f"reports:    {found.files['json']} (and .junit.xml, .tap, .prom)")
    return lines
