"""What the guest tells of itself when something does not come up: small, and never in the way."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from rave_cli.machines import causes
from rave_cli.machines.guest import symptoms as host
from rave_guest import symptoms, system

if TYPE_CHECKING:
    from collections.abc import Sequence

SHOWN = """Id=nginx.service
ActiveState=activating
SubState=auto-restart
Result=exit-code
NRestarts=4

Id=rave-grow.service
ActiveState=inactive
SubState=dead
Result=success
NRestarts=0
"""


def entry(message: object, **fields: str) -> str:
    return json.dumps({"MESSAGE": message, **fields})


JOURNAL = [
    entry("nginx: [emerg] unknown directive", _SYSTEMD_UNIT="nginx.service"),
    entry("Main process exited", UNIT="nginx.service", _SYSTEMD_UNIT="init.scope"),
    entry([*"naïve ".encode(), 255], _SYSTEMD_UNIT="nginx.service"),
    entry("nginx: [emerg] unknown directive", _SYSTEMD_UNIT="nginx.service"),
    entry("Failed at step EXEC", UNIT="rave-grow.service", _SYSTEMD_UNIT="init.scope"),
    entry(None, _SYSTEMD_UNIT="nginx.service"),
]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Sequence[str]]:
    calls: list[Sequence[str]] = []

    def run(argv: list[str], _timeout: float) -> Any:
        calls.append(argv)
        kernel = "EXT4-fs error " + "x" * 999
        said = SHOWN if "show" in argv else kernel if "-k" in argv else "\n".join(JOURNAL)
        return SimpleNamespace(stdout=said)

    monkeypatch.setattr(system, "run", run)
    return calls


def test_units_are_told_with_their_result_and_their_own_last_words(
    asked: list[Sequence[str]],
) -> None:
    found = symptoms.look(["nginx.service", "rave-grow.service"])
    nginx, grow = found["units"]
    assert (nginx["state"], nginx["result"], nginx["restarts"]) == ("activating", "exit-code", 4)
    assert nginx["said"] == ["nginx: [emerg] unknown directive"]
    assert grow["said"] == ["Failed at step EXEC"]
    assert len(asked) == 2


@pytest.mark.parametrize("lacks", [{"f_bavail": 5}, {"f_favail": 3}, {"f_flag": os.ST_RDONLY}])
def test_a_disk_that_explains_all_is_told_without_starting_a_program(
    asked: list[Sequence[str]], monkeypatch: pytest.MonkeyPatch, lacks: dict[str, int]
) -> None:
    disk = {
        "f_blocks": 1 << 20,
        "f_frsize": 4096,
        "f_bavail": 1 << 18,
        "f_favail": 9999,
        "f_flag": 0,
    }
    monkeypatch.setattr(os, "statvfs", lambda _path: SimpleNamespace(**(disk | lacks)))
    found = symptoms.look(["postgresql.service"])
    assert "units" not in found
    assert asked == []
    read = host.read(found)
    assert read is not None
    assert read.size == 4 << 30


def test_both_sides_call_the_same_disk_full() -> None:
    assert (symptoms.FULL, symptoms.FEW_INODES) == (causes.FULL, causes.FEW_INODES)


def test_the_kernel_is_asked_where_it_has_something_to_tell(
    asked: list[Sequence[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(symptoms, "oom_kills", lambda _vmstat: 1)
    assert symptoms.look(["nginx.service"])["kernel"] == [("EXT4-fs error " + "x" * 999)[:240]]


def test_a_line_that_names_a_fault_comes_before_a_stack_trace_and_is_told_once() -> None:
    lines = [
        *(entry(f"[{n}] FATAL:  could not write lock file", _SYSTEMD_UNIT="pg") for n in (1, 22)),
        entry("goroutine 1 [running]:", _SYSTEMD_UNIT="pg"),
        entry("Scheduled restart job", UNIT="pg"),
    ]
    assert symptoms.last_words(lines) == {"pg": ["[22] FATAL:  could not write lock file"]}


def test_all_of_it_is_bounded_and_the_host_reads_it(
    asked: list[Sequence[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Others write to this disk meanwhile.
    disk = os.statvfs("/")
    monkeypatch.setattr(os, "statvfs", lambda _: disk)
    names = [f"unit-{number}.service" for number in range(50)]
    found = symptoms.look(names)
    assert len(found["units"]) == symptoms.MOST_UNITS
    assert len(json.dumps(found)) < 8192
    read = host.read(json.loads(json.dumps(found)))
    assert read is not None
    assert read.free == disk.f_bavail * disk.f_frsize
    assert read.units[0].name == "unit-0.service"


def test_what_cannot_be_had_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def hangs(_argv: list[str], _timeout: float) -> Any:
        raise TimeoutError

    monkeypatch.setattr(system, "run", hangs)
    found = symptoms.look(["nginx.service"])
    assert "units" not in found
    assert "kernel" not in found
    assert found["size_bytes"] > 0


def test_the_kernels_count_of_killed_processes_is_read() -> None:
    assert symptoms.oom_kills("nr_free_pages 5\noom_kill 3\nnuma_hit 0") == 3
    assert symptoms.oom_kills("") == 0
    assert symptoms.oom_kills(Path("/proc/vmstat").read_text()) >= 0


def test_of_a_start_that_took_too_long_it_is_said_and_not_only_that_it_failed() -> None:
    unit = "pagure.service"
    told = (
        f"{unit}: start operation timed out. Terminating.",
        f"{unit}: Failed with result 'timeout'.",
        f"Failed to start {unit} - Pagure.",
    )
    lines = [json.dumps({"UNIT": unit, "MESSAGE": text}) for text in told]
    assert symptoms.last_words(lines) == {unit: list(told[:2])}
    # It is better than nothing.
    assert symptoms.last_words(lines[2:]) == {unit: [told[2]]}
