"""The fake host of the machines' tests, and an image that a checkout may build."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from rave_cli import settings
from tests.unit.machines.conftest import host, image, machine, plan, short_home, sshd

if TYPE_CHECKING:
    from pathlib import Path

    from rave_cli.flows.events import Event
    from rave_cli.settings import Settings

__all__ = ["host", "image", "machine", "plan", "short_home", "sshd"]


@pytest.fixture
def outside(home: Path) -> Settings:
    """Settings outside of any checkout."""
    return settings.load(start=home)


@pytest.fixture
def inside(home: Path) -> Settings:
    """Settings in a checkout."""
    place = home / "checkout"
    (place / "infra/catalog").mkdir(parents=True)
    (place / "flake.nix").touch()
    return settings.load(start=place)


@pytest.fixture
def told() -> list[Event]:
    """What a flow has told; its `append` hears it."""
    return []
