"""The sets of services, filled from the development profile's lock as the image's build does it."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from rave_cli.images import closure, files
from rave_cli.images import lock as locks
from tests.debian import BASE

# Its directory is on the path since tests.debian.
sys.path.insert(0, str(BASE / "builders"))

import sealed

if TYPE_CHECKING:
    from pathlib import Path

LOCK = BASE / "locks/development.json"


def fill(service: str, place: Path) -> None:
    """Put the locked wheels of a service into a new directory, with their launcher.

    Skips the test if this is another Python than the guest's.
    """
    lock = locks.parse(LOCK.read_bytes(), LOCK)
    python = next(package.version for package in lock.packages if package.name == "python3")
    if not python.startswith(f"{sys.version_info[0]}.{sys.version_info[1]}."):
        pytest.skip(f"the guest's wheels are for Python {python}")
    wanted = [file for file in lock.files if file.service == service]
    places = files.provide(wanted, lock.packages, closure.pool(), lambda _: None)
    place.mkdir()
    spec = {
        "wheels": [
            {"name": file.name, "file": str(path)}
            for file, path in zip(wanted, places, strict=True)
        ],
        "tarballs": [],
    }
    sealed.fill(place, spec)


def compile_all(place: Path) -> None:
    """Compile what is in a set; modules for another Python stay as they are."""
    subprocess.run([sys.executable, "-m", "compileall", "-q", "-j", "0", place], check=False)
