"""What a guest is given after its memory lay on a disk: randomness first, then the time."""

from __future__ import annotations

import fcntl
import os
import struct
import time
from base64 import b64encode
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rave_guest import resumed
from rave_guest.refusal import Refused

ENTROPY = bytes(range(64))
GOOD = {"entropy": b64encode(ENTROPY).decode(), "now": 1795623856.5}


def test_randomness_comes_before_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[tuple[Any, ...]] = []
    monkeypatch.setattr(resumed, "RANDOM", os.devnull)
    monkeypatch.setattr(fcntl, "ioctl", lambda _fd, *words: done.append(words))
    monkeypatch.setattr(time, "clock_settime", lambda *words: done.append(words))
    monkeypatch.setattr(time, "time", lambda: 1795623800.5)
    assert resumed.verb(GOOD) == {"behind": 56.0}
    (add, pool), (reseed,), (clock, now) = done
    assert (add, reseed) == (0x40085203, 0x5207)
    assert struct.unpack_from("@ii", pool) == (512, 64)
    assert pool[8:] == ENTROPY
    assert (clock, now) == (time.CLOCK_REALTIME, 1795623856.5)


@pytest.mark.parametrize(
    "change",
    [
        {"entropy": None}, {"entropy": "!"}, {"entropy": b64encode(bytes(31)).decode()},
        {"entropy": b64encode(bytes(513)).decode()}, {"now": True}, {"now": "1"}, {"now": -1},
        {"now": 1e300}, {"now": float("nan")},
    ],
)  # fmt: skip
def test_what_is_neither_is_refused_before_anything_is_done(change: dict[str, Any]) -> None:
    with pytest.raises(Refused):
        resumed.asked(GOOD | change)


@given(st.dictionaries(st.sampled_from(["entropy", "now"]), st.text() | st.floats() | st.none()))
def test_no_request_is_a_fault(request: dict[str, Any]) -> None:
    with suppress(Refused):
        resumed.asked(request)
