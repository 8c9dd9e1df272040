"""Keeps the guest's clock with the host's. There is no network to ask for the time.

A host that sleeps, or that stops QEMU, takes time from its guest: afterwards the guest's clock is
behind, and nothing within it can tell. The machine's real-time clock can: QEMU derives it from the
host's wall clock whenever it is read (QEMU manual, `-rtc clock=host`, the default), on every
accelerator and for every guest. It gives whole seconds, and QEMU drops a fraction of a second when
it starts, so the two agree within 2 s at best.
"""

from __future__ import annotations

import sys
import time

from rave_guest import report

RTC = "/sys/class/rtc/rtc0/since_epoch"
TOLERANCE = 2.0  # seconds; what the resolution of the reference allows
EDGE = 1.1  # seconds to wait for the next second of the reference to begin
LOOK = 0.02  # seconds between two looks meanwhile


def offset() -> float | None:
    """Seconds by which the guest's clock is ahead of the host's; None without a real-time clock."""
    second = reference()
    # Half a second of the reference's second has passed on average.
    return None if second is None else time.time() - second - 0.5


def reference() -> int | None:
    """The second that the real-time clock shows, since 1970 UTC; None if there is none."""
    text = report.read(RTC)
    return int(text) if text else None


def follow() -> None:
    """Set the guest's clock if it is off by more than the tolerance; needs CAP_SYS_TIME.

    Small differences stay: a clock that jumps often is worse than one that is a second off.
    """
    wrong = offset()
    if wrong is None or abs(wrong) <= TOLERANCE:
        return
    if (second := next_second()) is not None:
        time.clock_settime(time.CLOCK_REALTIME, second)
        print(f"the clock was {wrong:+.1f} s off the host's: set", file=sys.stderr, flush=True)


def next_second() -> int | None:
    """Wait until the reference's next second begins, and return it."""
    first = reference()
    until = time.monotonic() + EDGE
    while (second := reference()) == first and time.monotonic() < until:
        time.sleep(LOOK)
    return second
