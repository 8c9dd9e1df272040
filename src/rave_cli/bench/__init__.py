"""What things cost on this host: measured in rounds, told as percentiles with the host's facts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rave_cli.bench import measures
from rave_cli.bench.figures import facts, shares, summary
from rave_cli.bench.measures import MEASURES
from rave_cli.errors import ExitCode, RaveError
from rave_cli.flows.events import step
from rave_cli.machines.qemu import accelerator

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rave_cli.bench.measures import BenchSubject, Measure
    from rave_cli.flows.events import OnEvent

__all__ = ["MEASURES", "Figures", "measure"]


@dataclass(frozen=True)
class Figures:
    """What a measure found: the seconds of each of its parts, round by round, in their order."""

    measure: Measure
    rounds: Sequence[Mapping[str, float]]

    @property
    def parts(self) -> list[str]:
        """The names of the parts, in their order; what not every round had is left out."""
        return [name for name in self.rounds[0] if all(name in found for found in self.rounds)]

    def seconds(self, part: str) -> list[float]:
        """Return what a part took in each round."""
        return [found[part] for found in self.rounds]

    @property
    def medians(self) -> dict[str, float]:
        """The median of each part, in seconds."""
        return {part: summary(self.seconds(part))["p50"] for part in self.parts}

    @property
    def document(self) -> dict[str, Any]:
        """What `--json` shows."""
        return {
            "measure": self.measure.name,
            "of": self.measure.title,
            "host": facts(),
            "accelerator": accelerator.detect().document,
            "rounds": len(self.rounds),
            "seconds": {
                part: summary(self.seconds(part)) | {"rounds": self.seconds(part)}
                for part in self.parts
            },
            "shares": shares(self.medians, self.measure.total),
        }


def measure(name: str, subject: BenchSubject, *, rounds: int, on_event: OnEvent) -> Figures:
    """Carry a measure out so many times.

    Args:
        name: of MEASURES.
        subject: what is measured.
        rounds: how often; one more comes first and does not count, where caches matter.
        on_event: told each round.

    Raises:
        RaveError: USAGE if it needs a running machine and has none; else as what is measured.
    """
    chosen = MEASURES[name]
    if chosen.of_machine and subject.machine is None:
        raise RaveError(
            f"{name} is measured on a running machine, and none is named",
            hint=f"rave bench {name} --vm NAME; rave vm list",
            exit_code=ExitCode.USAGE,
        )
    found: list[dict[str, float]] = []
    with step(on_event, "bench", f"Measuring {name}") as doing:
        if chosen.warms_up:
            doing.progress("warming up", 0, rounds)
            chosen.carry_out(subject)
        for number in range(rounds):
            doing.progress(f"round {number + 1} of {rounds}", number, rounds)
            found.append(measures.rounded(chosen.carry_out(subject)))
    return Figures(chosen, found)
