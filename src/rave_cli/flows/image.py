"""Get an image: the one that is there, or a build of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rave_cli import paths
from rave_cli.errors import ExitCode, RaveError
from rave_cli.flows.events import step
from rave_cli.images import accepted, locking, sbom
from rave_cli.images import build as builds
from rave_cli.images import lock as locks

if TYPE_CHECKING:
    from rave_cli.flows.events import OnEvent, Step
    from rave_cli.images.events import BuildEvent
    from rave_cli.images.events import OnEvent as OnBuildEvent
    from rave_cli.images.lock import Lock, PackageChange
    from rave_cli.images.manifest import Image
    from rave_cli.profiles.catalog import Plan
    from rave_cli.profiles.names import Mode
    from rave_cli.settings import Settings


def get(
    plan: Plan, settings: Settings, *, mode: Mode, on_event: OnEvent, current: bool = True
) -> Image:
    """Return the image of a plan.

    Args:
        plan: what a base makes of a profile.
        settings: where the flake is.
        mode: resource caps of a build.
        on_event: told what happens.
        current: whether it must be what the checkout around us describes; Nix builds only what has
            changed. Without a checkout, or without `current`, any image of the plan will do.

    Raises:
        RaveError: as `build`.
    """
    if not (current and settings.flake):
        image = builds.existing_image(plan)
        if image is not None:
            return image
    return build(plan, settings, mode=mode, on_event=on_event)


def built(plan: Plan) -> Image:
    """Return the image of a plan without building one.

    Raises:
        RaveError: HOST if there is none.
    """
    image = builds.existing_image(plan)
    if image is None:
        raise RaveError(
            f"there is no image of {plan.profile} on {plan.base} yet",
            hint=f"rave vm build-image --profile {plan.profile} --base {plan.base}",
            exit_code=ExitCode.HOST,
        )
    return image


def build(
    plan: Plan,
    settings: Settings,
    *,
    mode: Mode,
    on_event: OnEvent,
    attr: str | None = None,
    locked: bool = False,
    repair: bool = False,
) -> Image:
    """Build the image of a plan; what is unchanged is not built again.

    Args:
        plan: what a base makes of a profile.
        settings: where the flake is, and where packages come from.
        mode: resource caps of the build.
        on_event: told what happens.
        attr: another package of the flake with such an image.
        locked: fail rather than update the lock of packages.
        repair: check the image's content; build it again if altered.

    Raises:
        RaveError: USAGE without a flake; BUILD or HOST as the build says.
    """
    flake = settings.require_flake()
    with step(on_event, "image", f"Building {attr or plan.attr}") as doing:
        return builds.build_image(
            plan,
            flake=flake,
            mode=mode,
            attr=attr,
            locked=locked,
            repair=repair,
            sources=settings.sources,
            on_event=_telling(doing),
        )


def lock(
    plan: Plan,
    settings: Settings,
    *,
    on_event: OnEvent,
    dry_run: bool = False,
    renew: bool = False,
) -> tuple[Path, tuple[PackageChange, ...]]:
    """Lock the current packages of a plan; return the lock's place and what has changed.

    Args:
        plan: what a base makes of a profile.
        settings: where the flake is, and where packages come from.
        on_event: told what happens.
        dry_run: only tell what would change.
        renew: choose the services' wheels and tarballs anew, too.

    Raises:
        RaveError: USAGE without a flake; HOST or BUILD as apt, pip and npm say.
    """
    flake = settings.require_flake()
    with step(on_event, "image", f"Locking the packages of {plan.profile}") as doing:
        return builds.update_lock(
            plan,
            flake=flake,
            sources=settings.sources,
            dry_run=dry_run,
            renew=renew,
            on_event=_telling(doing),
        )


@dataclass(frozen=True)
class BillOfMaterials:
    """A bill of materials. `of` says in words what it is of."""

    data: bytes
    of: str

    @property
    def sha256(self) -> str:
        """Return its sha256 in hex."""
        return locks.digest(self.data)

    def write(self, place: Path) -> None:
        """Write it to a file.

        Raises:
            RaveError: HOST if that cannot be done.
        """
        paths.atomic_write(place, self.data)


def bill(plan: Plan, settings: Settings, form: str) -> BillOfMaterials:
    """Return the bill of materials of a plan's image: the one that is there, else of the checkout.

    Args:
        plan: of the Debian base.
        settings: where the flake is.
        form: one of sbom.FORMATS.

    Raises:
        RaveError: HOST if there is no image and no checkout; BUILD if the lock is not understood.
    """
    lock, data, of = locked(plan, settings)
    return BillOfMaterials(sbom.FORMATS[form](lock, data, f"rave-{plan.attr}"), of)


def locked(plan: Plan, settings: Settings) -> tuple[Lock, bytes, str]:
    """Return what a plan's image is made of, as it is written, and in words whose it is: that of
    the image that is there, else of the checkout.

    Raises:
        RaveError: as `bill`.
    """
    image = builds.existing_image(plan)
    if image is not None and image.lock_sha256 is not None:
        lock, data = locks.load(Path(image.store_path) / builds.LOCK)
        return lock, data, f"the image {image.qcow2.name}"
    flake = settings.require_flake()
    place = locking.choose(flake, plan.profile).path
    lock, data = locks.load(place)
    if not plan.accepted:
        return lock, data, f"the lock {place}"
    whole = accepted.whole(flake, lock, plan.accepted)
    return whole, locks.render(whole), f"the lock {place} with {', '.join(plan.accepted)}"


def _telling(doing: Step) -> OnBuildEvent:
    def tell(event: BuildEvent) -> None:
        if event.notice:
            for line in event.text.splitlines():
                doing.warning(line)
        else:
            doing.progress(event.text, event.done, event.total)

    return tell
