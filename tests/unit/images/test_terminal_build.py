"""A terminal that is closed during a build: no Nix is left behind, and the next build can begin."""

from __future__ import annotations

import signal
import subprocess
from typing import TYPE_CHECKING

import pytest

from rave_cli import paths
from rave_cli.images.build import ImagePlace
from tests.terminal import RAVE, Terminal

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.images.conftest import Host


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT, signal.SIGTERM])
def test_a_build_that_is_ended_leaves_no_nix_and_no_lock(
    host: Host, flake: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    (flake / "infra/catalog").mkdir(parents=True)
    monkeypatch.setenv("RAVE_FLAKE", str(flake))
    host.set(seconds=64.5, log=[])
    place = ImagePlace("demo")
    argv = [*RAVE, "vm", "build-image", "--profile", "demo", "--base", "nixos"]
    with Terminal(argv) as terminal:
        while "build" not in host.verbs("nix"):
            terminal._read(0.05)
            assert terminal.child.poll() is None, terminal.shown
        if number == signal.SIGHUP:
            terminal.close()
        elif number == signal.SIGINT:
            terminal.type("\x03")
        else:
            terminal.child.send_signal(number)
        assert terminal.end() == 128 + number
    left = subprocess.run(
        ["/usr/bin/pgrep", "-f", str(host.folder / "nix")], capture_output=True, check=False
    )
    assert left.stdout == b""
    assert not place.scratch.exists()
    with paths.lock(place.lock, busy="it is still locked"):
        pass
