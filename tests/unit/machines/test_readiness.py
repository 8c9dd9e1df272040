"""The state machine of a boot, alone: any order of sightings keeps its promises."""

from __future__ import annotations

import signal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rave_cli.errors import ExitCode, RaveError
from rave_cli.machines.guest.readiness import (
    AFTER_CORE,
    FATAL_CONSOLE,
    NAMES,
    RECOVERS,
    STAGES,
    Reached,
    Readiness,
    describe_exit,
)
from rave_cli.machines.guest.stages import StageEvent
from rave_cli.machines.qemu.qmp import QmpEvent


def boot(scale: float = 1.0) -> tuple[Readiness, list[Reached]]:
    seen: list[Reached] = []
    return Readiness("demo", "me", scale=scale, on_stage=seen.append), seen


SIGHTINGS = st.lists(
    st.tuples(
        st.sampled_from(["reach", "console", "systemd", "sshd", "services", "tick"]),
        st.sampled_from(NAMES),
        st.floats(0, 5),
    ),
    max_size=20,
)


@given(SIGHTINGS)
def test_stages_are_reached_once_and_in_order_whatever_is_seen(
    sightings: list[tuple[str, str, float]],
) -> None:
    readiness, seen = boot(scale=100)
    now = 0.0
    for kind, stage, step in sightings:
        now += step
        match kind:
            case "reach":
                readiness.reach(stage, now)
            case "console":
                readiness.console(b"Linux\r\n", now)
            case "tick":
                readiness.tick(now)
            case _:
                readiness.event(StageEvent(kind, "me", now, {}, "one boot"), now)
    assert [step.name for step in seen] == list(NAMES[: len(seen)])
    assert seen == readiness.reached
    assert [step.seconds for step in seen] == sorted(step.seconds for step in seen)


@given(st.integers(0, len(STAGES) - 1), st.floats(1, 10), st.floats(0, 50))
def test_each_deadline_counts_from_the_stage_before_and_is_scaled(
    done: int, scale: float, began: float
) -> None:
    readiness, _ = boot(scale)
    if done:
        readiness.reach(NAMES[done - 1], began)
    else:
        began = 0.0
    limit = began + STAGES[done].seconds * scale
    readiness.tick(limit - 0.01)
    with pytest.raises(RaveError, match=f"stopped at stage {NAMES[done]} ") as caught:
        readiness.tick(limit + 0.01)
    assert caught.value.exit_code == ExitCode.NOT_READY


def test_a_ready_machine_has_no_deadline() -> None:
    readiness, _ = boot()
    readiness.reach(NAMES[-1], 1)
    readiness.tick(1e9)
    assert readiness.stage is None


def report(stage: str, **states: str) -> StageEvent:
    services = {name: {"state": state, "uptime": 1.0} for name, state in states.items()}
    return StageEvent(stage, "me", 9.0, {"services": services}, "one boot")


def test_the_core_is_told_of_and_gives_the_others_time_of_their_own() -> None:
    readiness, seen = boot()
    readiness.event(report("core", nginx="healthy"), 100.0)
    assert [(step.name, step.detail) for step in seen][-1] == (
        "core", "1 healthy, guest uptime 9.0 s",
    )  # fmt: skip
    assert not readiness.has("services")
    readiness.tick(100.0 + AFTER_CORE - 1)
    with pytest.raises(RaveError, match=r"stopped at stage services .*waited 240 s"):
        readiness.tick(100.0 + AFTER_CORE + 1)
    readiness.event(report("services", nginx="healthy", matrix="healthy"), 110.0)
    assert readiness.has("services")


def test_databases_that_are_loaded_take_as_long_as_they_take() -> None:
    readiness, _ = boot()
    for now in range(10, 1000, 5):
        readiness.event(report("loading"), float(now))
        readiness.tick(float(now))
    assert readiness.stage is not None
    assert readiness.stage.name == "services"
    readiness.tick(995.0 + readiness.stage.seconds - 1)
    with pytest.raises(RaveError, match="stopped at stage services"):
        readiness.tick(995.0 + readiness.stage.seconds + 1)


@given(st.lists(st.sampled_from(["core", "services", "sshd", "systemd"]), max_size=8))
def test_the_core_is_told_of_once_a_boot_and_before_the_services(stages: list[str]) -> None:
    readiness, seen = boot()
    for now, stage in enumerate(stages):
        readiness.event(report(stage, nginx="healthy"), float(now))
    names = [step.name for step in seen]
    assert names.count("core") <= 1
    assert "services" not in names[: names.index("core")] if "core" in names else True
    assert [name for name in names if name != "core"] == [step.name for step in readiness.reached]


def test_a_guest_that_starts_anew_tells_of_its_core_anew() -> None:
    readiness, seen = boot()
    for boot_id in ("first", "second"):
        event = StageEvent("core", "me", 9.0, {"services": {}}, boot_id)
        readiness.event(event, 5.0)
    assert [step.name for step in seen].count("core") == 2


@given(st.integers(1, 80))
def test_a_fatal_line_is_found_wherever_the_read_is_cut(cut: int) -> None:
    text = b"[ 1.0] Kernel panic - not syncing: Attempted to kill init! exitcode=0x0\r\n"
    readiness, _ = boot()
    faults = []
    for part in (text[:cut], text[cut:]):
        try:
            readiness.console(part, 1)
        except RaveError as error:
            faults.append(error.message)
    assert "the guest's kernel panicked" in faults[0]


@pytest.mark.parametrize(
    "line",
    [
        b'You are in emergency mode. After logging in, type "journalctl -xb"',
        b"You are in rescue mode. ",
        b"Cannot open access to console, the root account is locked.",
        b"Gave up waiting for root file system device.",
        b"Entering emergency mode. Exit the shell to continue.",
        b"Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)",
    ],
)
def test_what_distributions_print_before_they_give_up_is_known(line: bytes) -> None:
    assert any(pattern.search(line) for pattern, _ in FATAL_CONSOLE)


def test_ordinary_output_is_not_fatal() -> None:
    readiness, seen = boot()
    readiness.console(b"emergency-mode docs\r\nNot a panic\r\n", 1)
    assert [step.name for step in seen] == ["qemu", "kernel"]


def test_an_unknown_stage_of_a_newer_guest_is_ignored() -> None:
    readiness, seen = boot()
    readiness.event(StageEvent("brand-new", "me", 1.0), 1)
    assert seen == []


def test_an_answer_of_another_instance_is_refused() -> None:
    readiness, _ = boot()
    with pytest.raises(RaveError, match="did not take its credentials"):
        readiness.event(StageEvent("services", "you", 1.0), 1)


def test_a_healthy_disk_error_report_goes_on() -> None:
    readiness, _ = boot()
    readiness.qmp(QmpEvent("BLOCK_IO_ERROR", {"action": "report"}), 1)
    readiness.qmp(QmpEvent("NIC_RX_FILTER_CHANGED", {}), 1)


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (None, "ended"),
        (0, "exit status 0"),
        (1, "exit status 1"),
        (-signal.SIGABRT, "SIGABRT"),
        (-signal.SIGKILL, "out-of-memory"),
    ],
)
def test_the_end_of_a_process_is_put_in_words(code: int | None, text: str) -> None:
    assert text in describe_exit(code)


def test_every_stage_names_what_it_waits_for_and_a_command() -> None:
    assert all(stage.waits_for and stage.hint.startswith("rave ") for stage in STAGES)


HEALTHY = {"services": {"nginx": {"state": "healthy", "uptime": 3.0}}}


@pytest.mark.parametrize("ids", [("one", "two"), (None, None)])
def test_a_guest_that_starts_anew_is_waited_for_again(ids: tuple[str | None, str | None]) -> None:
    readiness, seen = boot()
    readiness.reach("qemu", 0.1)
    for stage, uptime in (("systemd", 2.0), ("services", 9.0)):
        readiness.event(StageEvent(stage, "me", uptime, HEALTHY, ids[0]), 10.0)
    assert readiness.has("services")
    readiness.event(StageEvent("systemd", "me", 2.1, {}, ids[1]), 300.0)
    assert not readiness.has("services")
    assert readiness.services is None
    assert [step.name for step in readiness.reached] == ["qemu", "kernel", "systemd"]
    # Its deadlines count from now, not from the first boot's.
    readiness.tick(301.0)
    readiness.event(StageEvent("services", "me", 8.0, HEALTHY, ids[1]), 310.0)
    assert [step.name for step in seen][-3:] == ["kernel", "systemd", "services"]


def test_a_guest_that_goes_down_is_not_ready_any_more() -> None:
    readiness, _ = boot()
    readiness.event(StageEvent("services", "me", 9.0, HEALTHY, "one"), 10.0)
    readiness.event(StageEvent("stopping", "me", 50.0, {}, "one"), 51.0)
    assert not readiness.has("services")


def test_whoever_joins_waits_for_a_verdict_newer_than_what_mended_it() -> None:
    readiness, _ = boot()
    readiness.join()
    bad = {"redis": {"state": "failed", "unit": "redis.service"}}
    good = {"redis": {"state": "healthy", "unit": "redis.service", "uptime": 3.0}}
    readiness.event(StageEvent("services", "me", 9.0, {"services": bad}), 9.0)
    readiness.tick(10.0)
    readiness.event(StageEvent("services", "me", 12.0, {"services": good}), 12.0)
    readiness.reach("ssh-auth", 13.0)
    readiness.tick(9.1 + RECOVERS)
    assert readiness.has("services")


def test_whoever_joins_waits_for_what_still_starts() -> None:
    readiness, _ = boot()
    readiness.join()
    services = {"canaille": {"state": "starting", "unit": "canaille.service", "uptime": 3.0}}
    readiness.event(StageEvent("services", "me", 9.0, {"services": services}), 9.0)
    readiness.tick(9.1 + RECOVERS)
    assert not readiness.has("services")
    services["canaille"]["state"] = "healthy"
    readiness.event(StageEvent("services", "me", 40.0, {"services": services}), 40.0)
    assert readiness.has("services")


def test_whoever_joins_is_told_of_what_stays_broken() -> None:
    readiness, _ = boot()
    readiness.join()
    bad = {"redis": {"state": "failed", "unit": "redis.service"}}
    for now in (9.0, 15.0):
        readiness.event(StageEvent("services", "me", now, {"services": bad}), now)
    with pytest.raises(RaveError, match="failed: redis"):
        readiness.tick(9.1 + RECOVERS)
