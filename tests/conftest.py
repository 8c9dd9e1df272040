"""Shared fixtures: a home of its own for every test, so that none touches the user's."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings

from tests import kills

if TYPE_CHECKING:
    from collections.abc import Iterator

# Settings of the caller that would change what a test sees.
AMBIENT = (
    "DEBUG", "DOCKER_CONFIG", "NO_COLOR", "RAVE_ACCEPTED",
    "RAVE_BACKUP_FOLDER", "RAVE_BASE", "RAVE_DEBIAN_KEYRING",
    "RAVE_DEBIAN_MIRROR",
    "RAVE_DEBIAN_SNAPSHOT", "RAVE_FLAKE", "RAVE_POOL_CA", "RAVE_POOL_ENDPOINT",
    "RAVE_POOL_TOKEN", "RAVE_PROFILE", "RAVE_SIGNING_KEY",
    "REGISTRY_AUTH_FILE", "SAFE_MODE", "SOPS_AGE_KEY", "SOPS_AGE_KEY_CMD", "SOPS_AGE_KEY_FILE",
    "SOPS_AGE_RECIPIENTS",
    "SOPS_AGE_SSH_PRIVATE_KEY_CMD", "SOPS_AGE_SSH_PRIVATE_KEY_FILE", "SOPS_CONFIG", "SOPS_EDITOR",
    "SOPS_KEYSERVICE", "VALIDATION_TIMEOUT",
)  # fmt: skip

# Whoever runs the tests in the background has these ignored, which children inherit, and what is
# ignored when rave starts it leaves ignored.
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
for ending in ENDING:
    if signal.getsignal(ending) is signal.SIG_IGN:
        usual = signal.default_int_handler if ending is signal.SIGINT else signal.SIG_DFL
        signal.signal(ending, usual)

# A property holds however busy the machine is; pytest-timeout ends what hangs.
settings.register_profile("rave", deadline=None)
settings.load_profile("rave")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """End with how often something was killed, and where."""
    for line in kills.told():
        terminalreporter.write_line(line)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Hand the kills of a worker to whoever adds them up, and those of a run to tests/run.py."""
    worker: dict[str, Any] | None = getattr(session.config, "workeroutput", None)
    if worker is not None:
        worker["kills"] = dict(kills.KILLS)
    elif kills.FILE in os.environ:
        Path(os.environ[kills.FILE]).write_text(str(kills.of_machines()))


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Add the kills of a worker that has ended."""
    kills.KILLS.update(getattr(node, "workeroutput", {}).get("kills", {}))


@pytest.fixture(autouse=True)
def _signals() -> Iterator[None]:
    """Put back what a test did to the signals that end us: rave ignores them once it ends."""
    before = {number: signal.getsignal(number) for number in ENDING}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Point HOME and the XDG directories into the test's own directory and return it."""
    root = tmp_path / "home"
    live_in(root, monkeypatch)
    return root


def live_in(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a home and point HOME and the XDG directories into it."""
    root.mkdir()
    monkeypatch.setenv("HOME", str(root))
    for name, place in {
        "XDG_CONFIG_HOME": ".config",
        "XDG_DATA_HOME": ".local/share",
        "XDG_STATE_HOME": ".local/state",
        "XDG_CACHE_HOME": ".cache",
        "XDG_RUNTIME_DIR": "run",
    }.items():
        path = root / place
        path.mkdir(parents=True, mode=0o700)
        monkeypatch.setenv(name, str(path))
    for name in AMBIENT:
        monkeypatch.delenv(name, raising=False)
