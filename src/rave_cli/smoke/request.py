"""What a smoke run is asked to do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rave_cli.smoke.provisioning import NOT_LENT

if TYPE_CHECKING:
    from pathlib import Path

    from rave_cli.images.manifest import Image
    from rave_cli.machines.guest.session import Session
    from rave_cli.machines.spec import Machine
    from rave_cli.profiles.catalog import Plan
    from rave_cli.smoke.operator import Operator
    from rave_cli.smoke.provisioning import Provisions
    from rave_cli.smoke.recovering import Recovers
    from rave_cli.transcript.signing import SigningKey


@dataclass(frozen=True)
class SmokeRequest:
    """A smoke run to carry out.

    Args:
        machine: the machine, which runs.
        plan: what its base makes of its profile.
        operator: the operator's secrets, for searching and comparing.
        output: directory of the reports and the transcript.
        key: signs the transcript.
        timeout: seconds for the whole run.
        phases: ids of the phases to ask; None asks all.
        lock_file: the flake's lock, whose digest the transcript carries.
        nonce: a challenge of whoever will verify the run.
        session: a connection to the machine that is open already; None opens one.
        recovery: backs the machine up and restores it into a second one; None where that is not
            asked for.
        provisions: what knows of the sandboxes that the machine gets; None if nobody does.
    """

    machine: Machine
    plan: Plan
    operator: Operator
    output: Path
    key: SigningKey
    timeout: float
    phases: frozenset[str] | None = None
    lock_file: Path | None = None
    nonce: str | None = None
    session: Session | None = None
    recovery: Recovers | None = None
    provisions: Provisions | None = None

    @property
    def withheld(self) -> dict[str, str]:
        """The phases that cannot be carried out, and why."""
        why = NOT_LENT if self.provisions is None else self.provisions.withheld
        return {"sandbox": why} if why else {}

    @property
    def image(self) -> Image:
        """The image the machine was made from."""
        return self.machine.spec.image
