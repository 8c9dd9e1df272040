"""From evidence to causes: what a machine says when it does not come up, and in which order."""

from __future__ import annotations

import json
import signal
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rave_cli.machines import causes, store
from rave_cli.machines.causes import Evidence, folded
from rave_cli.machines.guest import symptoms
from rave_cli.machines.guest.stages import StageEvent, parse_line

if TYPE_CHECKING:
    from rave_cli.images.manifest import Image
    from rave_cli.profiles.catalog import Plan

MIB = 1 << 20

# As a real guest told it, with its disk full.
FULL = {
    "size_bytes": 12475412480,
    "free_bytes": 0,
    "free_inodes": 352014,
    "read_only": False,
    "oom_kills": 0,
    "kernel": [],
    "units": [
        {"unit": "prometheus.service", "state": "activating", "result": "exit-code", "restarts": 7,
         "said": ["open /var/lib/prometheus/queries.active: no space left on device"]},
        {"unit": "postgresql.service", "state": "activating", "result": "exit-code", "restarts": 8,
         "said": ['FATAL:  could not write lock file "postmaster.pid": No space left on device']},
    ],
}  # fmt: skip
ROOMY = FULL | {"free_bytes": 9000 * MIB}


@pytest.fixture
def nothing(plan: Plan, image: Image) -> Evidence:
    """Evidence that shows nothing."""
    return Evidence(store.new_spec(plan, image, name="demo", mode="safe"), "/data/vms/demo")


def verdict(told: dict[str, Any], secrets: str = "absent") -> StageEvent:
    return StageEvent("services", "i", 20.0, {"secrets": secrets, "symptoms": told}, "b")


def unit(name: str, result: str = "exit-code", *said: str) -> dict[str, Any]:
    return {"unit": name, "state": "failed", "result": result, "restarts": 0, "said": list(said)}


def names(evidence: Evidence) -> list[str]:
    return [cause.name for cause in causes.of(evidence)]


def test_nothing_is_no_cause(nothing: Evidence) -> None:
    assert causes.of(nothing) == []


PANIC = (
    "[   31.2] Kernel panic - not syncing: sysrq triggered crash",
    "[   31.3] ---[ end Kernel panic - not syncing: sysrq triggered crash ]---",
)
NO_ROOM = "qemu-system-x86_64: file0: write failed: No space left on device"
NO_MEMORY = "cannot set up guest memory 'pc.ram': Cannot allocate memory"
NGINX = 'nginx: [emerg] unknown directive "oops" in /etc/nginx/nginx.conf:1'
OOM = "Memory cgroup out of memory: Killed process 404 (nats-server) total-vm:9kB"


@pytest.mark.parametrize(
    ("change", "name", "why", "hint"),
    [
        ({"run_state": "io-error", "host_free": 3 * MIB}, "host-disk-full", "3 MiB left",
         "df -h /data/vms/demo"),
        ({"ended": True, "returncode": 1, "qemu": (NO_ROOM,)}, "host-disk-full", "/data/vms/demo",
         "df -h"),
        ({"run_state": "io-error", "host_free": 9 << 30}, "host-disk-error", "could not be read",
         "dmesg"),
        ({"ended": True, "returncode": -signal.SIGKILL, "host_kills": 1}, "host-out-of-memory",
         "killed QEMU", "rave vm list"),
        ({"ended": True, "host_kills": 2}, "host-out-of-memory", "QEMU's cap", "--memory"),
        ({"ended": True, "returncode": 1, "qemu": (NO_MEMORY,)}, "host-out-of-memory",
         "refused QEMU more", "rave vm list"),
        ({"ended": True, "returncode": -signal.SIGKILL}, "qemu-killed", "somebody killed",
         "rave vm start demo"),
        ({"run_state": "internal-error"}, "kvm-failed", "KVM", "rave doctor accelerator"),
        ({"qemu": ("KVM: entry failed, hardware error 0x0",)}, "kvm-failed", "hardware error",
         "rave doctor accelerator"),
        ({"console": PANIC}, "guest-kernel-panic", "sysrq triggered crash", "rave vm logs demo"),
        ({"console": PANIC[:1]}, "guest-kernel-panic", "sysrq", "rave vm start demo"),
        ({"reports": (verdict(FULL),)}, "guest-disk-full", "0 of 11897 MiB left",
         "rave vm set demo --disk 20"),
        ({"reports": (verdict(FULL | {"disk": "/data"}),)}, "guest-disk-full",
         "0 of 11897 MiB left", "rave vm set demo --disk 20"),
        ({"reports": (verdict(FULL | {"disk": "/"}),)}, "guest-disk-full",
         "the disk of the guest's system is full (0 of 11897", "du -xhd3 /"),
        ({"reports": (verdict(ROOMY | {"free_inodes": 3}),)}, "guest-inodes-used", "3 more",
         "du --inodes"),
        ({"reports": (verdict(ROOMY | {"read_only": True, "units": []}),)}, "guest-read-only",
         "is read-only", "cp /data/vms/demo/*.qcow2"),
        ({"reports": (verdict(ROOMY | {"units": [unit("nats-server.service", "oom-kill")]}),)},
         "guest-out-of-memory", "killed nats-server.service", "--memory 3072"),
        ({"reports": (verdict(ROOMY | {"oom_kills": 1, "units": [], "kernel": [OOM]}),)},
         "guest-out-of-memory", "killed nats-server", "rave vm ssh demo"),
        ({"reports": (StageEvent("failed", "i", 3.0, {"reason": "emergency mode",
          "units": "mnt-x.mount"}, "b"),)}, "guest-emergency", "because mnt-x.mount failed",
         "rave vm ssh demo"),
        ({"console": ("Gave up waiting for root file system device.",)}, "guest-emergency",
         "found no root file system", "rave vm logs demo"),
        ({"reports": (StageEvent("failed", "i", 3.0, {"reason": "no root"}, "b"),)},
         "guest-emergency", "no root", "rave vm logs demo"),
        ({"reports": (verdict(ROOMY | {"units": [unit("rave-secrets.service", "exit-code",
          "secrets: decrypt: no identity matched")]}, "failed"),)}, "secrets-failed",
         "no identity matched", "rave secrets install demo"),
        ({"reports": (verdict(ROOMY | {"units": [unit("prometheus-nginx-exporter.service"),
          unit("nginx.service", "exit-code", NGINX)]}),)}, "unit-failed",
         f"nginx.service failed (exit-code): {NGINX}", "journalctl -b -u nginx.service"),
    ],
)  # fmt: skip
def test_a_cause_is_named_with_the_command_that_mends_it(
    nothing: Evidence, change: dict[str, Any], name: str, why: str, hint: str
) -> None:
    found = causes.of(replace(nothing, **change))
    assert found[0].name == name
    assert why in found[0].why
    assert hint in found[0].hint


def test_what_explains_the_rest_comes_first_and_the_rest_is_told(nothing: Evidence) -> None:
    seen = replace(nothing, reports=(verdict(FULL),))
    found = causes.of(seen)
    assert [cause.name for cause in found] == ["guest-disk-full", "unit-failed"]
    lines = causes.words(seen, found)
    assert lines[0].startswith("prometheus.service: open /var/lib/prometheus")
    assert lines[-1].startswith("postgresql.service: FATAL:  could not write lock file")


def test_a_console_is_quoted_only_where_the_guest_does_not_say_what_is_wrong(
    nothing: Evidence,
) -> None:
    seen = replace(nothing, console=("one", "two"), qemu=("three",))
    assert causes.words(seen, []) == ("qemu: three", "console: one", "console: two")
    seen = replace(seen, reports=(verdict(FULL),))
    assert not any(line.startswith("console:") for line in causes.words(seen, []))


def test_another_cause_is_told_beside_the_first(nothing: Evidence) -> None:
    seen = replace(nothing, reports=(verdict(FULL | {"oom_kills": 1, "kernel": [OOM]}),))
    (also, *_) = causes.words(seen, causes.of(seen))
    assert also.startswith("also: the guest, or a service within its cap, ran out of memory")


def test_only_the_last_verdict_counts(nothing: Evidence) -> None:
    well = StageEvent("services", "i", 30.0, {"secrets": "absent"}, "b")
    assert names(replace(nothing, reports=(verdict(FULL), well))) == []


# The end of a console as a real guest left it, which had reported that systemd runs in it.
CRASHED = (
    "[    5.593412] Kernel panic - not syncing: sysrq triggered crash",
    "[    5.593871] CPU: 1 PID: 139 Comm: sh Not tainted 6.1.0-49-cloud-amd64 #1",
    "[    5.594012] Call Trace:",
    "[    5.595530] R13: 0000000000000002 R14: 0000000000000000 R15: 00005629b2fd24a0",
    "[    5.595637]  </TASK>",
    "[    5.604180] Kernel Offset: 0x4a00000 from 0xffffffff81000000",
    "[    5.605907] Rebooting in 1 seconds..",
)


def test_a_panic_that_the_watcher_of_a_boot_saw_is_of_that_boot(nothing: Evidence) -> None:
    """Once it was told as history, since the guest had reported before it panicked."""
    report = StageEvent("systemd", "i", 3.0, {}, "b")
    seen = replace(nothing, console=("init", *CRASHED), reports=(report,))
    assert names(seen) == []
    seen = replace(seen, fault=f"the guest's kernel panicked: {CRASHED[0][15:]}")
    (cause,) = causes.of(seen)
    assert cause.why == "the guest's kernel panicked: sysrq triggered crash"
    # What led to it, not its registers.
    assert causes.words(seen, [cause]) == ("console: init", f"console: {CRASHED[0]}")


def test_a_panic_of_an_earlier_boot_is_history(nothing: Evidence) -> None:
    lines = (*PANIC, "Linux version 6.1")
    report = StageEvent("systemd", "i", 3.0, {}, "b")
    assert names(replace(nothing, console=lines, reports=(report,))) == []


def test_a_processor_that_is_stuck_explains_a_boot_that_goes_no_further(nothing: Evidence) -> None:
    line = "[   84.337034] watchdog: BUG: soft lockup - CPU#0 stuck for 74s! [systemd:1]"
    seen = replace(nothing, console=("init", line))
    # A busy host has a guest say so, too, which then goes on.
    assert names(seen) == []
    (cause,) = causes.of(replace(seen, fault="waited 104 s for systemd to start in the guest"))
    assert (cause.name, cause.hint) == ("guest-locked-up", "uptime; rave vm start demo")
    assert "CPU#0 stuck for 74s" in cause.why


@pytest.mark.parametrize(
    ("stays", "into"),
    [(True, "rave vm ssh demo"), (False, "rave vm start demo --keep-running, then rave vm ssh")],
)
def test_the_way_in_is_named_as_the_machine_is(nothing: Evidence, stays: bool, into: str) -> None:
    (first, _) = causes.of(replace(nothing, stays=stays, reports=(verdict(FULL),)))
    assert into in first.hint
    assert "grow it: rave vm set demo --disk 20; rave vm start demo" in first.hint


def test_no_hint_destroys_data(nothing: Evidence) -> None:
    reports = (
        verdict(FULL | {"read_only": True, "free_inodes": 0, "oom_kills": 3}, "failed"),
        StageEvent("failed", "i", 3.0, {}, "b"),
    )
    seen = replace(
        nothing, reports=reports, console=PANIC, run_state="io-error", ended=True, returncode=-9,
        qemu=("KVM: entry failed",),
    )  # fmt: skip
    found = causes.of(seen)
    assert len(found) >= 9
    for cause in found:
        assert not any(word in cause.hint for word in ("delete demo", "--fresh", "--force", "rm "))


# --- the console ---------------------------------------------------------------------------------


def test_lines_that_say_the_same_are_told_once() -> None:
    lines = ["Linux"] + [f"[ {n}.5] Failed to start pg ({n})" for n in range(11)] + ["login:"]
    assert folded(lines) == [
        "Linux",
        "[ 10.5] Failed to start pg (10) (… 10 more like it)",
        "login:",
    ]


@given(st.lists(st.sampled_from(["a", "b 1", "b 2", "c 0x1f"])))
def test_folding_loses_no_kind_and_repeats_none(lines: list[str]) -> None:
    shown = folded(lines)
    kinds = {line[0] for line in lines}
    assert sorted(line[0] for line in shown) == sorted(kinds)


# --- what a guest tells --------------------------------------------------------------------------

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=8) | st.dictionaries(
        st.sampled_from(["units", "unit", "said", "kernel", "free_bytes", "oom_kills", "result"]),
        inner, max_size=5),
    max_leaves=30,
)  # fmt: skip


@given(JSON)
def test_whatever_a_guest_tells_is_taken_apart_within_bounds(told: Any) -> None:
    found = symptoms.read(told)
    if found is None:
        assert not isinstance(told, dict)
        return
    assert len(found.units) <= symptoms.MOST_UNITS
    for line in (*found.kernel, *(said for unit in found.units for said in unit.said)):
        assert len(line) <= symptoms.LONGEST
        assert "\x1b" not in line
        assert "\n" not in line


def test_a_guest_cannot_paint_the_terminal_with_its_last_words(nothing: Evidence) -> None:
    told = ROOMY | {
        "units": [unit("n\x1b[2J.service", "exit-code", "\x1b]0;owned\x07 no\nerror: x")]
    }
    line = json.dumps({"v": 1, "instance": "i", "uptime": 3.0, "stage": "services",
                       "symptoms": told}).encode()  # fmt: skip
    report = parse_line(line)
    assert report is not None
    seen = replace(nothing, reports=(report,))
    (cause,) = causes.of(seen)
    for text in (cause.why, cause.hint, *causes.words(seen, [cause])):
        assert "\x1b" not in text
        assert "\x07" not in text
        assert "\n" not in text


def test_a_way_in_is_only_named_where_there_is_one(nothing: Evidence) -> None:
    report = StageEvent("failed", "i", 3.0, {"reason": "emergency mode"}, "b")
    seen = replace(nothing, reports=(report,), spec=replace(nothing.spec, base="nixos"))
    (cause,) = causes.of(seen)
    assert cause.hint == "rave vm logs demo has its last words"
