"""What a machine's PostgreSQL holds, written as SQL by itself: before an update to a system whose
server is of another major release, which reads no other's files.

The program is sent to the guest (rave_guest/state/dump.py), so that each image can be left. What
comes of it lies on the data disk, where the new system finds it (rave_guest/state/load.py).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rave_cli.errors import ExitCode, RaveError
from rave_cli.flows.events import step
from rave_cli.images import difference
from rave_cli.machines.guest import connection
from rave_cli.machines.qemu import processes
from rave_cli.text import clean
from rave_guest.state import dump as program

if TYPE_CHECKING:
    from rave_cli.flows.events import OnEvent
    from rave_cli.machines.spec import Machine

# Seconds to say how large it is; for services to stop and a server to start; and the bytes of a
# second that even an emulated, busy processor dumps.
LOOKS, BESIDE, PACE = 60.0, 900.0, 128 << 10


@dataclass(frozen=True)
class DumpRoom:
    """Bytes: what PostgreSQL's databases take, what there must be free to dump and load them, and
    what is free on the data disk.
    """

    bytes: int
    needed: int
    free: int

    @property
    def document(self) -> dict[str, int]:
        """What `--json` shows."""
        return {"bytes": self.bytes, "neededBytes": self.needed, "freeBytes": self.free}


def look(machine: Machine) -> DumpRoom | None:
    """Return the room that a dump takes; None of a machine that does not run.

    Raises:
        RaveError: NOT_READY if the guest does not say so.
    """
    if processes.find(machine) is None:
        return None
    found = _asked(machine, "look", LOOKS)
    try:
        return DumpRoom(*(int(found[name]) for name in ("bytes", "needed", "free")))
    except (KeyError, TypeError, ValueError) as error:
        raise _unclear(machine) from error


def require(machine: Machine) -> DumpRoom:
    """Return the room that a dump takes, and that there is.

    Raises:
        RaveError: USAGE if the machine does not run; HOST if its data disk has too little room;
            NOT_READY if the guest does not say so.
    """
    name, room = machine.name, look(machine)
    if room is None:
        raise RaveError(
            f"machine {name} does not run: its PostgreSQL has to dump its databases, for that of"
            " the new image is of another major release",
            hint=f"rave vm start {name}",
            exit_code=ExitCode.USAGE,
        )
    if room.free < room.needed:
        wanted = -(-(room.needed - room.free) // (1 << 30))
        raise RaveError(
            f"machine {name} has {room.free >> 20} MiB free on its data disk, and PostgreSQL's"
            f" databases take {room.needed >> 20} MiB more while they are dumped and loaded anew",
            hint=f"rave vm set {name} --disk {machine.spec.disk_gib + wanted}",
            exit_code=ExitCode.HOST,
        )
    return room


def dump(machine: Machine, room: DumpRoom, *, on_event: OnEvent) -> None:
    """Let PostgreSQL write what it holds. Nothing uses it from then on until the machine boots.

    Raises:
        RaveError: NOT_READY if it does not; its own words.
    """
    with step(on_event, "dump", f"Dumping PostgreSQL's databases of {machine.name}") as doing:
        found = _asked(machine, "write", BESIDE + room.bytes / PACE)
        names, size = found.get("databases"), found.get("bytes")
        if not isinstance(names, list) or not isinstance(size, int):
            raise _unclear(machine)
        doing.progress(f"{len(names)} databases, {size >> 20} MiB")


def _asked(machine: Machine, verb: str, seconds: float) -> dict[str, Any]:
    """Run the program in the guest, and return what it says."""
    text = Path(program.__file__).read_bytes()
    argv = ("python3", "-I", "-", verb, _cluster(machine))
    with connection.connect(machine) as session:
        done = session.run(argv, stdin=text, timeout=seconds, sudo=True)
    if not done.ok:
        said = clean(" ".join(done.tail(1))).removeprefix("rave: ")[:300]
        raise RaveError(
            f"PostgreSQL of machine {machine.name} cannot be dumped: {said or 'it says nothing'}",
            hint=f"rave vm logs {machine.name} postgresql",
            exit_code=ExitCode.NOT_READY,
        )
    try:
        found = json.loads(done.stdout)
    except (ValueError, RecursionError) as error:
        raise _unclear(machine) from error
    if not isinstance(found, dict):
        raise _unclear(machine)
    return found


def _cluster(machine: Machine) -> str:
    found = difference.cluster_of(machine.spec.image)
    if found is None:
        raise _unclear(machine)
    return found


def _unclear(machine: Machine) -> RaveError:
    return RaveError(
        f"machine {machine.name} does not say what its PostgreSQL holds",
        hint=f"rave vm logs {machine.name} postgresql",
        exit_code=ExitCode.NOT_READY,
    )
