"""Shared fixtures: a home of its own for every test, so that none touches the user's."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from tests import kills

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# Settings of the caller that would change what a test sees.
AMBIENT = (
    "DEBUG", "NO_COLOR", "RAVE_BASE", "RAVE_DEBIAN_KEYRING", "RAVE_DEBIAN_MIRROR",
    "RAVE_DEBIAN_SNAPSHOT", "RAVE_FLAKE", "RAVE_PROFILE", "RAVE_SIGNING_KEY",
    "SAFE_MODE", "SOPS_AGE_KEY", "SOPS_AGE_KEY_CMD", "SOPS_AGE_KEY_FILE", "SOPS_AGE_RECIPIENTS",
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
    return root
