"""A machine's port, whatever the machine does at it: what it may take of this host is bounded."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from rave_cli.pool.guests.door import AT_ONCE, BYTES_PER_SECOND, CHUNK, GoneError
from rave_cli.pool.guests.lines import LONGEST, MOST_LINES

if TYPE_CHECKING:
    from tests.unit.pool.guests.conftest import Port

NOW = 1000.0


def question(number: int = 1, ask: str = "terms", **members: Any) -> bytes:
    return json.dumps({"v": 1, "id": f"{number:016x}", "ask": ask, **members}).encode() + b"\n"


def test_a_question_is_answered_with_its_id(port: Port) -> None:
    port.say(b"half a line of the one before\n" + question(7))
    port.door.hear(NOW)
    (line,) = port.heard().splitlines()
    assert json.loads(line)["id"] == f"{7:016x}"


def test_whoever_asks_without_end_is_read_no_faster_than_it_may_ask(port: Port) -> None:
    answered, now = 0, NOW
    while now < NOW + 10:
        port.say(question(answered + 1))
        if port.door.wait(now) == 0.0:
            port.door.hear(now)
        answered += len(port.heard().splitlines())
        now += 0.01
    assert 20 * 10 <= answered <= 20 * (10 + AT_ONCE) + 1


def test_whoever_writes_without_end_is_read_no_faster_than_it_may(port: Port) -> None:
    taken, now = 0, NOW
    while now < NOW + 4:
        port.say(b"x" * CHUNK)
        while port.door.wait(now) == 0.0:
            before = port.door._free
            port.door.hear(now)
            if port.door._free == before:
                break
            taken += CHUNK
            port.say(b"x" * CHUNK)
        now += 0.05
    assert taken <= BYTES_PER_SECOND * (4 + AT_ONCE) + 2 * CHUNK
    assert port.door._lines.held <= LONGEST


def test_a_letter_now_and_then_costs_what_it_is(port: Port) -> None:
    for letter in question(3):
        port.say(bytes((letter,)))
        port.door.hear(NOW)
    assert json.loads(port.heard())["ok"]


def test_of_many_lines_at_once_few_are_answered_and_the_next_is(port: Port) -> None:
    port.say(b"".join(question(number) for number in range(1, 600)))
    now = NOW
    for _ in range(100):
        port.door.hear(now)
        now += 1
        assert len(port.door._asked) <= MOST_LINES
    port.heard()
    port.say(b"\n" + question(1000))
    port.door.hear(now)
    assert f"{1000:016x}".encode() in port.heard()


def test_whoever_does_not_take_its_answers_is_not_read_any_more(port: Port) -> None:
    port.qemu.setsockopt(1, 8, 4096)  # SO_RCVBUF: no more than a few answers fit
    now, most = NOW, 0
    for number in range(3000):
        port.say(question(number + 1))
        if port.door.wait(now) == 0.0:
            port.door.hear(now)
        most = max(most, len(port.door._out))
        now += 1
    assert port.door.speaks
    assert port.door.wait(now) is None
    assert most < 1 << 10
    assert port.say(b"x" * (1 << 20)) < 1 << 20


def test_one_that_is_closed_is_gone(port: Port) -> None:
    port.qemu.close()
    with pytest.raises(GoneError):
        port.door.hear(NOW)
