"""Kills of services in a development machine: which, when, and whether one really fell."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests import kills

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tests.integration.development.guest import Guest

# Ends all processes of units as nothing but the kernel could, and tells each that fell, a line
# each. A unit gets one SIGKILL for each number of its list: so many seconds after it was seen to
# run. Returns once all run anew.
PROGRAM = r"""
import json, os, subprocess, sys, threading, time

LOOK = 4.0   # seconds; each look costs an emulated machine a fifth of one
GONE = 10.0  # seconds until the kernel has ended what was killed
STOP = "/run/rave-faults-stop"
AWAY = 1     # services that are on their way at most when another falls

def look():
    argv = ["systemctl", "show", "-p", "Id,ActiveState,MainPID,ControlGroup", *plan]
    text = subprocess.run(argv, check=True, capture_output=True, text=True).stdout
    tables = [dict(line.split("=", 1) for line in one.splitlines()) for one in text.split("\n\n")]
    return {one["Id"]: one for one in tables if one}

def watch():
    global seen
    while busy:
        found = look()
        with news:
            seen = found
            news.notify_all()
        time.sleep(LOOK)

def running(unit, but):
    with news:
        while (found := seen.get(unit, {})).get("ActiveState") != "active" or (
                found["MainPID"] in ("0", but)):
            news.wait()
        return found

def few_away():
    # What starts for minutes is hindered by what falls meanwhile: nothing would come up.
    with news:
        while sum(one["ActiveState"] != "active" for one in seen.values()) > AWAY:
            news.wait()

def started(pid):
    try:
        with open("/proc/" + pid + "/stat") as file:
            fields = file.read().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # One that waits for its parent to look has ended.
    return None if fields[0] in "ZX" else fields[19]

def of(found):
    try:
        with open("/sys/fs/cgroup" + found["ControlGroup"] + "/cgroup.procs") as file:
            every = {one: started(one) for one in file.read().split()}
    except FileNotFoundError:
        return {}
    return {one: since for one, since in every.items() if since}

def fall(unit, gaps):
    pid = ""
    for gap in gaps:
        running(unit, pid)
        time.sleep(gap)
        if os.path.exists(STOP):
            break
        few_away()
        # It may have ended by itself since the last look.
        while (found := running(unit, pid))["MainPID"] not in (before := of(found)):
            time.sleep(LOOK)
        pid, group = found["MainPID"], "/sys/fs/cgroup" + found["ControlGroup"]
        with open("/proc/uptime") as file:
            uptime = float(file.read().split()[0])
        age = uptime - float(before[pid]) / os.sysconf("SC_CLK_TCK")
        at = time.time()
        with open(group + "/cgroup.kill", "w") as file:
            file.write("1")
        until = time.monotonic() + GONE
        while (left := [p for p, s in before.items() if started(p) == s]):
            if time.monotonic() > until:
                break
            time.sleep(0.05)
        print(json.dumps({"at": round(at, 2), "unit": unit, "pid": int(pid), "age": round(age, 1),
                          "processes": len(before), "left": len(left)}), flush=True)
    running(unit, pid)

if os.path.exists(STOP):
    os.unlink(STOP)
plan, seen, busy, news = json.loads(sys.argv[1]), {}, True, threading.Condition()
threads = [threading.Thread(target=fall, args=one) for one in plan.items()]
for one in [threading.Thread(target=watch, daemon=True), *threads]:
    one.start()
for one in threads:
    one.join()
busy = False
"""
BACK = 900.0  # seconds until all run anew: what an application may take to start
UNIT, TOLD, STOP = "rave-faults-storm", "/run/rave-faults.jsonl", "/run/rave-faults-stop"


@dataclass(frozen=True)
class Fall:
    """A service that ran and was killed: when, by the guest's clock, with how many processes, and
    how many seconds it had run.
    """

    at: float
    unit: str
    pid: int
    age: float
    processes: int
    left: int

    @property
    def service(self) -> str:
        """Return the unit's name without what kind of unit it is."""
        return self.unit.removesuffix(".service")


def _schedule(falls: Mapping[str, Sequence[float]]) -> str:
    return json.dumps({f"{service}.service": gaps for service, gaps in falls.items()})


def _read(text: str) -> list[Fall]:
    found = [Fall(**json.loads(line)) for line in text.splitlines()]
    for one in found:
        assert one.left == 0, f"{one} has not fallen"
        kills.count()
    return found


def killed(guest: Guest, falls: Mapping[str, Sequence[float]]) -> list[Fall]:
    """Kill services, each so many seconds after it runs; return once all run anew."""
    found = _read(guest.run("python3", "-I", "-c", PROGRAM, _schedule(falls), timeout=BACK))
    assert len(found) == sum(map(len, falls.values())), found
    return found


def begin(guest: Guest, falls: Mapping[str, Sequence[float]]) -> None:
    """Have services killed in the background: the way into the machine stays free."""
    guest.run(
        "systemd-run", "--quiet", f"--unit={UNIT}", "--remain-after-exit", "--collect",
        f"--property=StandardOutput=truncate:{TOLD}",
        "python3", "-I", "-c", PROGRAM, _schedule(falls),
    )  # fmt: skip


def under_way(guest: Guest) -> bool:
    """Return whether it goes on."""
    shown = guest.run("systemctl", "show", "-P", "SubState", f"{UNIT}.service").strip()
    assert shown in ("running", "exited"), f"{UNIT}.service: {shown}"
    return shown == "running"


def stop(guest: Guest) -> None:
    """Have no more killed; it goes on until all run anew."""
    guest.run("touch", STOP)


def ended(guest: Guest) -> list[Fall]:
    """Return what has fallen, once it is no longer under way."""
    guest.run("systemctl", "stop", f"{UNIT}.service")
    return _read(guest.run("cat", TOLD))
