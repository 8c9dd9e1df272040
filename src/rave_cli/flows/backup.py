"""Back machines up: what their services keep goes through the door into a folder of this host.

The guest makes it consistent and sends it; what keeps it runs here (docs/adr/0036), so that no
guest ever holds the key, or can take a backup away.
"""

from __future__ import annotations

import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rave_cli import paths
from rave_cli.backups import ledger, schedule
from rave_cli.backups.kept import FACTS, STREAM, TIME, Backup, new_name
from rave_cli.backups.stream import KnownPieces, StateStream
from rave_cli.errors import ExitCode, RaveError
from rave_cli.flows import vault
from rave_cli.flows.asking import LONGEST, PROGRAM, SAFE_RATE, demand, given, request, unusable
from rave_cli.flows.events import Event, step
from rave_cli.machines import store
from rave_cli.machines.guest import connection
from rave_cli.machines.guest.door import Door, VerbRefusedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rave_cli.backups.vault import Vault
    from rave_cli.flows.events import OnEvent, Step
    from rave_cli.machines.guest.channel import CommandChannel
    from rave_cli.machines.guest.door import Runs
    from rave_cli.machines.guest.session import Session
    from rave_cli.machines.spec import Machine
    from rave_cli.settings import Settings

ANSWERS = 60.0  # seconds for the guest to say what there is
TELLS = 0.2  # seconds between two tellings of how far it is


@dataclass(frozen=True)
class BackedUp:
    """A new backup, and the seconds that it took."""

    backup: Backup
    seconds: float

    def document(self) -> dict[str, Any]:
        """Return it for JSON."""
        facts = self.backup.document()
        return facts | {"seconds": round(self.seconds, 3), "window": self.backup.window}


def now(name: str, settings: Settings, *, on_event: OnEvent) -> BackedUp:
    """Back a running machine up.

    Raises:
        RaveError: USAGE if it keeps nothing; NOT_READY if it does not send all of it; HOST if the
            folder cannot be written; SECRETS if its key cannot be had. No backup is made then.
    """
    machine = store.load(name)
    keeps_something(machine)

    def untold(fault: RaveError) -> None:
        on_event(Event("warning", "backup", f"it cannot be noted: {fault.message}"))

    with ledger.noted(name, "made", untold) as about_it:
        done = make(machine, settings, on_event=on_event, on_made=_tell)
        about_it(done.backup.name)
    return done


def make(
    machine: Machine,
    settings: Settings,
    *,
    on_event: OnEvent,
    on_made: Callable[[Machine, Runs, Backup, Step], None] = lambda *_: None,
) -> BackedUp:
    """Make a backup that is noted nowhere else; `on_made` is called as soon as it is whole, with
    the connection to the machine.

    Raises:
        RaveError: as `now`.
    """
    name, began = machine.name, time.monotonic()
    with connection.connect(machine) as session:
        there = about(machine, session)
        target = vault.opened_or_made(settings, on_event)
        with (
            step(on_event, "backup", f"Backing {name} up") as doing,
            target.changing(patient=True),
        ):
            with _known(machine, target, doing) as known:
                stream = StateStream(_most(there), known=known)
                asked = request(
                    "keep",
                    rate=SAFE_RATE if settings.mode == "safe" else 0,
                    known=known.names,
                    nonce=known.nonce,
                )
                backup = _stored(machine, session, target, doing, stream=stream, asked=asked)
            with target.engine.store(FACTS, host=name, tags=backup.tags()) as facts:
                facts.write(backup.text())
                facts.finish()
            on_made(machine, session, backup, doing)
    return BackedUp(backup, time.monotonic() - began)


def _tell(machine: Machine, session: Runs, backup: Backup, doing: Step) -> None:
    """Tell the guest what there is of it, by which its alerts go; the backup stands if it does not
    hear it.
    """
    try:
        planned = schedule.load().of(machine.name)
        at = int(backup.moment.timestamp())
        restored = ledger.load(machine.name).restored
        kept = {
            "at": at,
            "due": at + planned.allowed if planned else None,
            "restored": int(restored.well) if restored and restored.well else None,
        }
        said = {name: value for name, value in kept.items() if value is not None}
        Door.of(machine, session).call("state", {"kept": said}, timeout=ANSWERS)
    except RaveError as error:
        doing.note(f"the machine does not hear of its backup: {error.message}")


def keeps_something(machine: Machine) -> None:
    """Refuse a machine that has nothing that could be backed up.

    Raises:
        RaveError: USAGE.
    """
    plan = store.plan(machine)
    if plan is None or not any(service.state for service in plan.services.values()):
        spec = machine.spec
        raise RaveError(
            f"machine {machine.name} has nothing that can be backed up: {spec.profile} on"
            f" {spec.base} does not say what its services keep",
            hint="rave up --profile demo --base debian makes one that can; rave vm cp copies files",
            exit_code=ExitCode.USAGE,
        )


def about(machine: Machine, session: Runs) -> dict[str, Any]:
    """Ask the guest what there is to keep.

    Raises:
        RaveError: HOST if its image is from before backups; NOT_READY if it does not answer.
    """
    try:
        return Door.of(machine, session).call("state", {}, timeout=ANSWERS)
    except VerbRefusedError as error:
        if error.stage != "request":
            raise
        raise RaveError(
            f"machine {machine.name} was made by an older rave, whose guests keep no backups",
            hint=f"rave vm cp --sudo {machine.name}:/var/lib FOLDER copies what it has",
            exit_code=ExitCode.HOST,
        ) from error


def _most(about: dict[str, Any]) -> int:
    """Return how many bytes the guest may send: it cannot be let fill this host's disk."""
    services = about.get("services")
    sizes = services.values() if isinstance(services, dict) else ()
    return 2 * sum(size for size in sizes if isinstance(size, int) and size > 0) + vault.MOST_MORE


def _stored(
    machine: Machine,
    session: CommandChannel | Session,
    target: Vault,
    doing: Step,
    *,
    stream: StateStream,
    asked: bytes,
) -> Backup:
    """Let the guest send what it keeps, and the engine keep it; nothing names it yet."""
    spec = machine.spec
    told, said = [time.monotonic()], bytearray()
    with target.engine.store(STREAM, host=machine.name, tags=("rave-state",)) as storing:

        def take(number: int, data: bytes) -> None:
            if number != 1:
                said.extend(data[: 4096 - len(said)])
                return
            storing.write(stream.feed(data))
            if time.monotonic() - told[0] > TELLS:
                told[0] = time.monotonic()
                doing.progress(f"{stream.size >> 20} MiB", stream.size)

        with given(asked) as source:
            session.stream(PROGRAM, stdin=source, on_output=take, timeout=LONGEST, sudo=True)
        demand(machine, stream.refusal, said)
        stream.finish()
        if stream.instance != spec.instance_id:
            raise unusable(machine, "it says that it is another machine")
        kept = storing.finish()
    moments = [item.at for item in stream.items] or [time.strftime(TIME, time.gmtime())]
    return Backup(
        new_name(machine.name, min(moments)), machine.name, spec.instance_id, spec.profile,
        spec.base, min(moments), max(moments), stream.services,
        sum(item.size for item in stream.items), stream.sha256, kept,
    )  # fmt: skip


@contextmanager
def _known(machine: Machine, target: Vault, doing: Step) -> Iterator[KnownPieces]:
    """Yield the pieces of the machine's last backup; none of one that cannot be read."""
    # On the disk where the machine's own lies, which holds the same.
    with tempfile.TemporaryFile(dir=paths.make_dir(paths.data_dir())) as place:
        known = KnownPieces(place)
        mine = [one for one in target.listing().backups if one.instance == machine.spec.instance_id]
        try:
            for backup in mine[-1:]:
                vault.read_through(target, backup, known.add)
        except RaveError as error:
            doing.warning(f"the backup before cannot be read, so all is sent: {error.message}")
            known = KnownPieces(place)
        yield known
