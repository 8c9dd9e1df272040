"""Get a running machine: make it, start it, take up one that is there; and end it again."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from rave_cli import signals
from rave_cli.errors import ExitCode, RaveError
from rave_cli.flows import image as images
from rave_cli.flows.events import Event, step
from rave_cli.machines import lifecycle, preflight, store
from rave_cli.machines.guest.readiness import NAMES, NotReadyError
from rave_cli.machines.names import stored_names
from rave_cli.machines.qemu import accelerator
from rave_cli.machines.spec import check_name, choose_forwards, locate, parse_forward

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rave_cli.flows.events import OnEvent
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
    """A machine that is asked for. None takes the plan's value; memory in MiB, disk in GiB.

    Making one refuses, with USAGE, what no image could mend: a bad name, a bad port.
    """

    plan: Plan
    mode: Mode
    name: str
    memory_mib: int | None = None
    cpus: int | None = None
    disk_gib: int | None = None
    ports: tuple[str, ...] = ()
    network: Network = "isolated"

    def __post_init__(self) -> None:
        check_name(self.name)
        choose_forwards(self.plan, self.forwards)

    @property
    def forwards(self) -> list[Forward]:
        """The host ports that are asked for."""
        return [parse_forward(text) for text in self.ports]

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


def take_up(wanted: NewMachine, image: Image, *, fresh: bool, on_event: OnEvent) -> Machine:
    """Return the machine of that name, made if there is none.

    Args:
        wanted: the machine.
        image: what a new one is made from.
        fresh: replace one that is there; its disk is lost.
        on_event: told what happens.

    Raises:
        RaveError: USAGE if a machine of that name belongs to another profile or base.
    """
    if wanted.name in stored_names():
        machine = store.load(wanted.name)
        if not fresh:
            return _unchanged(machine, wanted.plan, image, on_event)
        lifecycle.delete(wanted.name, force=True)
        on_event(Event("note", "create", f"machine {wanted.name} deleted, to be made anew"))
    return store.create(wanted.spec(image))


def _unchanged(machine: Machine, plan: Plan, image: Image, on_event: OnEvent) -> Machine:
    """Return an existing machine, unless it is not what was asked for."""
    spec = machine.spec
    if (spec.profile, spec.base) != (plan.profile, plan.base):
        raise RaveError(
            f"machine {spec.name} exists already, with profile {spec.profile} on {spec.base}",
            hint=f"rave up --profile {plan.profile} --base {plan.base} --name ANOTHER",
            exit_code=ExitCode.USAGE,
        )
    if spec.image.sha256 != image.sha256:
        text = (
            f"machine {spec.name} was made from an older image; `rave up --fresh` replaces it"
            " (its disk is lost)"
        )
        on_event(Event("warning", "create", text))
    return machine


def start(
    machine: Machine, *, on_event: OnEvent, keep_running: bool = False, title: str | None = None
) -> Ready:
    """Start a machine and wait until it is ready.

    Args:
        machine: the machine.
        on_event: told each stage as it is reached.
        keep_running: leave one that does not become ready running.
        title: what the step is called, instead of the machine's name.

    Raises:
        RaveError: NOT_READY naming the stage, HOST if the host lacks something.
    """
    with step(on_event, "start", title or f"Starting {machine.name}") as doing:

        def tell(stage: Reached) -> None:
            text = f"{stage.name}: {stage.detail}" if stage.detail else stage.name
            doing.progress(text, NAMES.index(stage.name) + 1, len(NAMES))

        ready = lifecycle.start(machine, on_stage=tell, keep_running=keep_running)
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
            doing.warning(
                f"the guest of machine {machine.name} was ended by {report.rung} without shutting"
                " down: what it had not written is lost, its file system recovers at the next start"
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
    plan: Plan, image: Image, *, mode: Mode, network: Network, on_event: OnEvent
) -> Iterator[Machine]:
    """Make and start a machine named after the moment; it is deleted on leaving, interrupts
    included.

    Raises:
        RaveError: as `start`.
    """
    name = f"smoke-{datetime.now(UTC):%Y%m%d-%H%M%S}"
    wanted = NewMachine(plan, mode, name, network=network)
    with signals.held() as hold:
        try:
            with hold.released():
                machine = store.create(wanted.spec(image))
                with _kept_elsewhere(plan):
                    start(machine, on_event=on_event, title="Starting a fresh machine")
                yield machine
        finally:
            if name in stored_names():
                lifecycle.delete(name, force=True)


@contextmanager
def _kept_elsewhere(plan: Plan) -> Iterator[None]:
    """What does not become ready here is deleted: say how to get one that is not."""
    try:
        yield
    except NotReadyError as error:
        error.hint = (
            f"this machine is deleted; rave vm launch-local --profile {plan.profile} --base"
            f" {plan.base} --name LOOK --keep-running makes one to look into"
        )
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
