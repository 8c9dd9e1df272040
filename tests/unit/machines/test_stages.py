"""What comes out of the guest's port: lines cut anywhere, lines that lie, lines that paint."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from rave_cli.machines.guest.stages import (
    LONGEST_LINE,
    Ban,
    StageEvent,
    StageReader,
    ban,
    begins_boot,
    current,
    last_boot,
    parse_line,
)

EVENTS = st.builds(
    lambda stage, instance, uptime: {
        "v": 1, "stage": stage, "instance": instance, "uptime": uptime
    },
    st.text(max_size=12), st.text(max_size=12), st.floats(0, 1e6),
)  # fmt: skip
ANY_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([10**400, -1])
    | st.floats()
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=6,
)


@given(st.lists(EVENTS | st.just({"v": 2}), max_size=8), st.data())
def test_events_come_out_whole_wherever_the_stream_is_cut(
    messages: list[dict[str, Any]], data: st.DataObject
) -> None:
    raw = b"".join(json.dumps(message).encode() + b"\n" for message in messages)
    lines, found, at = StageReader(), [], 0
    while at < len(raw):
        size = data.draw(st.integers(1, len(raw) - at))
        found += lines.feed(raw[at : at + size])
        at += size
    expected = [m["stage"] for m in messages if m["v"] == 1]
    assert [event.stage for event in found] == expected


@given(st.binary(max_size=200))
def test_no_line_crashes_the_reader(raw: bytes) -> None:
    assert isinstance(StageReader().feed(raw + b"\n"), list)


@given(st.fixed_dictionaries({"v": st.just(1), "stage": ANY_JSON, "instance": ANY_JSON},
                             optional={"uptime": ANY_JSON, "services": ANY_JSON, "boot": ANY_JSON,
                                       "secrets": ANY_JSON, "reason": ANY_JSON}))  # fmt: skip
def test_no_type_in_a_line_crashes_its_reader(message: dict[str, Any]) -> None:
    event = parse_line(json.dumps(message).encode())
    if event is not None:
        assert isinstance(event.failed_services, tuple)
        assert isinstance(event.service_uptimes, dict)
        assert event.secrets is None or isinstance(event.secrets, str)
        assert isinstance(event.reason, str)


def report(stage: str, uptime: float, boot: str | None = None, **data: Any) -> StageEvent:
    return StageEvent(stage, "i", uptime, data, boot)


STAGES = ("systemd", "sshd", "services", "secrets")
BOOTS = st.lists(st.lists(st.floats(0, 1e5), min_size=1, max_size=6).map(sorted), max_size=4)


@given(BOOTS)
def test_the_last_boot_is_found_by_its_id_whatever_the_clocks_say(boots: list[list[float]]) -> None:
    events = [
        report(STAGES[number % 4], uptime, f"boot {boot}")
        for boot, uptimes in enumerate(boots)
        for number, uptime in enumerate(uptimes)
    ]
    found = last_boot(events)
    assert [event.uptime for event in found] == (boots[-1] if boots else [])
    assert {event.boot for event in found} <= {f"boot {len(boots) - 1}"}


@given(BOOTS)
def test_a_guest_that_does_not_name_its_boots_starts_one_where_its_uptime_falls(
    boots: list[list[float]],
) -> None:
    # Every boot reports systemd first, within its first minute, and lasts longer than that.
    events = [
        event
        for uptimes in boots
        for event in (report("systemd", 2.0), *(report("sshd", 60 + uptime) for uptime in uptimes))
    ]
    assert last_boot(events) == (events[-len(boots[-1]) - 1 :] if boots else [])


def test_two_reports_of_one_boot_may_cross() -> None:
    events = [report("systemd", 2.0), report("services", 9.0), report("sshd", 8.6)]
    assert last_boot(events) == events
    assert begins_boot(report("sshd", 3.0), report("services", 9.0))
    assert begins_boot(report("systemd", 9.1), report("services", 9.0))
    assert not begins_boot(report("sshd", 3.0, "b"), report("services", 9.0, "b"))


def test_of_several_verdicts_on_the_services_the_last_holds() -> None:
    ill, well = report("services", 9.0, "b", x=1), report("services", 20.0, "b", x=2)
    before = report("services", 30.0, "a")
    assert current([before, report("systemd", 2.0, "b"), ill, well]) == [
        report("systemd", 2.0, "b"),
        well,
    ]


def banned(**data: Any) -> StageEvent:
    return report("ban", 50.0, **({"until": 1060.0, "seconds": 60, "failures": 3} | data))


def test_a_ban_is_known_until_it_is_lifted_or_over() -> None:
    assert ban([], 1000) is None
    assert ban([banned()], 1000) == Ban(60.0, 3)
    assert ban([banned(), report("services", 60.0)], 1050) == Ban(10.0, 3)
    assert ban([banned()], 1060) is None
    assert ban([banned(), report("unban", 70.0)], 1010) is None
    assert ban([report("unban", 70.0), banned()], 1010) == Ban(50.0, 3)
    # The clock of the guest is days ahead.
    assert ban([banned(until=1e6)], 1000) == Ban(60, 3)


@given(st.fixed_dictionaries({}, optional={"until": ANY_JSON, "seconds": ANY_JSON,
                                           "failures": ANY_JSON}))  # fmt: skip
def test_no_report_of_a_ban_crashes_its_reader(data: dict[str, Any]) -> None:
    found = ban([report("ban", 50.0, **data)], 1000.0)
    assert found is None or found.seconds > 0


def test_a_line_that_is_too_long_is_dropped_whole() -> None:
    good = b'{"v":1,"stage":"sshd","instance":"i","uptime":1}\n'
    lines = StageReader()
    assert lines.feed(b'{"x":"' + b"y" * LONGEST_LINE) == []
    assert lines.feed(b"y" * 100 + b'"}\n' + good) == [StageEvent("sshd", "i", 1.0)]


def test_deeply_nested_json_is_no_event() -> None:
    assert parse_line(b'{"v":' + b"[" * 60000) is None


def test_the_services_of_a_report_are_sorted_out() -> None:
    event = StageEvent("services", "i", 9.0, {
        "services": {
            "nginx": {"state": "healthy", "unit": "nginx.service", "uptime": 3.5},
            "redis": {"state": "failed", "unit": "redis-server.service"},
            "odd": "nonsense",
        },
        "secrets": "absent",
    })  # fmt: skip
    assert event.failed_services == ("redis (redis-server.service)",)
    assert event.service_uptimes == {"nginx": 3.5}
    assert event.secrets == "absent"


def test_a_service_that_starts_within_its_deadline_has_not_failed() -> None:
    services = {
        "canaille": {"state": "starting", "unit": "canaille.service", "uptime": 3.0},
        "nginx": {"state": "healthy", "unit": "nginx.service", "uptime": 4.0},
    }
    event = StageEvent("services", "i", 5.0, {"services": services})
    assert event.failed_services == ()
    assert event.starting_services == ("canaille (canaille.service)",)


def test_a_service_that_waits_for_secrets_has_not_failed() -> None:
    services = {
        "redis": {"state": "waiting", "unit": "redis-rave.service", "uptime": 3.0},
        "nginx": {"state": "failed", "unit": "nginx.service", "uptime": 4.0},
    }
    event = StageEvent("services", "i", 5.0, {"services": services})
    assert event.failed_services == ("nginx (nginx.service)",)
    assert event.service_uptimes == {}
