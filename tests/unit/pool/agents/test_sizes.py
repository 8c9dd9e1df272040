"""How large a machine of a job is, and whether there is memory for one more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from rave_cli.errors import ExitCode, RaveError
from rave_cli.flows.machine import NewMachine
from rave_cli.machines import preflight
from rave_cli.pool.agents import room, sizes
from rave_cli.pool.jobs.work import Work
from rave_cli.profiles.source import load_catalog

if TYPE_CHECKING:
    from rave_cli.profiles.names import Mode


def machine(profile: str = "demo", mode: Mode = "safe", **how: Any) -> NewMachine:
    return NewMachine(load_catalog(None).plan(profile, "debian"), mode, name="job", **how)


@pytest.mark.parametrize(
    ("profile", "mode", "memory", "cpus"),
    [("demo", "safe", 2048, 2), ("demo", "full", 4096, 2), ("development", "full", 4096, 2)],
)
def test_no_machine_of_a_job_is_larger_than_4_gib_and_2_processors(
    profile: str, mode: Mode, memory: int, cpus: int
) -> None:
    found = sizes.bounded(machine(profile, mode))
    assert (found.memory_mib, found.cpus) == (memory, cpus)


@pytest.mark.parametrize("how", [{"memory_mib": 4097}, {"cpus": 3}])
def test_whoever_serves_cannot_give_more(how: dict[str, Any]) -> None:
    with pytest.raises(RaveError) as refused:
        sizes.bounded(machine(**how))
    assert refused.value.exit_code == ExitCode.USAGE


def test_a_job_that_asks_for_nothing_gets_what_stands_by() -> None:
    wanted = sizes.bounded(machine())
    assert sizes.of_job(wanted, Work(("true",))) == wanted
    other = sizes.of_job(wanted, Work(("true",), memory_mib=1024, cpus=1, cache="k"))
    assert (other.memory_mib, other.cpus, other.has_cache) == (1024, 1, True)


@pytest.mark.parametrize("how", [{"memory_mib": 512}, {"cpus": 3}, {"cache": "../x"}])
def test_what_no_machine_has_is_refused_when_it_is_asked_for(how: dict[str, Any]) -> None:
    with pytest.raises(RaveError) as refused:
        Work(("true",), **how)
    assert refused.value.exit_code == ExitCode.USAGE


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """The memory of a host: what is available, and what machines of jobs have taken of it."""
    found = {"available": 5000, "private": 0}
    monkeypatch.setattr(preflight, "available_mib", lambda: found["available"])
    monkeypatch.setattr(room, "private_mib", lambda: found["private"])
    return found


def test_memory_is_counted_as_it_is_taken_and_not_by_machines(memory: dict[str, int]) -> None:
    host = room.Room(2000)
    with host.kept() as first, host.kept() as second:
        assert (first, second) == ("", "")
        with host.kept() as third:
            assert "others may still take 4000" in third
        # They share most of a template: two have 300 MiB between them, and may take the rest still.
        memory |= {"available": 9000, "private": 300}
        with host.kept() as third:
            assert third == ""


def test_a_job_that_asks_for_more_has_room_for_that_or_waits(memory: dict[str, int]) -> None:
    host = room.Room(2000)
    with host.kept():
        with host.resized(4000) as lacks:
            assert lacks == ""
            with host.kept() as other:
                assert "others may still take 4000" in other
        with host.resized(8000) as lacks:
            assert lacks.startswith("a machine may take 8000 MiB, and 5000 MiB are available")
        # A smaller one leaves room for others.
        with host.resized(1000), host.resized(1000), host.kept() as other:
            assert other == ""
