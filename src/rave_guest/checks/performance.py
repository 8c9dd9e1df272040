"""What the machine uses: memory against its cap, services against their share, disk, pressure."""

from __future__ import annotations

import re

from rave_guest import facts, vitals
from rave_guest.check import Subject, check
from rave_guest.system import MEMORY, RESTARTS, read
from rave_guest.verdict import Verdict, failed, judge, skipped, warned

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from rave_guest.system import System


def _cap(about: Subject) -> dict[str, Any]:
    planned = about.plan["resources"][about.mode]["memoryMiB"]
    return {"cap_mib": min(about.memory_mib or planned, planned)}


@check("performance.memory", phase="performance", title="the guest lives within its memory cap",
       arguments=_cap, figures={
           "used_mib": "guest_memory_used_mib", "available_mib": "guest_memory_available_mib",
           "cap_mib": "guest_memory_cap_mib",
       })  # fmt: skip
def memory(arguments: Mapping[str, Any], _system: System) -> Verdict:
    """The machine lives within the memory cap of its mode, with a tenth to spare."""
    return judge_memory(facts.meminfo(read("/proc/meminfo")), arguments["cap_mib"])


def judge_memory(found: Mapping[str, int], cap_mib: int) -> Verdict:
    """Read /proc/meminfo in MiB."""
    total, free = found["MemTotal"], found["MemAvailable"]
    problems = []
    if total > cap_mib:
        problems.append(f"{total} MiB are more than the cap of {cap_mib} MiB")
    if free < total // 10:
        problems.append(f"only {free} of {total} MiB available")
    used = total - free
    return judge(
        problems, f"{used} MiB used, {free} MiB available, cap {cap_mib} MiB",
        total_mib=total, used_mib=used, available_mib=free, cap_mib=cap_mib,
    )  # fmt: skip


def _processes(units: list[str]) -> list[str]:
    """The units of the processes: of a socket that is the service that it starts."""
    return [unit.replace(".socket", ".service") for unit in units]


def _shares(about: Subject) -> dict[str, Any]:
    services = [
        {"id": name, "units": _processes(s["units"]), "share_mib": s["memory"][about.mode]}
        for name, s in about.plan["services"].items()
        if s["units"]
    ]
    return {"services": services}


@check("performance.services", phase="performance",
       title="each service stays within its enforced share", arguments=_shares,
       figures={"used_mib": "service_memory_mib"})  # fmt: skip
def service_memory(arguments: Mapping[str, Any], system: System) -> Verdict:
    """Every service stays within its share, and systemd enforces the share."""
    names = [name for entry in arguments["services"] for name in entry["units"]]
    return judge_shares(system.units(names, MEMORY), arguments["services"])


def judge_shares(
    units: Mapping[str, Mapping[str, str]], services: list[Mapping[str, Any]]
) -> Verdict:
    """Compare MemoryCurrent and MemoryMax of units with the shares (MiB) of their services.

    A target has no processes, and so no cap.
    """
    over, uncapped, used = [], [], {}
    for service in services:
        mib = [int(u["MemoryCurrent"]) / 2**20 for n in service["units"]
               if (u := units.get(n, {})).get("MemoryCurrent", "").isdigit()]  # fmt: skip
        used[service["id"]] = round(sum(mib), 1)
        if sum(mib) > service["share_mib"]:
            over.append(f"{service['id']} uses {sum(mib):.0f} of {service['share_mib']} MiB")
        uncapped += [
            name
            for name in service["units"]
            if not name.endswith(".target")
            and not units.get(name, {}).get("MemoryMax", "").isdigit()
        ]
    if over:
        return failed("; ".join(over), used_mib=used)
    if uncapped:
        return warned(f"without MemoryMax: {', '.join(uncapped)}", used_mib=used)
    return judge([], f"{sum(used.values()):.0f} MiB in {len(used)} services", used_mib=used)


@check("performance.oom", phase="performance", title="nothing was killed for want of memory")
def out_of_memory(_arguments: Mapping[str, Any], _system: System) -> Verdict:
    """The kernel killed nothing for want of memory."""
    found = re.search(r"^oom_kill (\d+)$", read("/proc/vmstat"), re.MULTILINE)
    if found is None:
        return skipped("this kernel does not count them")
    kills = int(found[1])
    return judge([f"{kills} processes killed"] if kills else [], "none killed", kills=kills)


def _units(about: Subject) -> dict[str, Any]:
    units = [unit for s in about.plan["services"].values() for unit in _processes(s["units"])]
    return {"units": units}


@check("performance.restarts", phase="performance", title="no service had to be restarted",
       severity="warning", arguments=_units)  # fmt: skip
def restarts(arguments: Mapping[str, Any], system: System) -> Verdict:
    """No service had to be restarted by systemd since boot."""
    found = system.units(arguments["units"], RESTARTS)
    again = {n: int(u["NRestarts"]) for n, u in found.items() if u.get("NRestarts", "0") != "0"}
    if again:
        return warned(", ".join(f"{name}: {count}" for name, count in again.items()), again=again)
    return judge([], f"none in {len(found)} units")


@check("performance.disk", phase="performance", title="each file system has room",
       figures={"used_mib": "disk_used_mib"})  # fmt: skip
def disk(_arguments: Mapping[str, Any], _system: System) -> Verdict:
    """Each file system has room: that of which the least is left."""
    _, found = vitals.scarcest()
    return judge_disk(found.f_frsize * found.f_blocks, found.f_frsize * found.f_bavail)


def judge_disk(total: int, free: int) -> Verdict:
    """Read the bytes of the file system."""
    problems = ["less than a tenth is free"] if free < total / 10 else []
    used = (total - free) / 2**20
    return judge(
        problems, f"{used:.0f} MiB used of {total / 2**20:.0f}",
        used_mib=round(used), total_mib=round(total / 2**20),
    )  # fmt: skip


@check("performance.pressure", phase="performance", title="tasks hardly wait for memory")
def pressure(_arguments: Mapping[str, Any], _system: System) -> Verdict:
    """Tasks hardly wait for memory (PSI: share of the last 60 s)."""
    text = read("/proc/pressure/memory")
    if not text:
        return skipped("this kernel measures no pressure")
    return judge_pressure(text)


def judge_pressure(text: str) -> Verdict:
    """Read /proc/pressure/memory (kernel.org/doc, accounting/psi)."""
    found = re.search(r"^some .*avg60=([\d.]+)", text, re.MULTILINE)
    share = float(found[1]) if found else 0.0
    if share > 10:
        return warned(f"tasks waited for memory {share:.0f} % of the last minute", some60=share)
    return judge([], f"{share:.1f} % of the last minute", some60=share)
