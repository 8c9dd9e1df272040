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
from rave_cli.machines import lifecycle, preflight, public, store
from rave_cli.machines.guest.readiness import NAMES, WARM, NotReadyError
from rave_cli.machines.names import stored_names
from rave_cli.machines.qemu import accelerator
from rave_cli.machines.spec import check_name, choose_forwards, locate, parse_forward
from rave_cli.machines.templates import kept, making
from rave_cli.machines.templates import warm as warming
from rave_cli.machines.templates.key import key_of, require_base

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rave_cli.flows.events import OnEvent, Step
    from rave_cli.images.manifest import Image
    from rave_cli.machines.guest.readiness import Reached
    from rave_cli.machines.lifecycle import Ready
    from rave_cli.machines.qemu.stop import StopReport
    from rave_cli.machines.spec import Forward, Machine, MachineSpec, Network
    from rave_cli.machines.templates.kept import MachineTemplate
    from rave_cli.profiles.catalog import Plan
    from rave_cli.profiles.names import Mode
    from rave_cli.settings import Settings


@dataclass(frozen=True)
class NewMachine:
    """A machine that is asked for. None takes the plan's value; memory in MiB, disk in GiB.

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


def warm(wanted: NewMachine, settings: Settings, *, on_event: OnEvent, wait: bool = True) -> Ready:
    """Make a machine and start it from a template, which is made if there is none that fits.

    Args:
        wanted: the machine.
        settings: the operator's.
        on_event: told what happens.
        wait: until it is ready; else until it is itself and runs what it is told to.

    Raises:
        RaveError: as `create`, `start` and making a template do; USAGE if its base has no
            templates.
    """
    require_base(wanted.plan.profile, wanted.plan.base)
    preflight.check_ports(tuple(wanted.forwards))
    if wanted.name in stored_names():
        raise store.taken(wanted.name)
    image = images.get(wanted.plan, settings, mode=wanted.mode, on_event=on_event, current=False)
    spec = wanted.spec(image)
    return _start_warm(warming.create(spec, _template(spec, on_event)), on_event, wait=wait)


def begin(wanted: NewMachine, settings: Settings, *, on_event: OnEvent) -> Machine:
    """Make a machine and start it from the template that there is; return as soon as its guest is
    itself and takes commands, while its services may still be on their way.

    Raises:
        RaveError: HOST if no template fits; as `warm`.
    """
    image = images.get(wanted.plan, settings, mode=wanted.mode, on_event=on_event, current=False)
    spec = wanted.spec(image)
    key = key_of(spec, accelerator.detect())
    found = kept.find(key)
    if found is None:
        raise RaveError(
            f"{kept.why_none(key)}, and a machine that is to begin at once is not booted",
            hint=f"rave vm template create --profile {spec.profile} --base {spec.base}",
            exit_code=ExitCode.HOST,
        )
    machine = warming.create(spec, found)
    with step(on_event, "start", f"Starting {machine.name} from template {found.name}") as doing:
        names = tuple(stage.name for stage in WARM)
        warming.start(machine, found, on_stage=_telling(doing, names), wait=False)
    return machine


def template(wanted: NewMachine, settings: Settings, *, on_event: OnEvent) -> MachineTemplate:
    """Return the template that a machine like this can be started from, made if there is none.

    Raises:
        RaveError: as building an image and starting a machine do; HOST if the one that is there
            was changed.
    """
    require_base(wanted.plan.profile, wanted.plan.base)
    image = images.get(wanted.plan, settings, mode=wanted.mode, on_event=on_event, current=False)
    return _template(wanted.spec(image), on_event)


def _template(spec: MachineSpec, on_event: OnEvent) -> MachineTemplate:
    key = key_of(spec, accelerator.detect())
    found = kept.find(key)
    if found is not None:
        return found
    on_event(Event("note", "template", f"{kept.why_none(key)}; one is made"))
    with step(on_event, "template", f"Making a template of {spec.profile}") as doing:
        return making.make(spec, on_stage=_telling(doing, NAMES))


def _start_warm(machine: Machine, on_event: OnEvent, *, wait: bool = True) -> Ready:
    """Start a machine that was just made of a template from that."""
    found = kept.find(key_of(machine.spec, accelerator.detect()))
    if found is None:
        return start(machine, on_event=on_event)
    with step(on_event, "start", f"Starting {machine.name} from template {found.name}") as doing:
        names = tuple(stage.name for stage in WARM)
        ready = warming.start(machine, found, on_stage=_telling(doing, names), wait=wait)
    for note in ready.notes:
        doing.note(note)
    return ready


def _telling(doing: Step, names: tuple[str, ...]) -> Callable[[Reached], None]:
    """Return what tells each stage of a start as progress of a step."""

    def tell(stage: Reached) -> None:
        text = f"{stage.name}: {stage.detail}" if stage.detail else stage.name
        doing.progress(text, names.index(stage.name) + 1, len(names))

    return tell


def bring_up(
    wanted: NewMachine,
    image: Image,
    *,
    fresh: bool,
    cold: bool,
    keep_running: bool,
    on_event: OnEvent,
) -> Ready:
    """Return the machine of that name, running: as it is, or made anew and started from a template
    if there is one that fits, else booted.

    Args:
        wanted: the machine.
        image: what a new one is made from.
        fresh: replace one that is there; its disk is lost.
        cold: boot it in any case.
        keep_running: leave one that does not become ready running.
        on_event: told what happens.

    Raises:
        RaveError: as `take_up` and `start`.
    """
    there = wanted.name in stored_names() and not fresh
    if not there:
        preflight.check_ports(tuple(wanted.forwards))
    found = None if there or cold else _fitting(wanted.spec(image), on_event)
    machine = take_up(wanted, image, fresh=fresh, on_event=on_event, template=found)
    if found is None:
        return start(machine, on_event=on_event, keep_running=keep_running)
    try:
        return _start_warm(machine, on_event)
    except RaveError as error:
        # It has not run, so its disk is as it was made.
        text = f"{error.message}; it is booted instead"
        on_event(Event("warning", "start", text))
        return start(machine, on_event=on_event, keep_running=keep_running)


def _fitting(spec: MachineSpec, on_event: OnEvent) -> MachineTemplate | None:
    """Return a template that such a machine can be started from; one that was changed is none."""
    try:
        return kept.find(key_of(spec, accelerator.detect()))
    except RaveError as error:
        if error.exit_code != ExitCode.USAGE:
            on_event(Event("warning", "start", f"{error.message}; {error.hint}"))
        return None


def take_up(
    wanted: NewMachine,
    image: Image,
    *,
    fresh: bool,
    on_event: OnEvent,
    template: MachineTemplate | None = None,
) -> Machine:
    """Return the machine of that name, made if there is none.

    Args:
        wanted: the machine.
        image: what a new one is made from.
        fresh: replace one that is there; its disk is lost.
        on_event: told what happens.
        template: what a new one is made of, instead of the image alone.

    Raises:
        RaveError: USAGE if a machine of that name belongs to another profile or base.
    """
    if wanted.name in stored_names():
        machine = store.load(wanted.name)
        if not fresh:
            return _unchanged(machine, wanted, image, on_event)
        lifecycle.delete(wanted.name, force=True)
        on_event(Event("note", "create", f"machine {wanted.name} deleted, to be made anew"))
    spec = wanted.spec(image)
    return store.create(spec) if template is None else warming.create(spec, template)


def _unchanged(machine: Machine, wanted: NewMachine, image: Image, on_event: OnEvent) -> Machine:
    """Return an existing machine, unless it is not what was asked for."""
    spec, plan = machine.spec, wanted.plan
    if (spec.profile, spec.base) != (plan.profile, plan.base):
        raise RaveError(
            f"machine {spec.name} exists already, with profile {spec.profile} on {spec.base}",
            hint=f"rave up --profile {plan.profile} --base {plan.base} --name ANOTHER",
            exit_code=ExitCode.USAGE,
        )
    asked = {forward for forward in wanted.forwards if forward.host}
    if not asked <= set(spec.forwards) or wanted.own_origin not in (None, spec.own_origin):
        raise RaveError(
            f"machine {spec.name} exists already, with public origin"
            f" {spec.public_origin or 'none'}: ports and origin are chosen when it is made",
            hint=f"rave up --name {spec.name}   (as it is); or --name ANOTHER with these options",
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
        ready = lifecycle.start(machine, on_stage=_telling(doing, NAMES), keep_running=keep_running)
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
