"""Starts as the tests of a life make them, and how long they wait."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from rave_cli.errors import RaveError
from rave_cli.machines import boot, lifecycle
from rave_cli.machines.guest import readiness
from rave_cli.machines.qemu import credentials
from rave_cli.machines.qemu.argv import qemu_argv
from rave_cli.machines.qemu.qmp import Qmp, QmpError
from tests.unit.machines.conftest import TCG
from tests.waiting import CEILING, NEVER, until

if TYPE_CHECKING:
    from collections.abc import Callable

    from rave_cli.machines.lifecycle import Ready
    from rave_cli.machines.spec import Machine


def start(machine: Machine, **options: Any) -> Ready:
    return lifecycle.start(machine, **({"on_stage": lambda _stage: None} | options))


def failed_start(machine: Machine, **options: Any) -> RaveError:
    with pytest.raises(RaveError) as caught:
        start(machine, **options)
    return caught.value


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Gives one stage hardly any time; the deadlines of the others never come."""

    def only(name: str) -> None:
        stages = (replace(s, seconds=0.25 if s.name == name else NEVER) for s in readiness.STAGES)
        monkeypatch.setattr(readiness, "STAGES", tuple(stages))

    return only


@pytest.fixture
def patient(impatient: Callable[[str], None]) -> None:
    """No deadline comes: what ends a boot is told by what was seen."""
    impatient("none")


def launch_unwatched(machine: Machine, *, greeted: bool = True) -> None:
    """Start QEMU as `start` does, without following the boot or minding a mute monitor."""
    with credentials.written(machine):
        boot.spawn(machine, qemu_argv(machine, TCG))
        until(machine.event_socket.exists)
    patience = CEILING if greeted else 0.2
    with suppress(QmpError), Qmp.connect(machine.event_socket, timeout=patience):
        # A client that was greeted lets the fake play its script.
        until(lambda: machine.stage_file.exists() and machine.stage_file.stat().st_size > 0)
