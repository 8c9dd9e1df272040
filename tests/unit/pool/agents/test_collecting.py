"""What goes wrong while artifacts are copied is told apart, and leaves nothing half copied."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from rave_cli.errors import ExitCode, RaveError
from rave_cli.machines.transfer import copying
from rave_cli.machines.transfer.content import UnsafeContentError
from rave_cli.pool.agents import sandbox
from rave_cli.pool.agents.agent import UnfitJobError
from rave_cli.pool.files import artifacts
from rave_cli.pool.jobs.work import Work
from rave_cli.pool.queue.streams import Task

if TYPE_CHECKING:
    from pathlib import Path

TASK = Task("0123456789ab", "1-0", 1, 0, 0, Work(("true",), artifacts=("a", "b/c")))
FULL = RaveError("there is no space left", hint="df -h", exit_code=ExitCode.HOST)
MISSING = RaveError("there is no job/b", hint="x", exit_code=ExitCode.USAGE)


def collect(monkeypatch: pytest.MonkeyPatch, fault: RaveError | None) -> Any:
    """Copy two artifacts out of a guest, the second with a fault."""

    def fetch(_machine: object, source: str, target: Path, **how: Any) -> None:
        target.write_text(source)
        how["on_bytes"](len(source))
        if fault is not None and source == "job/b/c":
            raise fault

    monkeypatch.setattr(copying, "fetch", fetch)
    machine: Any = None
    return sandbox._collected(machine, TASK)


def test_what_was_copied_is_listed(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [one.path for one in collect(monkeypatch, None)] == ["a", "b/c"]


def test_a_full_disk_of_this_host_is_no_fault_of_the_job(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(RaveError) as found:
        collect(monkeypatch, FULL)
    assert not isinstance(found.value, UnfitJobError)
    assert not artifacts.place_of(TASK.name, 1).exists()
    # It is tried again, when there is room.
    assert len(collect(monkeypatch, None)) == 2


@pytest.mark.parametrize("fault", [MISSING, UnsafeContentError("a link leads out")])
def test_what_is_not_there_or_must_not_be_here_is_the_jobs_failure(
    home: Path, monkeypatch: pytest.MonkeyPatch, fault: RaveError
) -> None:
    with pytest.raises(UnfitJobError):
        collect(monkeypatch, fault)
    assert not artifacts.place_of(TASK.name, 1).exists()
