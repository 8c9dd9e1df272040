"""Make a machine anew of image, secrets and backup, in one go, and say how long it took.

Each step can be killed: what has begun is noted (backups/pending.py), and the same command goes on
with it.
"""

from __future__ import annotations

import json
import secrets
import time
from dataclasses import dataclass, field, replace
from datetime import UTC
from typing import TYPE_CHECKING, Any

from rave_cli.backups import parts, pending
from rave_cli.errors import ExitCode, RaveError
from rave_cli.flows import log as logs
from rave_cli.flows import restore, up
from rave_cli.flows import vault as vaults
from rave_cli.flows.events import Event, step
from rave_cli.flows.machine import NewMachine
from rave_cli.flows.restore import RestoredBackup
from rave_cli.machines import store
from rave_cli.machines.guest import connection
from rave_cli.machines.names import stored_names

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from rave_cli.backups.kept import Backup
    from rave_cli.backups.pending import PendingRestore
    from rave_cli.backups.vault import Vault
    from rave_cli.flows.events import OnEvent
    from rave_cli.flows.log import LogReplay
    from rave_cli.machines.guest.door import Runs
    from rave_cli.machines.spec import Machine
    from rave_cli.profiles.catalog import Catalog
    from rave_cli.settings import Settings

# What the guest's reporter says of itself (rave_guest/ready.py).
STATUS = ("cat", "/run/rave/status.json")
# Seconds in which all services of a restored machine have to be healthy: twice what a boot may take
# (BOOT_PATIENCE there); for one answer; and between two looks.
HEALTHY_WITHIN = 600.0
ANSWERS = 30.0
LOOK = 1.0


@dataclass
class StepClock:
    """Tells events on, and keeps the seconds that each step took."""

    on_event: OnEvent
    now: Callable[[], float] = time.monotonic
    seconds: dict[str, float] = field(default_factory=dict)
    _since: dict[str, float] = field(default_factory=dict)

    def hear(self, event: Event) -> None:
        """Take an event, and tell it on."""
        if event.kind == "begin":
            self._since[event.step] = self.now()
        elif event.kind in ("end", "failed") and event.step in self._since:
            spent = self.now() - self._since.pop(event.step)
            self.seconds[event.step] = self.seconds.get(event.step, 0.0) + spent
        self.on_event(event)


@dataclass(frozen=True)
class RecoveredMachine:
    """A new machine that has what a backup kept, and whose services are all healthy.

    Attributes:
        machine: the machine.
        restored: what was put back.
        rto: seconds from the first call of the command to now.
        rpo: seconds from the moment that it is of to that call: what was told to the machine in
            them is lost, if it ran until then.
        resumed: whether an earlier call had begun it.
        steps: the seconds of each step of this call.
    """

    machine: Machine
    restored: RestoredBackup
    rto: float
    rpo: float
    resumed: bool
    steps: Mapping[str, float]

    def document(self) -> dict[str, Any]:
        """Return it for JSON."""
        return self.restored.document() | {
            "rtoSeconds": round(self.rto, 3),
            "rpoSeconds": round(self.rpo, 3),
            "resumed": self.resumed,
            "stepSeconds": {name: round(spent, 3) for name, spent in self.steps.items()},
        }


def new(
    name: str,
    wanted: str,
    to: str,
    catalog: Catalog,
    settings: Settings,
    *,
    at: datetime | None = None,
    only: tuple[str, ...] = (),
    on_event: OnEvent,
) -> RecoveredMachine:
    """Make a new machine `to` as `rave up` does, with its secrets, put a backup into it, PostgreSQL
    as of the moment `at` if one is named, and wait until it is healthy. If a call of it was killed,
    the next goes on.

    Raises:
        RaveError: USAGE if the name is taken or there is no such backup; as bringing one up, and
            as `restore.into`; NOT_READY if a service is not healthy with it. What is there by then
            stays.
    """
    target = vaults.opened(settings)
    with pending.alone(to):
        under_way, found, resumed = _taken_up(
            target, name, wanted, to, at=at, only=only, on_event=on_event
        )
        vaults.missing_services(found, only)
        restore.demand_log_wanted(_recovery(under_way, target), only)
        if not resumed:
            pending.note(under_way)
        try:
            made = _recovered(under_way, target, found, catalog, settings, on_event=on_event)
        except RaveError as error:
            error.detail += (f"what is done stays; this goes on: {under_way.command}",)
            raise
        pending.end(to)
    return replace(made, resumed=resumed)


def of_backup(
    target: Vault,
    found: Backup,
    to: str,
    catalog: Catalog,
    settings: Settings,
    *,
    since: float,
    on_event: OnEvent,
) -> RecoveredMachine:
    """Make a new machine `to` of a backup for somebody who deletes it, with its record.

    Raises:
        RaveError: as `new`.
    """
    wish = _wish(to, found, (), since, None)
    pending.note(wish)
    return _recovered(wish, target, found, catalog, settings, on_event=on_event)


def _wish(
    to: str, found: Backup, only: tuple[str, ...], since: float, at: datetime | None
) -> PendingRestore:
    instance = secrets.token_hex(16)
    moment = at.astimezone(UTC).strftime(parts.TIME) if at else None
    return pending.PendingRestore(
        to, found.machine, found.name, only, instance, since, put=False, at=moment
    )


def _recovery(under_way: PendingRestore, target: Vault) -> LogReplay | None:
    """Return by which log a restore goes on to its moment; None if that is the backup's."""
    if under_way.at is None:
        return None
    at = parts.moment_of(under_way.at)
    return logs.recovery(target, under_way.machine, at, under_way.backup)[1]


def _recovered(
    under_way: PendingRestore,
    target: Vault,
    found: Backup,
    catalog: Catalog,
    settings: Settings,
    *,
    on_event: OnEvent,
) -> RecoveredMachine:
    clock = StepClock(on_event)
    machine, restored = _done(under_way, target, found, catalog, settings, on_event=clock.hear)
    rto = max(0.0, time.time() - under_way.since)
    moment = restored.at or found.moment
    rpo = max(0.0, under_way.since - moment.timestamp())
    return RecoveredMachine(machine, restored, rto, rpo, False, clock.seconds)


def _taken_up(
    target: Vault,
    name: str,
    wanted: str,
    to: str,
    *,
    at: datetime | None,
    only: tuple[str, ...],
    on_event: OnEvent,
) -> tuple[PendingRestore, Backup, bool]:
    """Return what is to be done, and whether an earlier call has begun it."""
    begun = pending.find(to)
    if to in stored_names():
        if begun is None or store.load(to).spec.instance_id != begun.instance:
            raise store.taken(to)
    else:
        # Nothing of it is there: it is no more than a wish.
        begun = None
    if begun is None and at is not None:
        found, _ = logs.recovery(target, name, at, wanted)
        return _wish(to, found, only, time.time(), at), found, False
    if begun is None:
        found = vaults.find(target.listing(), name, wanted)
        return _wish(to, found, only, time.time(), None), found, False
    listing = target.listing()
    # There may be a later one by now.
    same = (wanted, name) == ("latest", begun.machine)
    same = same or vaults.find(listing, name, wanted).name == begun.backup
    same = same and (parts.moment_of(begun.at) if begun.at else None) == at
    if not same or set(only) != set(begun.only):
        raise RaveError(
            f"machine {to} is being made of {begun.backup}, which has not ended",
            hint=f"{begun.command}   (goes on); or --to ANOTHER",
            exit_code=ExitCode.USAGE,
        )
    age = time.time() - begun.since
    on_event(
        Event("note", "restore", f"goes on with {begun.backup}, which a call {age:.0f} s ago began")
    )
    return begun, vaults.find(listing, name, begun.backup), True


def _done(
    under_way: PendingRestore,
    target: Vault,
    found: Backup,
    catalog: Catalog,
    settings: Settings,
    *,
    on_event: OnEvent,
) -> tuple[Machine, RestoredBackup]:
    """Do what is not done yet; all of it can be done twice."""
    plan = catalog.plan(found.profile, found.base)
    wanted = NewMachine(plan, settings.mode, name=under_way.to, instance_id=under_way.instance)
    made = up.up(wanted, catalog, settings, fresh=False, check=False, on_event=on_event)
    machine = made.ready.machine
    if under_way.put:
        at = parts.moment_of(under_way.at) if under_way.at else None
        restored = RestoredBackup(machine.name, found, under_way.only or found.services, 0.0, at)
    else:
        restored = restore.put(
            machine, target, found, only=under_way.only, recovery=_recovery(under_way, target),
            on_event=on_event,
        )  # fmt: skip
        pending.note(replace(under_way, put=True))
    with step(on_event, "health", f"Waiting until {machine.name} is healthy"):
        wait_until_healthy(machine)
    return machine, restored


def wait_until_healthy(machine: Machine) -> None:
    """Wait until the guest says that all its services are healthy.

    Raises:
        RaveError: NOT_READY with those that are not, after HEALTHY_WITHIN seconds.
    """
    until = time.monotonic() + HEALTHY_WITHIN
    with connection.connect(machine) as session:
        while unwell := _unwell(session):
            if time.monotonic() > until:
                raise RaveError(
                    f"machine {machine.name} has what was kept, and is not healthy with it:"
                    f" {', '.join(unwell)}",
                    hint=f"rave vm status {machine.name}; rave vm logs {machine.name}",
                    exit_code=ExitCode.NOT_READY,
                )
            time.sleep(LOOK)


def _unwell(session: Runs) -> list[str]:
    """Return which services are not healthy, as the guest says."""
    done = session.run(STATUS, timeout=ANSWERS)
    try:
        found = json.loads(done.stdout)
        if found["state"] == "healthy":
            return []
        states = {str(name): str(one["state"]) for name, one in found["services"].items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return ["it does not say how it is"]
    unwell = [f"{name} ({state})" for name, state in states.items() if state != "healthy"]
    return unwell or [f"{name} has failed" for name in map(str, found.get("failed", ()))] or ["it"]
