"""What a service of a machine does for others: asked for through the door into its guest.

The guest finds the service that fulfils the contract by its plan (rave_guest/contract.py).
"""

from __future__ import annotations

import getpass
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ValidationError

from rave_cli.errors import ExitCode, RaveError
from rave_cli.machines import store
from rave_cli.machines.guest import connection
from rave_cli.machines.guest.door import Door, UnusableAnswerError, VerbRefusedError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rave_cli.machines.spec import Machine

    A = TypeVar("A", bound=BaseModel)

TIMEOUT = 120.0  # seconds; the guest gives the service that answers 90


@dataclass(frozen=True)
class ProvidedVerb:
    """A verb of guests that one of their services carries out.

    Attributes:
        verb: its name, which also says what it is about.
        contract: the service's, as the catalog's `provides` has it.
        lacking: what a machine without such a service does not do.
        nothing: what its profile has none of.
    """

    verb: str
    contract: str
    lacking: str
    nothing: str

    def ask(
        self,
        name: str,
        action: str,
        wanted: Mapping[str, Any],
        answer: type[A],
        hints: Mapping[str, str],
    ) -> A:
        """Let a running machine carry out an action.

        Args:
            name: the machine.
            action: one of the guest's.
            wanted: what it takes.
            answer: what is made of what it says.
            hints: the command that helps, by the stage at which the caller is refused for what was
                asked for.

        Raises:
            RaveError: USAGE if the machine has no such service, or refuses what was asked for;
                NOT_READY if it cannot be reached, or its service does not answer.
        """
        machine = store.load(name)
        self.carried(machine)
        request = {"action": action, "by": operator(), "arguments": wanted}
        with connection.connect(machine) as session:
            door = Door.of(machine, session)
            try:
                return answer.model_validate(door.call(self.verb, request, timeout=TIMEOUT))
            except VerbRefusedError as error:
                raise _refused(name, error, hints) from error
            except ValidationError as error:
                raise self.unusable(name) from error

    def carried(self, machine: Machine) -> None:
        """Make sure that a machine has such a service.

        Raises:
            RaveError: USAGE if it has not.
        """
        plan = store.plan(machine)
        if plan is None or not plan.provides(self.contract):
            spec = machine.spec
            raise RaveError(
                f"machine {machine.name} {self.lacking}: {spec.profile} on {spec.base} has nothing"
                f" {self.nothing}",
                hint="rave up --profile development --base debian",
                exit_code=ExitCode.USAGE,
            )

    def unusable(self, machine: str) -> UnusableAnswerError:
        """Return the error of an answer that is none."""
        return UnusableAnswerError(
            f"machine {machine} gave no usable answer about its {self.verb}",
            hint=f"rave vm logs {machine}",
            exit_code=ExitCode.NOT_READY,
        )


def operator() -> str:
    """Return who asks, for the guest's log: what this host calls the caller, and itself."""
    try:
        account = getpass.getuser()
    except (KeyError, OSError):
        account = "unknown"
    return f"{account}@{socket.gethostname()}"[:200]


def _refused(machine: str, error: VerbRefusedError, hints: Mapping[str, str]) -> RaveError:
    """Return the guest's no as an error of rave's, with the command that helps."""
    if error.stage in hints:
        return RaveError(
            f"machine {machine}: {error.why}", hint=hints[error.stage], exit_code=ExitCode.USAGE
        )
    return RaveError(
        f"machine {machine} did not do it ({error.stage}): {error.why}",
        hint=f"rave vm status {machine}; rave vm logs {machine}",
        exit_code=ExitCode.NOT_READY,
    )
