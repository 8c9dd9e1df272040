"""Platforms for tests; whatever still runs at the end is killed."""

from __future__ import annotations

import os
import subprocess
from contextlib import ExitStack
from typing import TYPE_CHECKING, Protocol

import pytest

from tests.integration.platform.services import platform

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.integration.platform.services import Killable, Platform


class MakePlatform(Protocol):
    def __call__(self, store: Path | None = None, **more: object) -> Platform: ...


def _end(process: Killable) -> None:
    if process.process is not None and process.process.poll() is None:
        process.end()


@pytest.fixture
def make_platform(tmp_path: Path) -> Iterator[MakePlatform]:
    """Make a platform, of which nothing runs yet; `more` is for the configuration of NATS."""
    with ExitStack() as stack:

        def make(store: Path | None = None, **more: object) -> Platform:
            found = platform(tmp_path, store, **more)
            for process in (found.nats, found.dispatcher):
                stack.callback(_end, process)
            return found

        yield make


@pytest.fixture
def running(make_platform: MakePlatform) -> Platform:
    """A platform that runs."""
    found = make_platform()
    found.nats.start()
    found.dispatcher.start()
    return found


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MiB."""
    place = tmp_path / "small"
    place.mkdir()
    if os.getuid() != 0:
        pytest.skip("only root can mount a small file system to fill")
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(place)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("this root may not mount a tmpfs")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)
