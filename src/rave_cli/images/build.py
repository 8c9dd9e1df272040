"""From a plan to an image: reuse what is built, else fetch the closure, build and record it."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rave_cli import paths
from rave_cli.errors import ExitCode, RaveError
from rave_cli.images import accepted, carried, closure, locking, rootless
from rave_cli.images import lock as locks
from rave_cli.images.archives import Sources
from rave_cli.images.closure import Supply
from rave_cli.images.events import BuildEvent, ignore
from rave_cli.images.manifest import (
    DATA,
    BootMethod,
    Image,
    check_image,
    load_image,
    quick_check,
    save_image,
    sha256,
)
from rave_cli.images.nix import Nix, builds_in_vms
from rave_cli.images.nixfaults import no_kvm
from rave_cli.profiles.source import installable
from rave_cli.records import DamagedRecordError

if TYPE_CHECKING:
    from rave_cli.images.accepted import AcceptedLock
    from rave_cli.images.events import OnEvent
    from rave_cli.images.nix import Output
    from rave_cli.profiles.catalog import Plan
    from rave_cli.profiles.names import Mode

NO_SOURCES = Sources()

# The lock of an image's packages, in its output.
LOCK = "lock.json"


@dataclass(frozen=True)
class ImagePlace:
    """Where rave keeps what it knows of one image."""

    attr: str

    @property
    def directory(self) -> Path:
        """The directory of all images' records."""
        return paths.state_dir() / "images"

    @property
    def out_link(self) -> Path:
        """The link into the Nix store; a garbage-collection root."""
        return self.directory / self.attr

    @property
    def manifest(self) -> Path:
        """The manifest."""
        return self.directory / f"{self.attr}.json"

    @property
    def plan(self) -> Path:
        """The plan of an image whose output does not say its own: one of an older flake."""
        return self.directory / f"{self.attr}.plan.json"

    @property
    def scratch(self) -> Path:
        """Where its builders work; on a disk, for an image is larger than many a tmpfs."""
        return paths.cache_dir() / "build" / self.attr

    @property
    def lock(self) -> Path:
        """The file that keeps two builds of one image apart."""
        return self.directory / f"{self.attr}.lock"


def build_image(
    plan: Plan,
    *,
    flake: Path,
    mode: Mode,
    attr: str | None = None,
    locked: bool = False,
    repair: bool = False,
    sources: Sources = NO_SOURCES,
    on_event: OnEvent = ignore,
) -> Image:
    """Build a plan's image, or return the one that is already built from the same inputs.

    Args:
        plan: profile and base.
        flake: directory of the flake.
        mode: which caps the build gets; the result does not depend on it.
        attr: another package of the flake that holds such an image.
        locked: refuse rather than update a lock whose packages have left the archives.
        repair: check the content of an image that is there; build it again if it was altered.
        sources: what the operator says about package archives.
        on_event: hears what happens.

    Raises:
        RaveError: BUILD if the build fails or an input cannot be fetched; HOST if this host is at
            fault or the image that is there was truncated; USAGE for an unknown `attr`.
    """
    place = ImagePlace(attr or plan.attr)
    with paths.lock(place.lock, busy=f"another rave builds {place.attr} just now"):
        supply = Supply.of(flake, sources)
        build = _Build(plan, flake, place, supply, locked=locked, on_event=on_event)
        image = build.run(mode)
        if repair:
            return build.repair(image, mode)
        quick_check(image)
        return image


def update_lock(
    plan: Plan,
    *,
    flake: Path,
    sources: Sources = NO_SOURCES,
    dry_run: bool = False,
    renew: bool = False,
    on_event: OnEvent = ignore,
) -> tuple[Path, tuple[locks.PackageChange, ...]]:
    """Lock the current packages of a profile in the repository; return where, and what changed.

    Args:
        plan: profile and base.
        flake: directory of the flake.
        sources: what the operator says about package archives.
        dry_run: only tell; write nothing.
        renew: choose the sets of wheels and tarballs anew, too; otherwise those that are locked
            stay while they answer what is asked.
        on_event: hears what happens.

    Raises:
        RaveError: HOST if apt, pip, npm or the network fails; BUILD if the flake cannot be
            evaluated, or there is no set as its services ask.
    """
    asked = Nix("debian", "safe").evaluate(installable(flake, f"debianRequests.{plan.profile}"))
    request = locks.PackageRequest.model_validate(asked)
    place = locking.repository_lock(flake, plan.profile)
    try:
        old: locks.Lock | None = locks.parse(place.read_bytes(), place)
    except (OSError, DamagedRecordError):  # none yet, or one that this command is to replace
        old = None
    supply = Supply.of(flake, sources)
    fresh = closure.resolve(request, supply, on_event, old=old, renew=renew)
    before, after = old or fresh.model_copy(update={"packages": (), "files": ()}), fresh
    # A lock that says the same keeps its date: what it names was there then, too.
    same = old is not None and fresh.model_copy(update={"resolved": old.resolved}) == old
    writes = {} if same else {place: locks.render(fresh)}
    for service in plan.accepted:
        there = accepted.known(flake, service)
        chosen = _accepted(service, flake, None if renew else there, fresh, on_event)
        before = accepted.joined(before, [there] if there else [])
        after = accepted.joined(after, [chosen])
        if chosen != there:
            writes[accepted.place(flake, service)] = accepted.render(chosen)
    for file, text in () if dry_run else writes.items():
        paths.atomic_write(file, text)
    return place, locks.difference(before, after)


def _accepted(
    service: str, flake: Path, old: AcceptedLock | None, profile: locks.Lock, on_event: OnEvent
) -> AcceptedLock:
    asked = Nix("debian", "safe").evaluate(installable(flake, f"acceptedRequests.{service}"))
    request = accepted.AcceptedRequest.model_validate(asked)
    return accepted.choose(request, old, profile, closure.pool(), on_event)


def existing_image(plan: Plan, attr: str | None = None) -> Image | None:
    """Return the image that was last built for a plan, if it is still there.

    Raises:
        RaveError: HOST if its manifest is damaged or of a newer rave.
    """
    place = ImagePlace(attr or plan.attr)
    if not place.manifest.is_file():
        return None
    image = load_image(place.manifest)
    if not _links_to(place.out_link, image.store_path) or not image.qcow2.is_file():
        return None
    return image


@dataclass(frozen=True)
class _Build:
    """One call of build_image."""

    plan: Plan
    flake: Path
    place: ImagePlace
    supply: Supply
    locked: bool
    on_event: OnEvent

    @property
    def installable(self) -> str:
        return installable(self.flake, self.place.attr)

    def run(self, mode: Mode) -> Image:
        """Return the image, built if its inputs are not those of the one that is there."""
        nix = self.nix(mode)
        output = nix.output(self.installable)
        if output.nar_hash is None:
            nix = self.provide(nix)
        if output.nar_hash is None or not _links_to(self.place.out_link, output.path):
            link, scratch = self.place.out_link, self.place.scratch
            nix.build(self.installable, link, self.on_event, scratch=scratch)
            # What the link names was built, whatever somebody edited in the meantime.
            output = nix.output(str(self.place.out_link.readlink()))
        return _record(self.plan, self.place, output, self.on_event)

    def repair(self, image: Image, mode: Mode) -> Image:
        """Return the image as it was built: built again if its content is not that any more."""
        self.on_event(BuildEvent("checking the image's content"))
        try:
            check_image(image)
        except RaveError as error:
            self.on_event(BuildEvent(f"{error.message}; building it again", notice=True))
            nix = self.provide(self.nix(mode))
            nix.repair(image.store_path, scratch=self.place.scratch)
            check_image(image)
        return image

    def nix(self, mode: Mode) -> Nix:
        """Return the driver. A lock of our own is named, for it is not the repository's."""
        if self.plan.base != "debian":
            return Nix(self.plan.base, mode)
        chosen = locking.choose(self.flake, self.plan.profile, locked=self.locked)
        if not chosen.own:
            return Nix(self.plan.base, mode)
        text = f"using {chosen.path} in place of the repository's lock"
        self.on_event(BuildEvent(text, notice=True))
        return Nix(self.plan.base, mode, chosen.path)

    def provide(self, nix: Nix) -> Nix:
        """Put every file of the lock into the store; return the driver for the lock then used."""
        if self.plan.base != "debian":
            if not builds_in_vms():
                raise no_kvm(self.plan.profile)
            return nix
        rootless.require()
        profile = self.plan.profile
        chosen = locking.choose(self.flake, profile, locked=self.locked)
        try:
            files = self.fetch(chosen.lock)
        except closure.DepartedError as error:
            if self.locked:
                raise locking.refused(profile, error.names) from error
            original = locking.repository_lock(self.flake, profile)
            chosen = locking.replace_lock(chosen, original, self.supply, error.names, self.on_event)
            files = self.fetch(chosen.lock)
        self.on_event(BuildEvent(f"adding {len(files)} files to the Nix store"))
        nix.add_files(files)
        return Nix(nix.base, nix.mode, chosen.path if chosen.own else None)

    def fetch(self, lock: locks.Lock) -> tuple[Path, ...]:
        """Return every file of a lock, and of what the operator has accepted beside it."""
        whole = accepted.whole(self.flake, lock, self.plan.accepted)
        return closure.fetch(whole, self.supply, self.on_event)


def _links_to(link: Path, path: str) -> bool:
    return link.is_symlink() and str(link.readlink()) == path and link.exists()


def _record(plan: Plan, place: ImagePlace, output: Output, on_event: OnEvent) -> Image:
    """Return the image in a store path. Its digest is computed once for each store path."""
    path, nar_hash = output.path, output.nar_hash
    if nar_hash is None:
        raise RaveError(
            f"Nix does not know {path}, which it built", hint=f"nix-store --verify-path {path}",
            exit_code=ExitCode.BUILD,
        )  # fmt: skip
    known = image = _known(place)
    if image is None or (image.store_path, image.nar_hash) != (path, nar_hash):
        on_event(BuildEvent("computing the image's sha256"))
        qcow2 = find_qcow2(Path(path), plan.qcow)
        image = Image(
            profile=plan.profile,
            base=plan.base,
            qcow2=qcow2,
            sha256=sha256(qcow2),
            size=qcow2.stat().st_size,
            store_path=path,
            nar_hash=nar_hash,
            boot=read_boot(Path(path)),
            data=find_data(Path(path)),
        )
    whole = image if image.plan is not None else _with_plan(image, plan, place)
    if whole.lock_sha256 is None:
        whole = replace(whole, **_origin(Path(path)))
    if whole != known:
        save_image(whole, place.manifest)
    return whole


def _origin(output: Path) -> dict[str, Any]:
    """Return what the lock in a build's output says of its packages, as fields of the image.

    Locks of version 1 named no archives: they do not say whom they trusted.
    """
    place = output / LOCK
    if not place.exists():
        return {}
    lock, data = locks.load(place)
    if not lock.requested.archives:
        return {}
    return {"lock_sha256": locks.digest(data), "trusted_keys": tuple(sorted(set(lock.trusted)))}


def _with_plan(image: Image, plan: Plan, place: ImagePlace) -> Image:
    """Return an image with the plan that its output carries. One of an older flake carries none,
    but it is what that flake makes of `plan`.
    """
    own = Path(image.store_path) / carried.NAME
    if not own.exists():
        own = place.plan
        carried.write(own, carried.Carried(door=1, plan=plan))
    return replace(image, plan=own, door=carried.read(own).door)


def _known(place: ImagePlace) -> Image | None:
    """Return what the manifest says; a damaged one is written anew.

    Raises:
        NewerRecordError: if a newer rave wrote it.
    """
    if not place.manifest.exists():
        return None
    try:
        return load_image(place.manifest)
    except DamagedRecordError:
        return None


def find_qcow2(output: Path, name: str) -> Path:
    """Return the image file in a build's output: the one of that name, or the only one there is.

    Raises:
        RaveError: BUILD if there is none.
    """
    if (output / name).is_file():
        return output / name
    found = sorted(place for place in output.glob("*.qcow2") if place.name != DATA)
    if len(found) == 1:
        return found[0]
    raise RaveError(
        f"the build's output {output} holds no {name}",
        hint=f"ls {output}",
        exit_code=ExitCode.BUILD,
    )


def find_data(output: Path) -> Path | None:
    """Return the first data disk in a build's output, if it holds one."""
    place = output / DATA
    return place if place.is_file() else None


def read_boot(output: Path) -> BootMethod:
    """Return how the image in a build's output boots: `boot.json` tells, else it boots by itself.

    Raises:
        RaveError: BUILD if boot.json is not understood, or somebody else may have written it.
    """
    place = output / "boot.json"
    if not place.exists():
        return BootMethod("disk", None, None, "")
    try:
        document = json.loads(paths.read_trusted(place, exit_code=ExitCode.BUILD))
        cmdline = str(document["cmdline"])
        known = document["kind"] == "kernel" and (cmdline.isascii() and cmdline.isprintable())
    except (ValueError, KeyError, TypeError):
        known, cmdline = False, ""
    if not known:
        raise RaveError(
            f"{place} does not say how to boot the image", hint=f"cat {place}",
            exit_code=ExitCode.BUILD,
        )  # fmt: skip
    return BootMethod("kernel", output / "vmlinuz", output / "initrd", cmdline)
