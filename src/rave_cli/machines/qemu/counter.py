"""How fast this host's time stamp counter counts: under TCG, a guest reads that very counter.

A guest that has to find out compares it with the ACPI timer (arch/x86/kernel/tsc.c of Linux), and
takes the least of what it measured. Where its processor is taken away in the middle that is far too
little, and stays: a better figure, a second later, is dropped if it differs by more than 1 %. Seen
on a host with load 11: a guest whose clock ran 5.7 times too fast, so that whatever it waited for
was late. So it is told, as `tsc_early_khz`.
"""

from __future__ import annotations

import mmap
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

CPUINFO = Path("/proc/cpuinfo")

# rdtsc; shl $32, %rdx; or %rdx, %rax; ret: a function without arguments that returns 64 bits
# (Intel SDM volume 2, System V ABI for x86-64).
RDTSC = bytes.fromhex("0f31 48c1e220 4809d0 c3")
APART = 0.05  # seconds between the two readings
TRIES = 100  # of which the quickest counts: nobody took the processor away in the middle of it


def khz() -> int | None:
    """Return how many thousand times a second it counts.

    None where nobody can say: on a processor of another kind, on one whose counter is not constant,
    or where no code may be made at run time.
    """
    flags = CPUINFO.read_text(errors="replace") if CPUINFO.exists() else ""
    if os.uname().machine != "x86_64" or " constant_tsc" not in flags:
        return None
    try:
        page = mmap.mmap(-1, len(RDTSC), prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    except OSError:
        return None
    import ctypes

    page.write(RDTSC)
    address = ctypes.addressof(ctypes.c_char.from_buffer(page))
    read = ctypes.CFUNCTYPE(ctypes.c_uint64)(address)
    began, first = _reading(read)
    time.sleep(APART)
    ended, second = _reading(read)
    return round((second - first) * 1_000_000 / (ended - began))


def _reading(read: Callable[[], int]) -> tuple[float, int]:
    """Return the clock, in nanoseconds, and the counter at the same moment."""
    tries = []
    for _ in range(TRIES):
        before, count = time.monotonic_ns(), read()
        after = time.monotonic_ns()
        tries.append((after - before, (before + after) / 2, count))
    _, clock, count = min(tries)
    return clock, count
