"""The development machine: made as people make it, or for faults one that runs already."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from rave_cli.machines import store
from tests.conftest import AMBIENT
from tests.integration.development.clone import ROOT, CleanClone

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rave_cli.machines.spec import Machine


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CleanClone]:
    """Bring one up. What was downloaded before serves it, as it serves whoever has built before."""
    folder = tmp_path_factory.mktemp("team")
    env = {name: value for name, value in os.environ.items() if name not in AMBIENT}
    cache = os.environ.get("XDG_CACHE_HOME", str(Path.home() / ".cache"))
    # Sockets need a short path; a login session would give one.
    env |= {"HOME": str(folder), "XDG_CACHE_HOME": cache}
    env["XDG_RUNTIME_DIR"] = str(tmp_path_factory.mktemp("run"))
    found = CleanClone(folder / "rave", env)
    subprocess.run(["git", "clone", "--quiet", ROOT, found.checkout], check=True)
    try:
        found.rave("up", "--profile", "development", "--base", "debian", timeout=3000)
        yield found
    finally:
        found.rave("vm", "delete", "development", "--force")


@pytest.fixture(scope="module")
def machine(request: pytest.FixtureRequest) -> Iterator[Machine]:
    """Return a running development machine: RAVE_DEVELOPMENT_MACHINE of this home, or a new one."""
    named = os.environ.get("RAVE_DEVELOPMENT_MACHINE")
    if named:
        yield store.load(named)
        return
    found = request.getfixturevalue("site")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("HOME", "XDG_RUNTIME_DIR"):
            patch.setenv(name, found.env[name])
        yield store.load("development")
