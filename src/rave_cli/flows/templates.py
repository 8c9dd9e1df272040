"""Get a running machine from a template, or by a boot where none fits; or the one that is there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rave_cli.errors import ExitCode, RaveError
from rave_cli.flows import image as images
from rave_cli.flows import machine as machines
from rave_cli.flows.events import Event, step
from rave_cli.machines import lifecycle, preflight, store
from rave_cli.machines.boot import let_go
from rave_cli.machines.guest.readiness import NAMES, WARM
from rave_cli.machines.names import stored_names
from rave_cli.machines.qemu import accelerator
from rave_cli.machines.templates import kept, making
from rave_cli.machines.templates import warm as warming
from rave_cli.machines.templates.key import key_of, require_base

if TYPE_CHECKING:
    from collections.abc import Callable

    from rave_cli.flows.events import OnEvent
    from rave_cli.flows.machine import NewMachine
    from rave_cli.images.manifest import Image
    from rave_cli.machines.boot import OnLogin
    from rave_cli.machines.lifecycle import Ready
    from rave_cli.machines.spec import Machine, MachineSpec
    from rave_cli.machines.templates.kept import MachineTemplate
    from rave_cli.machines.templates.warm import PutBy
    from rave_cli.settings import Settings


def launch(
    wanted: NewMachine, settings: Settings, *, on_event: OnEvent, wait: bool = True
) -> Ready:
    """Make a machine and start it from a template, which is made if there is none that fits.

    Args:
        wanted: the machine.
        settings: the operator's.
        on_event: told what happens.
        wait: until it is ready; else until it is itself and runs what it is told to.

    Raises:
        RaveError: as `machine.launch` and making a template do; USAGE if its base has no templates.
    """
    require_base(wanted.plan.profile, wanted.plan.base)
    preflight.check_ports(tuple(wanted.forwards))
    if wanted.name in stored_names():
        raise store.taken(wanted.name)
    image = images.get(wanted.plan, settings, mode=wanted.mode, on_event=on_event, current=False)
    spec = wanted.spec(image)
    return _start_warm(warming.create(spec, _get(spec, on_event)), on_event, wait=wait)


def begin(
    wanted: NewMachine,
    settings: Settings,
    *,
    on_event: OnEvent,
    on_made: Callable[[Machine], None] = lambda _machine: None,
) -> Machine:
    """Make a machine and start it from the template that there is; return as soon as its guest is
    itself and takes commands, while its services may still be on their way. `on_made` is told the
    machine before it starts.

    Raises:
        RaveError: HOST if no template fits; as `launch` and `on_made`.
    """
    machine, found = _made_of_template(wanted, settings, on_event)
    on_made(machine)
    with step(on_event, "start", f"Starting {machine.name} from template {found.name}") as doing:
        names = tuple(stage.name for stage in WARM)
        warming.start(machine, found, on_stage=machines.telling(doing, names), wait=False)
    return machine


def put_by(wanted: NewMachine, settings: Settings, *, on_event: OnEvent) -> PutBy:
    """Make a machine, start it from the template that there is, and let it stand still before it is
    told which machine it is.

    Raises:
        RaveError: as `begin`.
    """
    machine, found = _made_of_template(wanted, settings, on_event)
    with step(on_event, "start", f"Putting {machine.name} of template {found.name} by") as doing:
        names = tuple(stage.name for stage in WARM)
        return warming.put_by(machine, found, on_stage=machines.telling(doing, names))


def _made_of_template(
    wanted: NewMachine, settings: Settings, on_event: OnEvent
) -> tuple[Machine, MachineTemplate]:
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
    return warming.create(spec, found), found


def get(wanted: NewMachine, settings: Settings, *, on_event: OnEvent) -> MachineTemplate:
    """Return the template that a machine like this can be started from, made if there is none.

    Raises:
        RaveError: as building an image and starting a machine do; HOST if the one that is there
            was changed.
    """
    require_base(wanted.plan.profile, wanted.plan.base)
    image = images.get(wanted.plan, settings, mode=wanted.mode, on_event=on_event, current=False)
    return _get(wanted.spec(image), on_event)


def _get(spec: MachineSpec, on_event: OnEvent) -> MachineTemplate:
    key = key_of(spec, accelerator.detect())
    found = kept.find(key)
    if found is not None:
        return found
    on_event(Event("note", "template", f"{kept.why_none(key)}; one is made"))
    with step(on_event, "template", f"Making a template of {spec.profile}") as doing:
        return making.make(spec, on_stage=machines.telling(doing, NAMES))


def bring_up(
    wanted: NewMachine,
    image: Image,
    *,
    fresh: bool,
    cold: bool,
    keep_running: bool,
    on_event: OnEvent,
    on_made: Callable[[Machine], None] = lambda _machine: None,
    before: Callable[[Machine], None] | None = None,
    on_login: OnLogin = let_go,
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
        on_made: called with a machine that was made of a template, before it starts from that.
        before: called with a machine that starts from a template and takes commands, before its
            services come up.
        on_login: gets the login that ends such a start.

    Raises:
        RaveError: as `take_up` and `machine.start`.
    """
    there = wanted.name in stored_names() and not fresh
    if not there:
        preflight.check_ports(tuple(wanted.forwards))
    found = None if there or cold else _fitting(wanted.spec(image), on_event)
    machine = take_up(wanted, image, fresh=fresh, on_event=on_event, template=found)
    if found is None:
        return machines.start(machine, on_event=on_event, keep_running=keep_running)
    on_made(machine)
    try:
        return _start_warm(machine, on_event, before=before, on_login=on_login)
    except RaveError as error:
        # It has not run, so its disk is as it was made.
        text = f"{error.message}; it is booted instead"
        on_event(Event("warning", "start", text))
        return machines.start(machine, on_event=on_event, keep_running=keep_running)


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
            f"machine {spec.name} has an older image; `rave vm update {spec.name}` gives it this"
            " one, with its data"
        )
        on_event(Event("warning", "create", text))
    return machine


def _start_warm(
    machine: Machine,
    on_event: OnEvent,
    *,
    wait: bool = True,
    before: Callable[[Machine], None] | None = None,
    on_login: OnLogin = let_go,
) -> Ready:
    """Start a machine that was just made of a template from that."""
    found = kept.find(key_of(machine.spec, accelerator.detect()))
    if found is None:
        return machines.start(machine, on_event=on_event)
    with step(on_event, "start", f"Starting {machine.name} from template {found.name}") as doing:
        names = tuple(stage.name for stage in WARM)
        ready = warming.start(
            machine, found, on_stage=machines.telling(doing, names), wait=wait, before=before,
            on_login=on_login,
        )  # fmt: skip
    for note in ready.notes:
        doing.note(note)
    return ready
