"""What a machine needs that goes on after its memory lay on a disk: new randomness, and the time.

Two machines that were taken up from one memory would otherwise draw the same numbers, and a clock
goes on where it stopped. Source: random(4), for the two requests.
"""

from __future__ import annotations

import fcntl
import os
import struct
import time
from binascii import a2b_base64

from rave_guest.refusal import Refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

RANDOM = "/dev/urandom"
RNDADDENTROPY = 0x40085203
RNDRESEEDCRNG = 0x5207
LEAST, MOST = 32, 512  # bytes of entropy
LATEST = 1 << 33  # seconds since 1970 that a clock of ours may show: the year 2242


def verb(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Take randomness from the host, and then its time; tells by how much the clock was behind.

    Raises:
        Refused: `entropy` is no base64 of 32 to 512 bytes, or `now` no seconds since 1970 UTC.
    """
    entropy, now = asked(arguments)
    reseed(entropy)
    behind = now - time.time()
    time.clock_settime(time.CLOCK_REALTIME, now)
    return {"behind": behind}


def asked(arguments: Mapping[str, Any]) -> tuple[bytes, float]:
    """Return entropy and time of a request.

    Raises:
        Refused: as `verb`.
    """
    text, now = arguments.get("entropy"), arguments.get("now")
    try:
        entropy = a2b_base64(text, strict_mode=True) if isinstance(text, str) else b""
    except ValueError:
        entropy = b""
    if not LEAST <= len(entropy) <= MOST:
        raise Refused("request", f"`entropy` is to be {LEAST} to {MOST} bytes in base64")
    if isinstance(now, bool) or not isinstance(now, int | float) or not 0 < now < LATEST:
        raise Refused("request", "`now` is to be seconds since 1970 UTC")
    return entropy, float(now)


def reseed(entropy: bytes) -> None:
    """Mix entropy into the kernel's pool, and let nothing be drawn of what was there before."""
    pool = struct.pack("@ii", len(entropy) * 8, len(entropy)) + entropy
    fd = os.open(RANDOM, os.O_WRONLY | os.O_CLOEXEC)
    try:
        fcntl.ioctl(fd, RNDADDENTROPY, pool)
        fcntl.ioctl(fd, RNDRESEEDCRNG)
    finally:
        os.close(fd)
