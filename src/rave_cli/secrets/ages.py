"""Since when each secret has its value, and which have had it for too long.

No secrets file tells that: sops keeps one time for all. It is noted beside the ledger whenever rave
writes the file. What another hand wrote is at least as old as the file was when rave first saw it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from rave_cli import paths
from rave_cli.records import RecordFormat
from rave_cli.secrets.ledger import Moment  # noqa: TC001 - the record reads the annotations

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

    from rave_cli.profiles.catalog import Secret

# The longest quarter of a year.
QUARTER = timedelta(days=92)


class Noted(BaseModel):
    """Since when rave knows a value to be there; `made` if it made it then."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    since: Moment
    made: bool


class Ages(BaseModel):
    """What is known of each secret, by the absolute path of its file and its name."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    files: dict[str, dict[str, Noted]] = {}


AGES = RecordFormat(title="the ages of secrets", shape=Ages, version=1)


@dataclass(frozen=True)
class Age:
    """How old a value is: it is there since `since`, or, unless `made`, for longer."""

    since: datetime
    made: bool

    def due(self, now: datetime) -> bool:
        """Whether it has been there for more than a quarter of a year."""
        return now - self.since > QUARTER


def place() -> Path:
    """Return the file that has them."""
    return paths.state_dir() / "secrets" / "ages.json"


def note(
    file: Path, names: Collection[str], *, new: Collection[str], before: datetime | None
) -> None:
    """Note that rave wrote a secrets file.

    Args:
        file: the file.
        names: the secrets that are in it now.
        new: those of them that have a new value.
        before: when it was written before that; None if that is not known.

    Raises:
        RaveError: HOST if what is known cannot be read or written.
    """
    now = datetime.now(UTC).replace(microsecond=0)
    known = _load().files
    here = known.get(str(file.absolute()), {})
    older = Noted(since=min(before or now, now).isoformat(), made=False)
    fresh = Noted(since=now.isoformat(), made=True)
    noted = {name: fresh if name in new else here.get(name, older) for name in sorted(names)}
    files = known | {str(file.absolute()): noted}
    AGES.write(place(), Ages(files=dict(sorted(files.items()))), mode=0o600)


def of(file: Path, names: Collection[str], written: datetime | None) -> dict[str, Age]:
    """Return the age of each secret of a file of which anything is known.

    Args:
        file: the file.
        names: the secrets that are in it.
        written: when it was written, as it says itself.

    Raises:
        RaveError: HOST if what is known cannot be read.
    """
    here = _load().files.get(str(file.absolute()), {})
    found = {}
    for name in names:
        noted = here.get(name)
        if noted is not None:
            found[name] = Age(datetime.fromisoformat(noted.since), noted.made)
        elif written is not None:
            found[name] = Age(written, made=False)
    return found


def due(
    ages: Mapping[str, Age], catalog: Mapping[str, Secret], now: datetime | None = None
) -> tuple[str, ...]:
    """Return the secrets of the catalog that are to be renewed for their age, in its order."""
    at = now or datetime.now(UTC)
    return tuple(
        name
        for name, secret in catalog.items()
        if secret.lasting is None and name in ages and ages[name].due(at)
    )


def _load() -> Ages:
    path = place()
    if not path.exists():
        return Ages()
    hint = f"mv {path} {path}.damaged   (rave then takes the age of the file for that of each)"
    return AGES.read(path, hint=hint)
