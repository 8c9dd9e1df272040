"""The watch over all services: verdicts from units and answers, and what is told when."""

from __future__ import annotations

import json
import socket
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from rave_guest import ready, report
from rave_guest.questions import Question
from tests.waiting import NEVER

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class FakeManager:
    """PID 1 that tells prepared states; each look may bring new ones."""

    def __init__(self, *looks: dict[str, str]) -> None:
        self.looks = list(looks)
        self.asked: list[list[str]] = []
        self.closed = False

    def states(self, names: list[str]) -> dict[str, str]:
        self.asked.append(names)
        look = self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]
        return {name: look[name] for name in names if name in look}

    def told(self, wait: float) -> bool:
        return False

    def close(self) -> None:
        self.closed = True

    def failed(self) -> list[str]:
        return [name for name, state in self.looks[0].items() if state == "failed"]


def record(*units: str, checks: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    known = {"title": "T", "units": list(units), "checks": checks or []}
    return known | {"deadlineSeconds": 0.01}


class Clock:
    """A clock that goes on by a millisecond whenever somebody looks at it."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        self.now += 0.001
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def watch_over(manager: FakeManager, **services: dict[str, Any]) -> ready.Watch:
    plan = {"profile": "demo", "base": "debian", "services": services, "absent": []}
    return ready.Watch(plan, manager)  # type: ignore[arg-type]


def state(watch: ready.Watch, name: str) -> object:
    return watch.documents()[name]["state"]


def test_a_service_without_questions_is_healthy_when_its_units_are_active() -> None:
    watch = watch_over(FakeManager({"a": "activating"}, {"a": "active"}), one=record("a"))
    assert watch.settle(5, pause=0.001)
    assert state(watch, "one") == "healthy"


@pytest.mark.parametrize("busy", [True, False])
def test_a_busy_pid_1_has_nobody_to_tell_of_each_change(busy: bool) -> None:
    manager = FakeManager({"a": "activating"}, {"a": "active"})
    assert watch_over(manager, one=record("a")).settle(5, pause=0.001, busy=busy)
    assert manager.closed is busy


@pytest.mark.parametrize("loads", [True, False])
def test_nobody_is_late_while_databases_are_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loads: bool
) -> None:
    """A unit that waits for it, and one that goes down meanwhile for it lacks PostgreSQL."""
    told: list[str] = []
    monkeypatch.setattr(ready, "time", clock := Clock())
    monkeypatch.setattr(report, "send", told.append)
    monkeypatch.setattr(ready, "LOADING", str(tmp_path / "loading"))
    if loads:
        (tmp_path / "loading").mkdir()

    class Manager(FakeManager):
        def states(self, names: list[str]) -> dict[str, str]:
            clock.sleep(1.0)
            if clock.now > 200 and loads:
                (tmp_path / "loading").rmdir()
                self.looks = [{"a": "active", "b": "active"}]
            return {name: self.looks[0][name] for name in names}

    manager = Manager({"a": "activating", "b": "restarting"})
    watch = watch_over(manager, one=record("a"), two=record("b"))
    watch.settle(50, pause=0.001, grace=ready.Grace(lambda: None), busy=True)
    states = ["healthy", "healthy"] if loads else ["starting", "failed"]
    assert [state(watch, name) for name in ("one", "two")] == states
    # Every five seconds, for the host counts them.
    assert (30 <= len(told) <= 41) is loads
    assert set(told) == ({"loading"} if loads else set())


def test_all_units_of_a_service_count() -> None:
    manager = FakeManager({"a": "active", "b": "failed"})
    watch = watch_over(manager, one=record("a", "b"), two=record("a"))
    watch.settle(5, pause=0.001)
    assert (state(watch, "one"), state(watch, "two")) == ("failed", "healthy")


def test_a_unit_that_is_not_there_has_failed() -> None:
    watch = watch_over(FakeManager({}), one=record("missing"))
    watch.settle(5, pause=0.001)
    assert state(watch, "one") == "failed"


def test_a_unit_that_nothing_will_start_has_failed() -> None:
    watch = watch_over(FakeManager({"a": "queued"}, {"a": "inactive"}), one=record("a"))
    watch.settle(5, pause=0.001)
    assert state(watch, "one") == "failed"


def test_an_active_unit_must_answer() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"https://127.0.0.1:{listener.getsockname()[1]}/"
        check = {"kind": "http", "from": "guest", "url": url, "status": 200}
        watch = watch_over(FakeManager({"a": "active"}), one=record("a", checks=[check]))
        watch.settle(5, pause=0.01)
        assert state(watch, "one") == "healthy"
    assert watch.settle(0.05, pause=0.01)
    assert state(watch, "one") == "failed"


def test_patience_ends() -> None:
    watch = watch_over(FakeManager({"a": "activating"}), one=record("a"))
    watch.settle(0.02, pause=0.001)
    assert state(watch, "one") == "failed"
    assert not watch.all_well()


def test_each_service_has_its_own_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(ready, "time", clock)
    manager = FakeManager({"quick": "active", "slow": "active"})
    watch = watch_over(manager, one=record("quick"), two=record("slow") | {"deadlineSeconds": 0.3})
    assert watch.settle(5, pause=0.001)
    assert watch.at_rest()
    manager.looks = [{"quick": "activating", "slow": "activating"}]
    began = clock.now
    watch.settle(0.05, pause=0.001)
    assert (state(watch, "one"), state(watch, "two")) == ("failed", "starting")
    assert not watch.at_rest()
    while state(watch, "two") == "starting":
        watch.settle(0.05, pause=0.001)
    assert state(watch, "two") == "failed"
    assert clock.now - began >= 0.3


def test_a_service_that_starts_within_its_deadline_has_not_failed() -> None:
    manager = FakeManager({"slow": "active"})
    watch = watch_over(manager, one=record("slow") | {"deadlineSeconds": 60})
    watch.settle(5, pause=0.001)
    manager.looks = [{"slow": "activating"}]
    watch.settle(0.02, pause=0.001)
    assert (state(watch, "one"), watch.all_well()) == ("starting", True)
    manager.looks = [{"slow": "active"}]
    watch.settle(5, pause=0.001)
    assert state(watch, "one") == "healthy"


def test_what_has_failed_is_not_said_to_start_until_it_is_healthy() -> None:
    manager = FakeManager({"slow": "failed"})
    watch = watch_over(manager, one=record("slow") | {"deadlineSeconds": 60})
    watch.settle(5, pause=0.001)
    manager.looks = [{"slow": "activating"}]
    watch.settle(0.02, pause=0.001)
    assert state(watch, "one") == "failed"


# --- a boot in which something fails -------------------------------------------------------------


def settled(watch: ready.Watch) -> list[str]:
    """Settle a boot with a patience that never ends; return what happened on trouble."""
    troubles: list[str] = []
    watch.settle(NEVER, pause=0.001, grace=ready.Grace(lambda: troubles.append("trouble")))
    return troubles


@pytest.fixture
def short_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ready, "GRACE", 0.05)


def test_a_unit_that_is_started_over_and_over_does_not_cost_all_patience(short_grace: None) -> None:
    manager = FakeManager({"a": "restarting", "b": "active"}, {"a": "activating", "b": "active"})
    watch = watch_over(manager, one=record("a"), two=record("b"))
    troubles = settled(watch)
    assert (state(watch, "one"), state(watch, "two")) == ("failed", "healthy")
    assert troubles == ["trouble"]


def test_nobody_waits_for_what_depends_on_a_unit_that_has_failed(short_grace: None) -> None:
    watch = watch_over(
        FakeManager({"a": "failed", "b": "activating"}), one=record("a"), two=record("b")
    )
    troubles = settled(watch)
    # It did not come up, and nobody knows that it will not.
    assert (state(watch, "one"), state(watch, "two")) == ("failed", "starting")
    assert troubles == ["trouble"]
    # Later looks give it the usual time.
    watch.settle(0.02, pause=0.001)
    assert state(watch, "two") == "failed"


def test_a_service_that_comes_up_after_all_is_healthy() -> None:
    manager = FakeManager({"a": "restarting"}, {"a": "activating"}, {"a": "active"})
    watch = watch_over(manager, one=record("a"))
    settled(watch)
    assert state(watch, "one") == "healthy"


def test_a_boot_without_trouble_takes_the_time_it_takes(short_grace: None) -> None:
    manager = FakeManager(*[{"a": "activating"}] * 40, {"a": "active"})
    watch = watch_over(manager, one=record("a"))
    began = time.monotonic()
    troubles = settled(watch)
    assert time.monotonic() - began > ready.GRACE
    assert (state(watch, "one"), troubles) == ("healthy", [])


def test_each_service_that_comes_up_gives_the_others_their_time_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    grace = ready.Grace(lambda: None)
    for at, verdicts, over in (
        (1, ["failed"], False), (10, ["healthy"], False), (19, [], False), (21, [], True),
    ):  # fmt: skip
        now[0] = float(at)
        assert grace.over(verdicts, []) == over


def test_what_the_machine_sees_of_itself_is_told_only_where_something_failed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from rave_guest import symptoms

    sent: list[dict[str, Any]] = []
    monkeypatch.setattr(report, "send", lambda _stage, **fields: sent.append(fields))
    monkeypatch.setattr(symptoms, "look", lambda units: {"units": units})
    manager = FakeManager({"a": "active", "rave-secrets.service": "inactive"})
    watch = watch_over(manager, one=record("a"))
    watch.settle(5, pause=0.001)
    ready.tell_services(watch)
    manager.looks = [{"a": "failed", "x": "failed", "rave-secrets.service": "inactive"}]
    watch.settle(5, pause=0.001)
    ready.tell_services(watch)
    manager.looks = [{"a": "active", "rave-secrets.service": "failed"}]
    watch.settle(5, pause=0.001)
    ready.tell_services(watch)
    assert "symptoms" not in sent[0]
    assert sent[1]["symptoms"] == {"units": ["a", "x"]}
    assert sent[2]["symptoms"] == {"units": ["rave-secrets.service"]}


def test_a_service_recovers() -> None:
    manager = FakeManager({"a": "failed"})
    watch = watch_over(manager, one=record("a"))
    watch.settle(5, pause=0.001)
    manager.looks = [{"a": "active"}]
    assert watch.settle(5, pause=0.001)
    assert watch.all_well()


def test_a_service_without_units_is_not_watched() -> None:
    watch = watch_over(FakeManager({"a": "active"}), element=record(), one=record("a"))
    watch.settle(5, pause=0.001)
    assert list(watch.documents()) == ["one"]


def test_each_verdict_is_told_once() -> None:
    manager = FakeManager({"a": "active", "b": "activating"}, {"a": "active", "b": "active"})
    told: list[str] = []
    watch = watch_over(manager, one=record("a"), two=record("b"))
    watch.settle(5, pause=0.001, told=lambda service: told.append(service.name))
    assert told == ["one", "two"]


def test_the_uptime_is_that_of_the_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([4.0, 9.0])
    monkeypatch.setattr(report, "uptime", lambda: next(clock))
    watch = watch_over(FakeManager({"a": "active"}), one=record("a"))
    assert watch.settle(5, pause=0.001)
    assert not watch.settle(5, pause=0.001)
    assert watch.documents()["one"]["uptime"] == 4.0


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, list[str]]]:
    """The stages that are reported, each with the services that it tells of."""
    found: list[tuple[str, list[str]]] = []

    def send(stage: str, services: dict[str, Any] | None = None) -> None:
        found.append((stage, sorted(services or {})))

    monkeypatch.setattr(report, "send", send)
    return found


def test_sshd_is_its_own_stage(sent: list[tuple[str, list[str]]]) -> None:
    watch = watch_over(FakeManager({"a": "active"}), one=record("a"))
    service = watch.services[0]
    service.name = "sshd"
    ready.tell_stage(watch, service)
    service.settle("healthy")
    ready.tell_stage(watch, service)
    assert sent == [("sshd", [])]


def test_the_core_is_told_once_it_is_there_while_others_start(
    sent: list[tuple[str, list[str]]],
) -> None:
    manager = FakeManager({"a": "active", "b": "active", "c": "activating"})
    later = record("c") | {"stage": "platform", "deadlineSeconds": 60}
    watch = watch_over(manager, one=record("a"), two=record("b"), three=later)
    watch.settle(0.05, pause=0.001, told=lambda service: ready.tell_stage(watch, service))
    assert sent == [("core", ["one", "two"])]
    manager.looks = [{"a": "active", "b": "active", "c": "active"}]
    watch.settle(5, pause=0.001, told=lambda service: ready.tell_stage(watch, service))
    assert len(sent) == 1


@pytest.mark.parametrize("state", ["active", "failed"])
def test_where_nothing_else_starts_the_core_is_not_told_of(
    sent: list[tuple[str, list[str]]], state: str
) -> None:
    """What `services` tells at the same time is the same, or a failure of its own."""
    manager = FakeManager({"a": state, "b": "active"})
    watch = watch_over(manager, one=record("a"), two=record("b"))
    watch.settle(0.05, pause=0.001, told=lambda service: ready.tell_stage(watch, service))
    assert sent == []


class Visited:
    """A service that greets each visitor and counts them."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.address: tuple[str, int] = self._socket.getsockname()
        self.visits = 0
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                visitor, _ = self._socket.accept()
                self.visits += 1
                with visitor:
                    visitor.sendall(b"SSH-2.0-x\r\n")

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def sshd(monkeypatch: pytest.MonkeyPatch) -> Iterator[Visited]:
    """A service with a banner that holds for a while."""
    visited = Visited()
    banner = Question(
        "banner", visited.address, b"", lambda a: a.startswith(b"SSH-2.0-"), holds=1000.0
    )
    monkeypatch.setattr(ready, "alive", lambda *_: [banner])
    yield visited
    visited.close()


def greeted(sshd: Visited, manager: FakeManager) -> ready.Watch:
    """A watch over that service, which was asked once."""
    watch = watch_over(manager, one=record("a"))
    watch.settle(5, pause=0.01)
    assert (state(watch, "one"), sshd.visits) == ("healthy", 1)
    return watch


def test_an_answer_that_holds_is_not_asked_for_again(sshd: Visited) -> None:
    watch = greeted(sshd, FakeManager({"a": "active"}))
    for _ in range(3):
        assert not watch.settle(5, pause=0.01)
    assert (state(watch, "one"), sshd.visits) == ("healthy", 1)
    watch.services[0].questions[0].holds = 0.0
    watch.settle(5, pause=0.01)
    assert sshd.visits == 2


def test_what_pid_1_tells_of_makes_every_answer_old(sshd: Visited) -> None:
    watch = greeted(sshd, FakeManager({"a": "active"}))
    watch.forget()
    watch.settle(5, pause=0.01)
    assert sshd.visits == 2


def test_a_service_that_was_down_must_answer_again(sshd: Visited) -> None:
    manager = FakeManager({"a": "active"})
    watch = greeted(sshd, manager)
    manager.looks = [{"a": "activating"}, {"a": "active"}]
    watch.settle(5, pause=0.01)
    assert (state(watch, "one"), sshd.visits) == ("healthy", 2)
    manager.looks = [{"a": "failed"}]
    watch.settle(5, pause=0.01)
    manager.looks = [{"a": "active"}]
    watch.settle(5, pause=0.01)
    assert (state(watch, "one"), sshd.visits) == ("healthy", 3)


def test_sshd_is_asked_for_its_banner_less_often_than_others_are_asked() -> None:
    from rave_guest.services import sshd

    (banner,) = sshd.alive({"ports": [{"name": "ssh", "port": 22}]})
    assert ready.ASK_EVERY < banner.holds < 5 * ready.ASK_EVERY


def test_secrets_absent_installed_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ready, "SECRETS", str(tmp_path / "secrets"))
    manager = FakeManager({"rave-secrets.service": "inactive"})
    watch = watch_over(manager, one=record("a"))
    assert watch.secrets() == "absent"
    (tmp_path / "secrets").symlink_to("generation-1")
    assert ready.secrets_mark() == "generation-1"
    assert watch.secrets() == "installed"
    manager.looks = [{"rave-secrets.service": "failed"}]
    assert watch.secrets() == "failed"


def test_publish_writes_page_status_and_metrics(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rave_guest import certificate, status
    from rave_guest.portal import page as portal

    monkeypatch.setattr(certificate, "not_after", lambda _pem: 12)
    places = {}
    for module, name in (
        (report, "STATUS"), (portal, "PAGE"), (portal, "SHEET"), (status, "METRICS"),
    ):  # fmt: skip
        places[name] = tmp_path / name
        monkeypatch.setattr(module, name, str(places[name]))
    manager = FakeManager({"a": "active"})
    plan = {"profile": "demo", "base": "debian", "services": {"one": record("a")}, "absent": []}
    watch = ready.Watch(plan, manager)  # type: ignore[arg-type]
    watch.settle(5, pause=0.001)
    ready.publish(plan, watch)
    document = json.loads(places["STATUS"].read_text())
    assert document["state"] == "healthy"
    assert document["services"]["one"]["state"] == "healthy"
    assert "healthy" in places["PAGE"].read_text()
    assert places["SHEET"].read_text() == portal.STYLE
    metrics = places["METRICS"].read_text()
    assert 'rave_service_healthy{service="one"} 1' in metrics
    assert "rave_certificate_not_after_seconds 12" in metrics
    # The node exporter refuses the whole file when a metric is described twice.
    described = [line for line in metrics.splitlines() if line.startswith("# TYPE")]
    assert len(described) == len(set(described))


def test_notify_reaches_pid_1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as pid1:
        pid1.bind(place)
        monkeypatch.setenv("NOTIFY_SOCKET", place)
        ready.notify("READY=1")
        assert pid1.recv(64) == b"READY=1"
    monkeypatch.delenv("NOTIFY_SOCKET")
    ready.notify("READY=1")


def test_a_verdict_that_stays_is_not_told_again() -> None:
    manager = FakeManager({"a": "active", "b": "active"}, {"a": "active", "b": "failed"})
    watch = watch_over(manager, one=record("a"), two=record("b"))
    told: list[tuple[str, str]] = []
    for _ in range(2):
        watch.settle(
            5, pause=0.001, told=lambda service: told.append((service.name, service.state))
        )
    assert told == [("one", "healthy"), ("two", "healthy"), ("two", "failed")]


def test_a_ban_is_told_once_and_its_end_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[str, dict[str, Any]]] = []
    place = tmp_path / "banned"
    monkeypatch.setattr(ready, "BANNED", str(place))
    monkeypatch.setattr(report, "send", lambda stage, **fields: told.append((stage, fields)))
    before = ready.tell_ban("")
    assert told == []
    # What the shell of infra/guest/fail2ban/rave.conf writes.
    place.write_text("10.0.2.2 3 60 1764077924\n")
    before = ready.tell_ban(before)
    before = ready.tell_ban(before)
    figures = {"failures": 3.0, "seconds": 60.0, "until": 1764077924.0}
    assert told == [("ban", {"address": "10.0.2.2", **figures})]
    place.unlink()
    assert ready.tell_ban(before) == ""
    assert told[1:] == [("unban", {})]
