"""What makes a machine unfit while every service answers: clock, certificate, disk, stuck tasks.

Each reading is None where this machine does not tell. Metrics and checks read the same.
"""

from __future__ import annotations

import glob

from rave_guest import certificate, clock, report

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

HUNG_TASKS = "/proc/sys/kernel/hung_task_warnings"
# The kernel tells of so many stuck tasks, counting down, then falls silent (sysctl/kernel.rst).
HUNG_WARNINGS = 10
ERRORS = "/sys/fs/ext4/*/errors_count"
ENTROPY = "/proc/sys/kernel/random/entropy_avail"


def certificate_not_after() -> int | None:
    """When nginx's certificate ends, in seconds since 1970."""
    try:
        return certificate.not_after(report.read(certificate.CURRENT))
    except ValueError:
        return None


def filesystem_errors() -> int | None:
    """Errors that ext4 met since the file system was made or last repaired."""
    counts = [report.read(path) for path in glob.glob(ERRORS)]
    return sum(int(count) for count in counts if count) if counts else None


def hung_tasks() -> int | None:
    """Tasks that were stuck for two minutes since boot; the kernel counts up to ten."""
    left = report.read(HUNG_TASKS)
    return max(0, HUNG_WARNINGS - int(left)) if left.isdigit() else None


def entropy_bits() -> int | None:
    """Bits in the kernel's pool; 256 from the moment on at which it is ready (random(4))."""
    bits = report.read(ENTROPY)
    return int(bits) if bits else None


# Name of the metric, what it says, and where it is from.
METRICS: tuple[tuple[str, str, Callable[[], float | None]], ...] = (
    (
        "rave_clock_offset_seconds",
        "By how much the clock is ahead of the host's.",
        clock.offset,
    ),
    (
        "rave_certificate_not_after_seconds",
        "When nginx's certificate ends, since 1970.",
        certificate_not_after,
    ),
    (
        "rave_filesystem_errors",
        "Errors that the file system met.",
        filesystem_errors,
    ),
    (
        "rave_hung_tasks",
        "Tasks that were stuck for two minutes since boot.",
        hung_tasks,
    ),
)


def metrics() -> str:
    """All that this machine tells, for the node exporter's textfile collector."""
    lines = []
    for name, title, look in METRICS:
        if (value := look()) is not None:
            lines += [f"# HELP {name} {title}", f"# TYPE {name} gauge", f"{name} {value}"]
    return "".join(f"{line}\n" for line in lines)
