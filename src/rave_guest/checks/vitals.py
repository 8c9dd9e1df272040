"""What no service answers for: locale and time zone, randomness, the disk's state, stuck tasks."""

from __future__ import annotations

import os
import time

from rave_guest import facts, vitals
from rave_guest.check import check
from rave_guest.system import read
from rave_guest.verdict import Verdict, judge, skipped

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from rave_guest.system import System

# Bits from which on the kernel's pool gives all it has (random(4)).
READY = 256


@check("boot.locale", phase="boot", title="services start with UTF-8, and the clock shows UTC")
def locale(_arguments: Mapping[str, Any], system: System) -> Verdict:
    """Services start with a UTF-8 locale, and times are in UTC."""
    shown = system.manager([("", "Environment")]).get(("", "Environment"), "")
    environment = dict(word.partition("=")[::2] for word in shown.split("\0"))
    return judge_locale(environment.get("LANG", ""), time.localtime().tm_gmtoff)


def judge_locale(language: str, ahead: int) -> Verdict:
    """Read the language of services, and by how many seconds the time zone is ahead of UTC."""
    problems = [] if language.upper().endswith(".UTF-8") else [f"LANG is {language or 'not set'}"]
    if ahead:
        problems.append(f"times are {ahead:+d} s off UTC")
    return judge(problems, f"{language}, UTC")


@check("boot.entropy", phase="boot", title="the kernel's random numbers are seeded")
def entropy(_arguments: Mapping[str, Any], _system: System) -> Verdict:
    """The kernel's random numbers are seeded: keys made now cannot be guessed."""
    return judge_entropy(vitals.entropy_bits())


def judge_entropy(bits: int | None) -> Verdict:
    """Read the bits in the kernel's pool."""
    if bits is None:
        return skipped("this kernel does not tell")
    return judge([] if bits >= READY else [f"{bits} of {READY} bits"], f"{bits} bits", bits=bits)


@check("performance.disk-state", phase="performance",
       title="the disk takes writes and has met no error")  # fmt: skip
def disk_state(_arguments: Mapping[str, Any], _system: System) -> Verdict:
    """Each disk takes writes, and no file system has met an error."""
    table = facts.mounts(read("/proc/self/mountinfo"))
    found = [facts.mount_of(place, table) for place in vitals.DISKS]
    options = [mount.options if mount else frozenset() for mount in found]
    # The second follows a link to the data disk where there is one.
    refused = _written("/var/lib") or _written("/var/lib/rave")
    return judge_disk_state(frozenset.intersection(*options), refused, vitals.filesystem_errors())


def _written(directory: str) -> str:
    """Write to a file without a name; return why that failed."""
    try:
        handle = os.open(directory, os.O_TMPFILE | os.O_WRONLY, 0o600)
        try:
            os.write(handle, b"rave")
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        return error.strerror or str(error)
    return ""


def judge_disk_state(options: frozenset[str], refused: str, errors: int | None) -> Verdict:
    """Read the options of the root mount, what a write came to, and the errors counted by ext4."""
    problems = [] if "rw" in options else ["it is mounted read-only"]
    if refused:
        problems.append(f"a write failed: {refused}")
    if errors:
        problems.append(f"{errors} errors of the file system")
    return judge(problems, "writable, no errors" if errors == 0 else "writable", errors=errors)


@check("performance.stuck", phase="performance", title="no task has been stuck")
def stuck(_arguments: Mapping[str, Any], _system: System) -> Verdict:
    """No task waited for two minutes without an end, as for a disk that does not answer."""
    return judge_stuck(vitals.hung_tasks())


def judge_stuck(count: int | None) -> Verdict:
    """Read how many tasks the kernel reported."""
    if count is None:
        return skipped("this kernel does not watch for them")
    return judge([f"{count} tasks were stuck"] if count else [], "none", tasks=count)
