"""From a sentence in the chat to a merge, in a running machine, as phase 8 of the smoke run has it,
and told step by step.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rave_cli.errors import ExitCode, RaveError
from rave_cli.flows.events import step
from rave_cli.machines import lifecycle
from rave_cli.machines.guest import connection
from rave_cli.machines.guest.door import Door
from rave_cli.smoke import inside
from rave_cli.smoke.runner import patient
from rave_cli.smoke.suite import suite

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rave_cli.flows.events import OnEvent
    from rave_cli.machines.spec import Machine
    from rave_cli.profiles.catalog import Plan
    from rave_cli.smoke.model import Check
    from rave_cli.transcript.check import CheckResult

PHASE = "workflow"
LONGEST = 1800.0  # seconds


@dataclass(frozen=True)
class CarriedOut:
    """What became of each step, in their order."""

    machine: str
    steps: tuple[CheckResult, ...]

    @property
    def passed(self) -> bool:
        """Whether no step failed; one that cannot be had is no failure."""
        return all(one.status in ("pass", "warn", "skip") for one in self.steps)

    def document(self) -> dict[str, Any]:
        """Return it as JSON data."""
        return {
            "machine": self.machine,
            "passed": self.passed,
            "steps": [
                {
                    "id": one.id, "title": one.title, "status": one.status, "detail": one.detail,
                    "seconds": round(one.seconds, 3), "data": dict(one.data),
                }
                for one in self.steps
            ],
        }  # fmt: skip


def steps_of(machine: Machine, plan: Plan) -> tuple[Check, ...]:
    """Return the steps of a machine.

    Raises:
        RaveError: USAGE if its profile and base have none; the reason is the smoke run's.
    """
    found = [
        check
        for check in suite(plan, mode=machine.spec.mode, instance=machine.spec.instance_id)
        if check.phase == PHASE
    ]
    for check in found:
        if check.skip is not None:
            raise RaveError(
                f"machine {machine.name} has no such flow: {check.skip}",
                hint="rave up --profile development --base debian",
                exit_code=ExitCode.USAGE,
            )
    return patient(found, lifecycle.pressure())


def hello_world(
    machine: Machine, steps: Sequence[Check], *, on_event: OnEvent,
    on_step: Callable[[CheckResult], None],
) -> CarriedOut:  # fmt: skip
    """Carry out the steps in a running machine. It deletes afterwards what was made, also where
    this is broken off.

    Args:
        machine: the machine.
        steps: as `steps_of` has them.
        on_event: told what is waited for.
        on_step: told what became of a step, once it is over.

    Raises:
        RaveError: NOT_READY if the machine cannot be reached, or does not answer in time.
    """
    with step(on_event, "workflow", f"From a sentence to a merge in {machine.name}") as doing:
        over: list[CheckResult] = []

        def told(result: CheckResult) -> None:
            over.append(result)
            on_step(result)
            if len(over) < len(steps):
                doing.progress(steps[len(over)].title, len(over), len(steps))

        doing.progress(steps[0].title, 0, len(steps))
        with connection.connect(machine) as session:
            answer = inside.ask(
                Door.of(machine, session), steps, {}, most_seconds=LONGEST, on_result=told
            )
    return CarriedOut(machine.name, answer.results)
