"""Everything in one go: build the image, launch the machine, install its secrets, prove it.

Whatever exists and is unchanged is used again, so that a second run costs little more than its
smoke suite.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rave_cli.errors import ExitCode, RaveError
from rave_cli.flows import narration
from rave_cli.images.build import build_image
from rave_cli.machines import lifecycle, store
from rave_cli.machines.names import stored_names
from rave_cli.secrets import init, install
from rave_cli.secrets import store as secrets_store

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from pathlib import Path

    from rave_cli.images.archives import Sources
    from rave_cli.images.manifest import Image
    from rave_cli.machines.lifecycle import Ready
    from rave_cli.machines.spec import Machine
    from rave_cli.profiles.catalog import Catalog, Mode, Plan
    from rave_cli.secrets.install import InstallReport
    from rave_cli.show import Progress


@dataclass(frozen=True)
class Talk:
    """How the caller shows what goes on: a progress per step, notes and warnings between them."""

    step: Callable[[str], AbstractContextManager[Progress]]
    note: Callable[[str], None]
    warning: Callable[[str], None]


@dataclass(frozen=True)
class Arrival:
    """A machine that is up, with its secrets."""

    image: Image
    ready: Ready
    installed: InstallReport


def bring_up(
    catalog: Catalog,
    plan: Plan,
    *,
    name: str,
    flake: Path,
    sources: Sources,
    mode: Mode,
    fresh: bool,
    talk: Talk,
) -> Arrival:
    """Build, launch and complete a machine.

    Args:
        catalog: the secrets there should be.
        plan: what the machine's base makes of its profile.
        name: the machine's name.
        flake: directory of the flake.
        sources: what the operator says about package archives.
        mode: resource caps of the build and of a new machine.
        fresh: replace an existing machine; its disk is lost.
        talk: how to show what goes on.

    Raises:
        RaveError: as building, starting and installing do; USAGE if a machine of that name belongs
            to another profile or base.
    """
    with talk.step(f"Building {plan.attr}") as progress:
        image = build_image(
            plan,
            flake=flake,
            mode=mode,
            sources=sources,
            on_event=narration.of_build(progress, talk.warning),
        )
    machine = _machine(plan, image, name=name, mode=mode, fresh=fresh, talk=talk)
    ready = _start(machine, talk)
    return Arrival(image, ready, _install(catalog, machine, plan, talk))


def _machine(
    plan: Plan, image: Image, *, name: str, mode: Mode, fresh: bool, talk: Talk
) -> Machine:
    if name in stored_names():
        machine = store.load(name)
        if not fresh:
            return _unchanged(machine, plan, image, talk)
        lifecycle.delete(name, force=True)
        talk.note(f"machine {name} deleted, to be made anew")
    return store.create(store.new_spec(plan, image, name=name, mode=mode))


def _unchanged(machine: Machine, plan: Plan, image: Image, talk: Talk) -> Machine:
    """Return an existing machine, unless it is not what was asked for."""
    spec = machine.spec
    if (spec.profile, spec.base) != (plan.profile, plan.base):
        raise RaveError(
            f"machine {spec.name} exists already, with profile {spec.profile} on {spec.base}",
            hint=f"rave up --profile {plan.profile} --base {plan.base} --name ANOTHER",
            exit_code=ExitCode.USAGE,
        )
    if spec.image.sha256 != image.sha256:
        talk.warning(
            f"machine {spec.name} was made from an older image; `rave up --fresh` replaces it"
            " (its disk is lost)"
        )
    return machine


def _start(machine: Machine, talk: Talk) -> Ready:
    with talk.step(f"Starting {machine.name}") as progress:
        ready = lifecycle.start(machine, on_stage=narration.of_boot(progress))
    for note in ready.notes:
        talk.note(note)
    return ready


def _install(catalog: Catalog, machine: Machine, plan: Plan, talk: Talk) -> InstallReport:
    file = secrets_store.default_file()
    with talk.step("Installing secrets") as progress:
        made = init.init(file, catalog.secrets)
        if made.made_key:
            talk.note(f"made your age identity {made.key_file}: keep a copy in a safe place")
        if made.added:
            talk.note(f"made {len(made.added)} secrets in {file}")
        return install.install(machine, plan, file, on_event=progress.update)
