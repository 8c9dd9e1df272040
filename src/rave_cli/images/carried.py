"""The plan that an image carries: `plan.json` in its output, and a copy with every machine.

What today's checkout makes of a profile says nothing of yesterday's image. Whoever asks a machine's
guest for something goes by the plan that the guest was made from.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field

from rave_cli.images.manifest import PLAN
from rave_cli.profiles.catalog import Plan  # noqa: TC001 - pydantic reads it
from rave_cli.records import RecordFormat

if TYPE_CHECKING:
    from pathlib import Path

NAME = PLAN


class Carried(BaseModel):
    """A plan, and the version of the door into the guest that was made from it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    door: int = Field(ge=1)
    plan: Plan


# infra/catalog/carried.nix writes it, too.
CARRIED = RecordFormat(title="the plan", shape=Carried, version=1)


def read(place: Path) -> Carried:
    """Return what a plan file says.

    Raises:
        NewerRecordError: if it came with an image for a newer rave.
        DamagedRecordError: if it is damaged.
        RaveError: HOST if it cannot be read.
    """
    return CARRIED.read(place, hint=f"put {place} back as it was: the image's output has the same")


def write(place: Path, carried: Carried) -> None:
    """Write a plan file that only its owner may read.

    Raises:
        RaveError: HOST if it cannot be written.
    """
    CARRIED.write(place, carried, mode=0o600)
