"""What Prometheus is told of a machine, and how it is told."""

from __future__ import annotations

import json
import re
import socket
import threading
import time
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rave_guest import exposition, status, vitals
from rave_guest.wire import http
from tests.debian import plan

if TYPE_CHECKING:
    from pathlib import Path

SEEN = 'rave_service_healthy{service="nginx"} 1\n'

# What the rules go by that other targets tell.
OTHERS = {"up", "pg_up", "redis_up", "nginx_up"}


@pytest.fixture
def number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """The port of a server, which has seen one service."""
    seen = tmp_path / "rave.prom"
    seen.write_text(SEEN)
    monkeypatch.setattr(status, "METRICS", str(seen))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = int(free.getsockname()[1])
    threading.Thread(target=exposition.serve, args=(port,), daemon=True).start()
    until = time.monotonic() + 10
    while time.monotonic() < until:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.01)
        else:
            break
    return port


def test_it_tells_what_was_seen_of_services_and_what_the_machine_is_like(number: int) -> None:
    answer = http.get(f"http://127.0.0.1:{number}/metrics", 10)
    text = answer.body.decode() if isinstance(answer.body, bytes) else answer.body
    assert answer.status == 200
    assert text.startswith(SEEN)
    assert re.search(r"^rave_memory_available_bytes [1-9]\d+$", text, re.MULTILINE)
    assert text.endswith("\n")


def test_who_leaves_or_says_too_much_or_nothing_at_all_holds_nobody_up(
    number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exposition, "PATIENCE", 0.2)
    address = ("127.0.0.1", number)
    with socket.create_connection(address, 10) as silent:
        socket.create_connection(address, 10).close()
        with socket.create_connection(address, 10) as long:
            long.sendall(b"x" * (exposition.MOST + 1))
            assert http.get(f"http://127.0.0.1:{number}/metrics", 10).status == 200
        assert silent.recv(1) == b""


def test_a_question_that_comes_drop_by_drop_ends_with_the_patience(
    number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exposition, "PATIENCE", 0.2)
    until = time.monotonic() + 10
    ended = False
    with socket.create_connection(("127.0.0.1", number), 10) as slow:
        while not ended and time.monotonic() < until:
            time.sleep(0.01)
            try:
                slow.sendall(b"G")
            except OSError:
                ended = True
    assert ended


def test_a_machine_that_has_seen_nothing_yet_tells_what_it_is_like(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(status, "METRICS", str(tmp_path / "none"))
    assert exposition.text().startswith("# HELP rave_memory_bytes ")


@pytest.mark.parametrize("profile", ["demo", "development", "production"])
def test_every_alert_goes_by_what_is_told(profile: str) -> None:
    """A metric that nobody tells is an alert that never fires."""
    carried = plan(profile)
    service = {"state": "healthy", "title": "", "unit": "", "uptime": 0.0}
    services = {"one": service, "two": service | {"state": "starting"}}
    state = {"services": services, "failed": [], "secrets": "absent"}
    told = status.metrics(state) + vitals.current()
    names = set(re.findall(r"^# TYPE (\w+) ", told, re.MULTILINE))
    names |= {name for name, _, _ in vitals.METRICS} | OTHERS
    asked = {
        name
        for rule in carried["facts"]["alerts"]
        for name in re.findall(r"\b(?:rave|node|pg|redis|nginx)_\w+|\bup\b", rule["expr"])
        if not name.startswith(("rave_agent_", "rave_bridge_", "rave_dispatcher_"))
    }
    assert asked >= OTHERS
    assert asked <= names


def test_the_port_is_the_plan_s_and_a_plan_of_an_older_image_has_none() -> None:
    carried = json.loads(json.dumps(plan()))
    assert exposition.port(carried) == 9101
    del carried["services"]["node-exporter"]["scrape"]["often"]
    assert exposition.port(carried) is None
    carried["services"] = {"one": {}}
    assert exposition.port(carried) is None


@given(
    st.dictionaries(st.from_regex(r"[A-Za-z_()]{1,20}", fullmatch=True), st.integers(0, 1 << 62))
)
def test_a_figure_of_a_table_of_the_kernel_is_its_own(figures: dict[str, int]) -> None:
    for form, end in (("{}: {} kB\n", ":"), ("{} {}\n", " ")):
        table = "".join(form.format(*item) for item in figures.items()).strip()
        assert {name: vitals.figure(table, name + end) for name in figures} == figures
        assert vitals.figure(table, "none of these" + end) == 0
