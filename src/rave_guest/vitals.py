"""What makes a machine unfit while every service answers: clock, certificate, disk, stuck tasks.

Each reading is None where this machine does not tell. Metrics and checks read the same.
"""

from __future__ import annotations

import glob
import os

from rave_guest import backups, certificate, clock, report

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

HUNG_TASKS = "/proc/sys/kernel/hung_task_warnings"
# The kernel tells of so many stuck tasks, counting down, then falls silent (sysctl/kernel.rst).
HUNG_WARNINGS = 10
ERRORS = "/sys/fs/ext4/*/errors_count"
ENTROPY = "/proc/sys/kernel/random/entropy_avail"
# The system's disk, and that of the data, which not every machine has.
DISKS = ("/", "/data")


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
    # What the host said with the latest backup.
    (
        "rave_backup_at_seconds",
        "Of when the latest backup of this machine is, since 1970.",
        backups.of("at"),
    ),
    (
        "rave_backup_due_seconds",
        "When the next backup is late, since 1970.",
        backups.of("due"),
    ),
    (
        "rave_backup_restored_seconds",
        "When a backup was last restored to see whether it can be, since 1970.",
        backups.of("restored"),
    ),
    # What it says whenever it fetches PostgreSQL's log.
    (
        "rave_log_kept_until_seconds",
        "Up to when the host has PostgreSQL's log, since 1970.",
        backups.of_log("at"),
    ),
    (
        "rave_log_due_seconds",
        "When the host has too little of PostgreSQL's log, since 1970.",
        backups.of_log("due"),
    ),
)


def metrics() -> str:
    """All that this machine tells, for Prometheus."""
    return "".join(
        metric(name, "gauge", title, value)
        for name, title, look in METRICS
        if (value := look()) is not None
    )


def disks() -> dict[str, os.statvfs_result]:
    """The file systems of this machine's disks, by where they are."""
    return {place: os.statvfs(place) for place in DISKS if os.path.isdir(place)}


def scarcest() -> tuple[str, os.statvfs_result]:
    """The file system of which the least share is left for services, and where it is."""
    return min(disks().items(), key=lambda one: one[1].f_bavail / max(one[1].f_blocks, 1))


def readonly() -> bool:
    """Whether a disk takes no more writes."""
    return any(disk.f_flag & os.ST_RDONLY for disk in disks().values())


def current() -> str:
    """What changes by itself at any time, and takes next to nothing to read: memory and disk."""
    memory = report.read("/proc/meminfo")
    _, disk = scarcest()
    kills = figure(report.read("/proc/vmstat"), "oom_kill ")
    return "".join(
        metric(*one)
        for one in (
            ("rave_memory_bytes", "gauge", "Memory of the machine.",
             figure(memory, "MemTotal:") << 10),
            ("rave_memory_available_bytes", "gauge", "Memory that is left for whoever asks.",
             figure(memory, "MemAvailable:") << 10),
            ("rave_disk_bytes", "gauge", "Size of the file system with the least left.",
             disk.f_blocks * disk.f_frsize),
            ("rave_disk_available_bytes", "gauge", "What is left of that for services.",
             disk.f_bavail * disk.f_frsize),
            ("rave_disk_readonly", "gauge", "Whether a disk takes no more writes.",
             int(readonly())),
            ("rave_oom_kills_total", "counter", "Processes killed for want of memory.", kills),
        )
    )  # fmt: skip


def figure(table: str, name: str) -> int:
    """The number that follows a name, its separator included, at the beginning of a line; 0 if
    none does. A table of the kernel's has hundreds (proc(5)), so it is not taken apart.
    """
    _, _, rest = f"\n{table}".partition(f"\n{name}")
    return int(rest.split(None, 1)[0]) if rest else 0


def metric(name: str, kind: str, title: str, value: float) -> str:
    """One metric in Prometheus' text format."""
    return f"# HELP {name} {title}\n# TYPE {name} {kind}\n{name} {value}\n"
