"""What is under way with a machine's system: noted before each step that counts, so that whoever
comes after a killed command can tell it, and go on or back.

The note says which files go where, so that an exchange that was broken off can be completed by
anybody. Whether somebody still works at it, a lock says, which ends with its process.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from rave_cli import paths
from rave_cli.errors import ExitCode, RaveError
from rave_cli.images.manifest import Sha256  # noqa: TC001 - the record reads the annotations
from rave_cli.machines.spec import check_name, machines_dir
from rave_cli.records import RecordFormat

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rave_cli.machines.spec import Machine

NAME = "change.json"

Kind = Literal["update", "rollback", "migration"]
# In the order in which they come; `returning` may come after any, and is a rollback's first.
Step = Literal["preparing", "stopping", "exchanging", "trying", "keeping", "returning"]

DOING: dict[Step, str] = {
    "preparing": "while the new system was made ready, which changed nothing",
    "stopping": "while the old system shut down, which changed nothing",
    "exchanging": "while the new system took the place of the old",
    "trying": "before the new system had proved itself",
    "keeping": "when the new system had proved itself",
    "returning": "while the system and the data of before were put back",
}


@dataclass(frozen=True)
class Exchange:
    """Which files of a machine are exchanged.

    Attributes:
        coming: the directory, in the machine's, that the new ones are in.
        going: the one that the present ones go to.
        takes: names of the files that go.
        brings: names of those that come.
    """

    coming: str
    going: str
    takes: tuple[str, ...]
    brings: tuple[str, ...]


@dataclass(frozen=True)
class Change:
    """The content of change.json.

    Attributes:
        kind: what was asked for.
        step: what is being done.
        since: seconds since the epoch.
        before: sha256 of the image that the machine had, in hex.
        after: of the one that it is to have.
        runs: whether it ran.
        exchange: which files change places in this step, if any do.
        why: why it goes back, if it does.
    """

    kind: Kind
    step: Step
    since: float
    before: Sha256
    after: Sha256
    runs: bool
    exchange: Exchange | None = None
    why: str = ""

    @property
    def document(self) -> dict[str, object]:
        """What `--json` shows."""
        return {"kind": self.kind, "step": self.step, "from": self.before, "to": self.after}

    @property
    def told(self) -> str:
        """What it is, in words."""
        return f"the {self.kind} from image {self.before[:12]} to {self.after[:12]}"


CHANGE = RecordFormat(title="the note of what is under way", shape=Change, version=1)


def read(machine: Machine) -> Change | None:
    """Return what is under way with a machine, or was broken off; None if nothing is.

    Raises:
        RaveError: HOST if the note is damaged or of a newer rave.
    """
    place = machine.directory / NAME
    if not place.exists():
        return None
    return CHANGE.read(place, hint=f"put {place} back from a copy; the files beside it are whole")


def note(machine: Machine, change: Change) -> None:
    """Note a step before it is done.

    Raises:
        RaveError: HOST if it cannot be written.
    """
    CHANGE.write(machine.directory / NAME, change, mode=0o600)


def end(machine: Machine) -> None:
    """Nothing is under way any more.

    Raises:
        RaveError: HOST if that cannot be noted.
    """
    place = machine.directory / NAME
    with paths.refusing(place):
        place.unlink(missing_ok=True)
        paths.sync_dir(machine.directory)


@contextmanager
def alone(name: str) -> Iterator[None]:
    """Be the only command that changes a machine's system, from its first step to its last.

    Raises:
        RaveError: HOST if another one is at it.
    """
    with paths.lock(
        machines_dir() / f".{check_name(name)}.change.lock",
        busy=f"another rave command is updating machine {name}, or puts it back",
    ):
        yield


def goes_on(name: str) -> bool:
    """Return whether a command that is alive is at it."""
    try:
        with alone(name):
            return False
    except RaveError:
        return True


def refuse(machine: Machine) -> None:
    """Refuse what has to do with a machine's disks while they are being exchanged, or were left so.

    Raises:
        RaveError: HOST.
    """
    change = read(machine)
    if change is None:
        return
    raise RaveError(
        f"{change.told} of machine {machine.name} has not ended",
        hint=f"rave vm status {machine.name} tells more; if no command is at it, rave vm start"
        f" {machine.name} puts it in order",
        exit_code=ExitCode.HOST,
    )


def refuse_half(machine: Machine) -> None:
    """Refuse to run a machine whose files are of two systems.

    Raises:
        RaveError: HOST.
    """
    change = read(machine)
    if change is not None and change.step in ("exchanging", "returning"):
        refuse(machine)
