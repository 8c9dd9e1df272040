"""Each service's own set of wheels and tarballs: what stays as it is locked, and what is chosen.

Docs: docs/adr/0022-sealed-sets.md.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from rave_cli import paths
from rave_cli.images import files, tarballs, wheels
from rave_cli.images.events import BuildEvent

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rave_cli.images.events import OnEvent
    from rave_cli.images.lock import File, Lock, Package, PackageRequest


def choose(
    request: PackageRequest,
    packages: Sequence[Package],
    kept: Lock | None,
    pool: Path,
    on_event: OnEvent,
) -> tuple[File, ...]:
    """Return the files of every set that a request asks for; all of them are in the pool then.

    Args:
        request: what is asked for.
        packages: the guest's Debian packages, whose Python the wheels must fit.
        kept: a lock whose sets stay as they are, wherever they still answer what is asked.
        pool: where locked files lie.
        on_event: hears what happens.

    Raises:
        RaveError: HOST if pip, npm or what they ask cannot be used; BUILD if nothing there is as
            asked.
    """
    found: list[File] = []
    for service in sorted(request.wheels.keys() | request.tarballs.keys()):
        if kept is not None and _still_fits(service, request, packages, kept):
            found += (file for file in kept.files if file.service == service)
        else:
            on_event(BuildEvent(f"choosing the set of {service}"))
            found += _wheels(service, request.wheels.get(service, ()), packages, pool, on_event)
            found += _tarballs(service, request.tarballs.get(service, ()), pool)
    return tuple(found)


def _still_fits(
    service: str, request: PackageRequest, packages: Sequence[Package], kept: Lock
) -> bool:
    """Return whether a locked set answers what is asked now, on the Python that there is now."""
    asked, before = (
        (what.wheels.get(service, ()), what.tarballs.get(service, ()))
        for what in (request, kept.requested)
    )
    if asked != before:
        return False
    return not asked[0] or wheels.GuestPython.of(packages) == wheels.GuestPython.of(kept.packages)


def _wheels(
    service: str,
    asked: Sequence[str],
    packages: Sequence[Package],
    pool: Path,
    on_event: OnEvent,
) -> tuple[File, ...]:
    if not asked:
        return ()
    guest = wheels.GuestPython.of(packages)
    paths.make_dir(pool, mode=0o755)
    with tempfile.TemporaryDirectory(dir=pool, prefix=".fetch-") as folder:
        chosen = wheels.choose(service, asked, guest, Path(folder))
    files.provide(chosen, packages, pool, on_event)
    return wheels.describe(chosen, pool)


def _tarballs(service: str, releases: Sequence[str], pool: Path) -> Iterator[File]:
    for release in releases:
        paths.make_dir(pool, mode=0o755)
        with tempfile.TemporaryDirectory(dir=pool, prefix=".fetch-") as folder:
            file, path = tarballs.choose(service, release, releases, Path(folder))
            path.replace(pool / file.file)
        yield file
