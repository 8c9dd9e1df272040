"""What a machine is doing, as far as its guest's reports tell."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from rave_cli.machines.guest.stages import StageEvent
from rave_cli.machines.status import judge

if TYPE_CHECKING:
    from rave_cli.machines.states import State


def report(stage: str, **data: Any) -> StageEvent:
    return StageEvent(stage, "i", 1.0, data, "b")


def services(**states: str) -> StageEvent:
    found = {name: {"state": state, "unit": f"{name}.service"} for name, state in states.items()}
    return report("services", services=found)


@pytest.mark.parametrize(
    ("reports", "state", "detail"),
    [
        ([], "starting", ""),
        ([report("systemd")], "starting", ""),
        ([report("systemd"), services(nginx="healthy")], "running", ""),
        ([services(nginx="failed")], "failed", "failed: nginx (nginx.service)"),
        ([services(nginx="failed"), services(nginx="healthy")], "running", ""),
        ([services(nginx="healthy"), services(nginx="failed")], "failed", "nginx"),
        ([services(nginx="healthy", canaille="starting")], "running", "starting: canaille"),
        ([services(nginx="failed", canaille="starting")], "failed", "failed: nginx"),
        ([report("failed", reason="emergency mode")], "failed", "emergency mode"),
        ([services(nginx="healthy"), report("stopping")], "stopping", "starts anew"),
        # The reporter itself was restarted.
        ([services(nginx="healthy"), report("stopping"), services(nginx="healthy")], "running", ""),
        ([services(nginx="healthy"), report("secrets", state="installed")], "running", ""),
    ],
)
def test_the_last_word_of_this_boot_counts(
    reports: list[StageEvent], state: State, detail: str
) -> None:
    found = judge(reports)
    assert found[0] == state
    assert detail in found[1]
