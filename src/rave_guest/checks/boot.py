"""How the machine came up: whose it is, its kernel, its plan, its start, the errors it logged."""

from __future__ import annotations

import json
import re

from rave_guest.check import Subject, check
from rave_guest.plan import PLACE
from rave_guest.system import read, run
from rave_guest.verdict import Verdict, judge, warned

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from rave_guest.system import System

# More than this many error messages in one boot is worth a look.
ERROR_BUDGET = 10
# Bits of /proc/sys/kernel/tainted that say something went wrong (kernel.org, tainted-kernels):
# forced module, bad page, died, warned, soft lockup.
BAD_TAINT = {1: "a module was forced", 5: "a bad page", 7: "an oops", 9: "a warning",
             14: "a soft lockup"}  # fmt: skip


@check("boot.identity", phase="boot",
       title="the machine that answers is the one this run is about",
       arguments=lambda about: {"instance": about.instance})  # fmt: skip
def identity(arguments: Mapping[str, Any], system: System) -> Verdict:
    """The machine that answers is the one this run was started for."""
    found = system.facts()
    problems = []
    if found["instance"] != arguments["instance"]:
        problems.append("its instance id is another one")
    return judge(problems, f"instance {found['instance']}, boot {found['boot_id']}")


@check("boot.kernel", phase="boot", title="the kernel has met no fault")
def kernel(_arguments: Mapping[str, Any], _system: System) -> Verdict:
    """The kernel has met no fault."""
    return judge_taint(int(read("/proc/sys/kernel/tainted").strip() or "0"))


def judge_taint(tainted: int) -> Verdict:
    """Read the taint bits."""
    problems = [text for bit, text in BAD_TAINT.items() if tainted >> bit & 1]
    return judge(problems, "not tainted" if not tainted else f"taint {tainted}, none of it a fault")


def _expected(about: Subject) -> dict[str, Any]:
    return {"expected": summary(about.plan)}


@check("boot.plan", phase="boot", title="the guest was made from the same plan",
       arguments=_expected)  # fmt: skip
def plan(arguments: Mapping[str, Any], _system: System) -> Verdict:
    """The guest was made from the plan that the host judges it by."""
    return judge_plan(json.loads(read(PLACE) or "{}"), arguments["expected"])


def judge_plan(found: Mapping[str, Any], expected: Mapping[str, Any]) -> Verdict:
    """Compare profile, base, services, secrets and exposed ports."""
    actual = summary(found)
    problems = [
        f"{name} differ from the host's" for name in actual if actual[name] != expected[name]
    ]
    return judge(problems, f"{actual['profile']} on {actual['base']}")


def summary(plan: Mapping[str, Any]) -> dict[str, Any]:
    """Return what of a plan must be the same on both sides."""
    return {
        "profile": plan.get("profile"),
        "base": plan.get("base"),
        "services": sorted(plan.get("services", {})),
        "secrets": sorted(plan.get("secrets", {})),
        "exposed": sorted(port["port"] for port in plan.get("exposed", [])),
    }


@check("boot.finished", phase="boot", title="the start is finished and nothing of it failed",
       retry_for=30, figures={
           "kernel_seconds": "kernel_seconds", "finish_seconds": "startup_seconds",
       })  # fmt: skip
def startup(_arguments: Mapping[str, Any], system: System) -> Verdict:
    """The machine has finished starting, and nothing of it failed."""
    names = ("SystemState", "NJobs", "UserspaceTimestampMonotonic", "FinishTimestampMonotonic")
    found = system.manager(("", name) for name in names)
    return judge_startup({name: value for (_, name), value in found.items()})


def judge_startup(manager: Mapping[str, str]) -> Verdict:
    """Read the manager's properties."""
    state = manager.get("SystemState", "unknown")
    kernel_seconds = int(manager.get("UserspaceTimestampMonotonic") or 0) / 1e6
    finish = int(manager.get("FinishTimestampMonotonic") or 0) / 1e6
    figures = {"kernel_seconds": round(kernel_seconds, 2), "finish_seconds": round(finish, 2)}
    if state in {"starting", "initializing"}:
        return judge([f"{manager.get('NJobs', '?')} jobs still wait"], "", **figures)
    problems = [] if state == "running" else [f"the system is {state}"]
    return judge(problems, f"running, kernel {kernel_seconds:.1f} s, all {finish:.1f} s", **figures)


@check("boot.journal", phase="boot", title="the journal of this boot holds few errors",
       severity="warning")  # fmt: skip
def journal_errors(arguments: Mapping[str, Any], _system: System) -> Verdict:
    """The journal of this boot holds few errors."""
    argv = ["journalctl", "-b", "-q", "--no-pager", "-p", "err", "-o", "short", "-n", "200"]
    return judge_errors(run(argv, arguments["timeout"]).stdout.splitlines())


def judge_errors(messages: list[str]) -> Verdict:
    """Count; the last message says what it was about.

    What sshd logs as errors is up to whoever connects, this suite included, and says nothing about
    the machine.
    """
    lines = [line for line in messages if not re.search(r" sshd(?:-session)?\[\d+\]: ", line)]
    if len(lines) > ERROR_BUDGET:
        return warned(f"{len(lines)} errors, the last: {lines[-1][:160]}", errors=len(lines))
    return judge([], f"{len(lines)} errors", errors=len(lines))
