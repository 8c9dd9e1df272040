"""A host with one backup, of which each test gets its own."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from rave_cli.flows import vault
from tests.integration.backups.hosts import (
    ITEMS,
    Host,
    Machine,
    at_home,
    host_with,
    settle,
    stream_of,
)

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with one backup: making a repository takes the engine a second."""
    root = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        at_home(root, patch)
        host = host_with(Machine(sent=stream_of(ITEMS)), root, patch)
        host.now()
        kept = [event.text for event in host.told if event.kind == "warning"]
        assert len(kept) == 2
        assert "age identity" in kept[0]
        assert str(host.folder) in kept[1]
        settle(host.folder / "repository", vault.key(host.settings))
    return root


@pytest.fixture
def host(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    """A host of its own with that backup."""
    root = tmp_path / "home"
    shutil.copytree(made, root)
    at_home(root, monkeypatch)
    return host_with(Machine(sent=stream_of(ITEMS)), root, monkeypatch)
