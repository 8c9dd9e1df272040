"""Get a running machine: make it and boot it; and end it again. From a template: templates.py."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

from rave_cli import signals
from rave_cli.flows import certificates, unsettled
from rave_cli.flows import image as images
from rave_cli.flows.events import Event, step
from rave_cli.machines import causes, lifecycle, preflight, public, store
from rave_cli.machines.guest.readiness import CORE, NAMES, NotReadyError
from rave_cli.machines.names import stored_names
from rave_cli.machines.qemu import accelerator
from rave_cli.machines.spec import check_name, choose_forwards, locate, parse_forward

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rave_cli.flows.events import OnEvent, Step
    from rave_cli.images.manifest import Image
    from rave_cli.machines.guest.readiness import Reached
    from rave_cli.machines.lifecycle import Ready
    from rave_cli.machines.qemu.stop import StopReport
    from rave_cli.machines.spec import Forward, Machine, MachineSpec, Network
    from rave_cli.profiles.catalog import Plan
    from rave_cli.profiles.names import Mode
    from rave_cli.settings import Settings


@dataclass(frozen=True)
class NewMachine:
    """A machine that is asked for. None takes the plan's value; memory in MiB, disk in GiB; of
    `instance_id` it takes a new one.

    Making one refuses, with USAGE, what no image could mend: a bad name, port or origin.
    """

    plan: Plan
    mode: Mode
    name: str
    memory_mib: int | None = None
    cpus: int | None = None
    disk_gib: int | None = None
    ports: tuple[str, ...] = ()
    network: Network = "isolated"
    origin: str | None = None
    has_cache: bool = False
    instance_id: str | None = None

    def __post_init__(self) -> None:
        check_name(self.name)
        choose_forwards(self.plan, self.forwards)
        _ = self.own_origin

    @property
    def forwards(self) -> list[Forward]:
        """The host ports that are asked for."""
        return [parse_forward(text) for text in self.ports]

    @property
    def own_origin(self) -> str | None:
        """The public origin that is asked for, as it is kept."""
        return None if self.origin is None else public.parse(self.origin)

    def spec(self, image: Image) -> MachineSpec:
        """Return the specification of this machine, made from an image.

        Raises:
            RaveError: USAGE for a bad size.
        """
        return store.new_spec(
            self.plan,
            image,
            name=self.name,
            mode=self.mode,
            memory_mib=self.memory_mib,
            cpus=self.cpus,
            disk_gib=self.disk_gib,
            forwards=self.forwards,
            network=self.network,
            own_origin=self.own_origin,
            has_cache=self.has_cache,
            instance_id=self.instance_id,
        )


def create(wanted: NewMachine, settings: Settings, *, on_event: OnEvent) -> Machine:
    """Make a machine; an image is built if there is none.

    Raises:
        RaveError: USAGE if the name is taken or a size is bad; as building does; HOST if the disk
            is full or a tool is missing.
    """
    # A build takes minutes: what can be refused without it is refused before it.
    if wanted.name in stored_names():
        raise store.taken(wanted.name)
    image = images.get(wanted.plan, settings, mode=wanted.mode, on_event=on_event, current=False)
    machine = store.create(wanted.spec(image))
    on_event(Event("note", "create", f"machine {machine.name} created"))
    return machine


def launch(
    wanted: NewMachine, settings: Settings, *, on_event: OnEvent, keep_running: bool = False
) -> Ready:
    """Make a machine and start it.

    Raises:
        RaveError: as `create` and `start`; HOST if a port that is asked for is taken.
    """
    preflight.check_ports(tuple(wanted.forwards))
    machine = create(wanted, settings, on_event=on_event)
    return start(machine, on_event=on_event, keep_running=keep_running)


def telling(doing: Step, names: tuple[str, ...]) -> Callable[[Reached], None]:
    """Return what tells each stage of a start as progress of a step."""

    def tell(stage: Reached) -> None:
        text = f"{stage.name}: {stage.detail}" if stage.detail else stage.name
        # What comes up in between is no stage of its own.
        number = names.index("services" if stage.name == CORE else stage.name)
        doing.progress(text, number + (stage.name != CORE), len(names))

    return tell


def start(
    machine: Machine,
    *,
    on_event: OnEvent,
    keep_running: bool = False,
    fresh_system: bool = False,
    title: str | None = None,
) -> Ready:
    """Start a machine and wait until it is ready.

    Args:
        machine: the machine.
        on_event: told each stage as it is reached.
        keep_running: leave one that does not become ready running.
        fresh_system: give up what its system's disk has beside the image before; its data stay.
        title: what the step is called, instead of the machine's name.

    Raises:
        RaveError: NOT_READY naming the stage, HOST if the host lacks something; USAGE if the system
            cannot be fresh. What a killed update has left is put in order before.
    """
    machine = unsettled.settle(machine, on_event=on_event)
    return boot(
        machine, on_event=on_event, keep_running=keep_running, fresh_system=fresh_system,
        title=title,
    )  # fmt: skip


def boot(
    machine: Machine,
    *,
    on_event: OnEvent,
    keep_running: bool = False,
    fresh_system: bool = False,
    title: str | None = None,
) -> Ready:
    """Start a machine as it is, for whoever may be about to update it; else as `start`.

    Raises:
        RaveError: as `start`.
    """
    with step(on_event, "start", title or f"Starting {machine.name}") as doing:
        start = partial(
            lifecycle.start, machine, on_stage=telling(doing, NAMES), keep_running=keep_running
        )
        try:
            ready = start(fresh_system=fresh_system)
        except NotReadyError as fault:
            if fault.reason != causes.LOCKED_UP or keep_running:
                raise
            # Of an emulator's hiccup the guest knows nothing once it is started anew.
            doing.warning(f"{fault.message}; it is started once more")
            ready = start()
    if ready.joined:
        # It may have run for long.
        certificates.refresh(ready.machine, on_event=on_event)
    for note in ready.notes:
        doing.note(note)
    return ready


def stop(machine: Machine, *, on_event: OnEvent, patience: float | None = None) -> StopReport:
    """Stop a machine; `patience` seconds (None: the usual) are given to the guest's own shutdown.

    Raises:
        RaveError: HOST if even SIGKILL does not end QEMU.
    """
    with step(on_event, "stop", f"Stopping {machine.name}") as doing:
        report = lifecycle.stop(machine, patience=patience, on_rung=doing.progress)
        if report.hard:
            stood = f" (QEMU did not run it: {report.still})" if report.still else ""
            doing.warning(
                f"the guest of machine {machine.name} was ended by {report.rung} without shutting"
                f" down{stood}: what it had not written is lost, its file system recovers at the"
                " next start"
            )
    return report


def restart(
    machine: Machine,
    *,
    on_event: OnEvent,
    patience: float | None = None,
    keep_running: bool = False,
) -> tuple[StopReport, Ready]:
    """Stop a machine, if it runs, and start it again.

    Raises:
        RaveError: as `stop` and `start`.
    """
    report = stop(machine, on_event=on_event, patience=patience)
    return report, start(machine, on_event=on_event, keep_running=keep_running)


@contextmanager
def fresh(
    plan: Plan,
    image: Image,
    *,
    mode: Mode,
    network: Network,
    on_event: OnEvent,
    on_unready: Callable[[Machine, NotReadyError], None] = lambda _machine, _error: None,
) -> Iterator[Machine]:
    """Make and start a machine named after the moment; it is deleted on leaving, interrupts
    included. One that does not become ready is told to `on_unready` before.

    Raises:
        RaveError: as `start`.
    """
    name = f"smoke-{datetime.now(UTC):%Y%m%d-%H%M%S}"
    wanted = NewMachine(plan, mode, name, network=network)
    with signals.held() as hold:
        try:
            with hold.released():
                machine = store.create(wanted.spec(image))
                with _kept_elsewhere(plan, lambda error: on_unready(machine, error)):
                    start(machine, on_event=on_event, title="Starting a fresh machine")
                yield machine
        finally:
            if name in stored_names():
                lifecycle.delete(name, force=True)


@contextmanager
def _kept_elsewhere(plan: Plan, on_unready: Callable[[NotReadyError], None]) -> Iterator[None]:
    """What does not become ready here is deleted: say how to get one that is not."""
    try:
        yield
    except NotReadyError as error:
        error.hint = (
            f"this machine is deleted; rave vm launch-local --profile {plan.profile} --base"
            f" {plan.base} --name LOOK --keep-running makes one to look into"
        )
        on_unready(error)
        raise


def dry_run(wanted: NewMachine) -> tuple[str, ...]:
    """Return the command that would start such a machine, of an image that is built already.

    Raises:
        RaveError: HOST if there is no image.
    """
    return command(locate(wanted.spec(images.built(wanted.plan))))


def command(machine: Machine) -> tuple[str, ...]:
    """Return the exact command that starting a machine would run now."""
    return lifecycle.command(machine, accelerator.detect())
