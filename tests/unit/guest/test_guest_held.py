"""A guest that stands still for a template: what is stopped and frozen, and what a copy is told."""

from __future__ import annotations

import json
import os
import shutil
import socket
import time
from base64 import b64encode
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rave_guest import command, held, plan, report, resumed, tls
from rave_guest.manager import ManagerError
from rave_guest.refusal import Refused

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

GROUPS = (
    "init.scope", "user.slice", "system.slice/rave-command.service",
    "system.slice/rave-ready.service", "system.slice/ssh.service", "system.slice/nginx.service",
    "system.slice/systemd-journald.service",
)  # fmt: skip
WATCHER = "system.slice/rave-ready.service"
UNDER_WAY = {"init.scope", "system.slice/systemd-journald.service"}
OTHERS = {group for group in GROUPS if group != "system.slice/rave-command.service"}


def b64(text: str) -> str:
    return b64encode(text.encode()).decode()


GOOD: dict[str, Any] = {
    "entropy": b64encode(bytes(range(64))).decode(),
    "now": 1795623856.5,
    "instance": "6b1228606bf9e88a7e7ed606c7975002",
    "machine_id": "0123456789abcdef0123456789abcdef",
    "hostname": "two",
    "mac": "52:54:00:12:34:57",
    "origin": "https://rave.localhost:23456",
    "credentials": {
        held.HOST_KEY: b64("host key\n"),
        held.AGE_KEY: b64("age key\n"),
        held.AUTHORIZED_KEY: b64("ssh-ed25519 AAAA two\n"),
    },
    "certificate": {
        "key": "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        "chain": "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    },
}


class Pid1:
    """What stands for PID 1: units by name, and the orders that were given."""

    def __init__(self, world: World) -> None:
        self.world = world

    def order(self, *orders: tuple[str, str]) -> None:
        assert not self.world.frozen("init.scope"), "PID 1 obeys nobody while it stands still"
        for member, unit in orders:
            if member in ("StartUnit", "RestartUnit") and self.world.standing():
                assert WATCHER in self.world.standing(), "it would see what is down"
                assert self.world.standing() >= OTHERS - UNDER_WAY, "PID 1 waits for a processor"
            self.world.done.append((member, unit))
            if member == "RestartUnit":
                # Its group goes with it, and comes back when it pleases PID 1.
                shutil.rmtree(self.world.root / "cgroup/system.slice" / unit, ignore_errors=True)

    def close(self) -> None:
        self.world.done.append(("close", ""))

    def states(self, names: list[str]) -> dict[str, str]:
        stopped = "active" if self.world.stubborn else "inactive"
        return dict.fromkeys(names, stopped)


class World:
    """A guest of files: control groups that freeze as they are told to, /etc and /run."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.done: list[tuple[str, str]] = []
        self.stubborn = False
        self.moving = ""
        for group in GROUPS:
            place = root / "cgroup" / group
            place.mkdir(parents=True)
            (place / "cgroup.freeze").write_text("0\n")

    def frozen(self, group: str) -> bool:
        place = self.root / "cgroup" / group / "cgroup.freeze"
        return place.exists() and place.read_text().strip() == "1"

    def standing(self) -> set[str]:
        return {group for group in GROUPS if self.frozen(group)}

    def stands(self, group: str) -> bool:
        return (
            Path(group).name != self.moving
            and (Path(group) / "cgroup.freeze").read_text().strip() == "1"
        )


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    found = World(tmp_path)
    for name, place in {
        "CGROUPS": "cgroup", "CREDENTIALS": "credentials", "AUTHORIZED": "authorized_keys",
        "EXPORTER": "exporter.env", "MACHINE_ID": "machine-id", "HOSTS": "hosts",
        "JOURNAL": "journal", "SEED": "random-seed", "ORIGIN": "origin",
        "DATA_DISK": "data-disk",
    }.items():  # fmt: skip
        monkeypatch.setattr(held, name, str(tmp_path / place))
    for name in ("credentials", "tls", "journal/before"):
        (tmp_path / name).mkdir(parents=True)
    for name, text in {
        "machine-id": "before\n", "exporter.env": "REDIS_PASSWORD=shared\n", "tls/names": "x",
        "tls/ephemeral.key": "shared", "random-seed": "shared", "journal/before/system.journal": "",
    }.items():  # fmt: skip
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(tls, "PLACE", str(tmp_path / "tls"))
    monkeypatch.setattr(report, "INSTANCE", str(tmp_path / "instance-id"))
    monkeypatch.setattr(held, "Manager", lambda: Pid1(found))
    monkeypatch.setattr(held, "_stands", found.stands)
    monkeypatch.setattr(held, "FREEZES", 0.05)
    monkeypatch.setattr(held, "STOPS", 0.05)
    monkeypatch.setattr(held, "_now", [])
    monkeypatch.setattr(held, "_over", [])
    own = {
        "services": {
            "nginx": {"units": ["nginx.service"], "drawnAtStart": "its key"},
            "redis": {"units": ["redis.service"], "drawnAtStart": "its run id"},
            "sshd": {"units": ["ssh.service"], "drawnAtStart": None},
        }
    }
    monkeypatch.setattr(plan, "own", lambda: own)
    monkeypatch.setattr(os, "sync", lambda: found.done.append(("sync", "")))
    monkeypatch.setattr(held, "_remount", lambda _place, *, writable: None)
    monkeypatch.setattr(held, "set_mac", lambda mac: found.done.append(("mac", mac)))
    monkeypatch.setattr(socket, "sethostname", lambda name: found.done.append(("hostname", name)))
    monkeypatch.setattr(resumed, "reseed", lambda _entropy: found.done.append(("reseed", "")))
    monkeypatch.setattr(time, "clock_settime", lambda *_: found.done.append(("clock", "")))
    return found


def test_everything_but_the_channel_stands_still(world: World) -> None:
    assert held.hold({}) == {"stopped": ["nginx.service", "redis.service"], "frozen": 6}
    assert world.standing() == OTHERS


def test_what_draws_something_of_its_own_at_its_start_is_stopped_before(world: World) -> None:
    held.hold({})
    orders = [entry for entry in world.done if entry[0] == "StopUnit"]
    assert orders == [("StopUnit", "nginx.service"), ("StopUnit", "redis.service")]
    assert world.done[-2:] == [("sync", ""), ("close", "")]
    assert not (world.root / "random-seed").exists()


@pytest.mark.parametrize("fault", ["stubborn", "moving"])
def test_what_does_not_stop_or_stand_still_lets_all_go_on(world: World, fault: str) -> None:
    world.stubborn, world.moving = fault == "stubborn", "ssh.service" if fault == "moving" else ""
    with pytest.raises(Refused, match=r"did not stop|still moves"):
        held.hold({})
    assert world.standing() == set()
    assert ("StartUnit", "nginx.service") in world.done
    with pytest.raises(Refused, match="does not stand still"):
        held.become(GOOD)


def test_a_copy_that_is_told_no_origin_has_none(world: World) -> None:
    (world.root / "origin").write_text("https://template.invalid\n")
    held.hold({})
    held.become({name: value for name, value in GOOD.items() if name != "origin"})
    assert (world.root / "origin").read_text() == "\n"


@pytest.mark.parametrize(
    "origin", ["http://rave.localhost:1", "https://x\nServer: y", "https://a b", "rave", 3, None]
)
def test_an_origin_that_is_none_is_refused(world: World, origin: object) -> None:
    held.hold({})
    with pytest.raises(Refused, match="`origin` is not as it should be"):
        held.become(GOOD | {"origin": origin})
    assert world.standing() == OTHERS


def test_it_is_held_once(world: World) -> None:
    held.hold({})
    with pytest.raises(Refused, match="already"):
        held.hold({})
    assert world.standing() == OTHERS


def test_a_copy_has_new_randomness_before_anything_else_and_all_of_its_own_before_the_rest_goes_on(
    world: World,
) -> None:
    held.hold({})
    world.done.clear()
    held.become(GOOD)
    assert world.done == [
        ("reseed", ""), ("clock", ""), ("hostname", "two"), ("mac", "52:54:00:12:34:57"),
        ("RestartUnit", "systemd-journald.service"),
        ("StartUnit", "nginx.service"), ("StartUnit", "redis.service"),
        ("close", ""),
    ]  # fmt: skip
    assert world.standing() == set()


def test_what_it_is_told_is_in_force(world: World) -> None:
    held.hold({})
    held.become(GOOD)
    root = world.root
    assert (root / "credentials" / held.HOST_KEY).read_text() == "host key\n"
    assert (root / "credentials" / held.HOST_KEY).stat().st_mode & 0o777 == 0o400
    assert (root / "credentials" / held.INSTANCE_ID).read_text() == GOOD["instance"]
    assert (root / "instance-id").read_text() == f"{GOOD['instance']}\n"
    assert (root / "origin").read_text() == f"{GOOD['origin']}\n"
    assert (root / "credentials/rave.origin").read_text() == f"{GOOD['origin']}\n"
    assert (root / "authorized_keys").read_text() == "ssh-ed25519 AAAA two\n"
    assert (root / "machine-id").read_text() == f"{GOOD['machine_id']}\n"
    assert (root / "hosts").read_text() == "127.0.0.1 localhost\n127.0.1.1 two\n"
    assert (root / "tls/current.key").readlink() == Path("machine.key")
    assert (root / "tls/current.crt").readlink() == Path("machine.crt")
    files = [place for place in (root / "tls").iterdir() if not place.is_symlink()]
    assert {place.name: place.read_text() for place in files} == {
        "machine.key": GOOD["certificate"]["key"],
        "machine.crt": GOOD["certificate"]["chain"],
    }
    assert (root / "tls/machine.key").stat().st_mode & 0o777 == 0o600
    assert (root / "tls/machine.crt").stat().st_mode & 0o777 == 0o644
    assert (root / "credentials/rave.tls-key").read_text() == GOOD["certificate"]["key"]
    assert (root / "credentials/rave.tls-certificate").stat().st_mode & 0o777 == 0o400
    word = (root / "exporter.env").read_text()
    assert word.startswith("REDIS_USER=exporter\nREDIS_PASSWORD=")
    assert "shared" not in word
    assert (root / "exporter.env").stat().st_mode & 0o777 == 0o600


def test_its_data_disk_says_to_be_its_own_and_holds_what_it_held(world: World) -> None:
    place = world.root / "data-disk"
    before = held.LABEL.format("f" * 32).encode().ljust(512, b"\0") + b"a file system" * 100
    place.write_bytes(before)
    held.hold({})
    held.become(GOOD)
    now = place.read_bytes()
    assert now[:512].rstrip(b"\0") == held.LABEL.format(GOOD["machine_id"]).encode()
    assert now[512:] == before[512:]


def test_an_older_rave_brings_no_certificate_and_none_is_left_of_the_template(world: World) -> None:
    held.hold({})
    held.become({name: value for name, value in GOOD.items() if name != "certificate"})
    assert not list((world.root / "tls").iterdir())


def test_what_stood_still_waits_for_the_program_that_the_host_runs_next(world: World) -> None:
    held.hold({})
    world.done.clear()
    held.become(GOOD | {"runs": True})
    assert (world.root / "hosts").exists()
    assert (held.waits(), world.standing()) == (True, OTHERS)
    assert ("StartUnit", "nginx.service") not in world.done
    with pytest.raises(Refused, match="already"):
        held.hold({})
    with pytest.raises(Refused, match="does not stand still"):
        held.become(GOOD)
    held.go_on()
    assert (held.waits(), world.standing()) == (False, set())
    assert ("StartUnit", "nginx.service") in world.done
    count = len(world.done)
    held.go_on()
    assert len(world.done) == count


def test_a_machine_that_was_paused_wakes_with_new_randomness_and_the_time_of_now(
    world: World,
) -> None:
    with pytest.raises(Refused, match="nothing waits"):
        held.wake(GOOD)
    held.hold({})
    with pytest.raises(Refused, match="nothing waits"):
        held.wake(GOOD)
    held.become(GOOD | {"runs": True})
    world.done.clear()
    with pytest.raises(Refused, match="entropy"):
        held.wake({"now": GOOD["now"]})
    assert not world.done
    held.wake({"entropy": GOOD["entropy"], "now": GOOD["now"] + 60})
    assert [what for what, _ in world.done] == ["reseed", "clock"]
    assert (held.waits(), world.standing()) == (True, OTHERS)
    held.go_on()
    with pytest.raises(Refused, match="nothing waits"):
        held.wake(GOOD)


def test_units_that_are_to_start_anew_do_so_with_the_rest_each_once(world: World) -> None:
    held.hold({})
    held.become(GOOD | {"runs": True})
    world.done.clear()
    assert held.go_on(["set-password.service", "redis.service"])
    assert [order for order in world.done if order[1].endswith(".service")] == [
        ("RestartUnit", "systemd-journald.service"),
        ("StartUnit", "nginx.service"), ("StartUnit", "redis.service"),
        ("RestartUnit", "set-password.service"),
    ]  # fmt: skip
    assert world.standing() == set()


def test_what_a_copy_of_the_process_has_let_go_on_goes_on_once(world: World) -> None:
    held.hold({})
    held.become(GOOD | {"runs": True})
    copied = list(held._over)
    assert held.go_on()
    count = len(world.done)
    held._over.extend(copied)
    assert not held.go_on()
    assert (held.waits(), len(world.done)) == (False, count)


def test_orders_that_pid_1_does_not_take_leave_nothing_frozen(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_orders: tuple[str, str]) -> None:
        raise ManagerError("PID 1 refused StartUnit")

    held.hold({})
    held.become(GOOD | {"runs": True})
    monkeypatch.setattr(Pid1, "order", lambda _self, *orders: refuse(*orders))
    with pytest.raises(ManagerError):
        held.go_on()
    assert (held.waits(), world.standing()) == (False, set())


def test_the_journal_is_found_by_the_new_id_and_by_whoever_has_it_open(world: World) -> None:
    held.name_journal("before", "now")
    assert (world.root / "journal/now/system.journal").exists()
    assert (world.root / "journal/before/system.journal").exists()
    assert not (world.root / "journal/before").is_symlink(), "who follows it has opened it by that"
    held.name_journal("before", "now")
    held.name_journal("nobody", "other")
    assert not (world.root / "journal/other").exists()


def test_a_step_that_fails_leaves_all_standing_still(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_mac: str) -> None:
        raise OSError(19, "No such device")

    monkeypatch.setattr(held, "set_mac", fail)
    held.hold({})
    with pytest.raises(OSError, match="No such device"):
        held.become(GOOD)
    assert world.standing() == OTHERS
    assert ("StartUnit", "nginx.service") not in world.done


@pytest.mark.parametrize(
    "change",
    [
        {"entropy": ""}, {"instance": "../x"}, {"machine_id": "x" * 32}, {"hostname": "a b"},
        {"mac": "52:54"}, {"credentials": {}}, {"credentials": {held.HOST_KEY: "!"}},
        {"credentials": GOOD["credentials"] | {"more": b64("x")}},
        {"certificate": None}, {"certificate": {}},
        {"certificate": GOOD["certificate"] | {"more": "x"}},
        {"certificate": GOOD["certificate"] | {"key": "!"}},
        {"certificate": GOOD["certificate"] | {"chain": "!"}},
        {"certificate": GOOD["certificate"] | {"key": "-----BEGIN " + "x" * (64 << 10)}},
        {"credentials": GOOD["credentials"] | {held.HOST_KEY: b64("x" * (held.LONGEST_KEY + 1))}},
    ],
)  # fmt: skip
def test_a_request_that_is_none_is_refused_before_anything_is_done(
    world: World, change: dict[str, Any]
) -> None:
    held.hold({})
    world.done.clear()
    with pytest.raises(Refused):
        held.become(GOOD | change)
    assert not world.done
    assert world.standing() == OTHERS


@given(
    st.dictionaries(
        st.sampled_from([*GOOD]), st.text(max_size=40) | st.floats() | st.none() | st.just({})
    )
)
def test_no_request_is_a_fault(request: dict[str, Any]) -> None:
    with suppress(Refused):
        held.asked(GOOD | request)


class Channel:
    """The command channel of a guest that stands still; `step` until `done`, at most 10 s."""

    def __init__(self) -> None:
        self.here, self.there = socket.socketpair()
        self.here.setblocking(False)
        self.there.setblocking(False)
        self.server = command.Server(self.there.fileno(), "before")
        self.heard = b""

    def say(self, *lines: bytes) -> None:
        self.here.sendall(b"".join(line + b"\n" for line in lines))

    def until(self, done: Callable[[], bool]) -> None:
        end = time.monotonic() + 10
        while not done():
            assert time.monotonic() < end, self.heard
            self.server.step()
            with suppress(BlockingIOError):
                self.heard += self.here.recv(65536)

    def close(self) -> None:
        self.here.close()
        self.there.close()


@pytest.fixture
def waiting(world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[Channel]:
    """A machine that has just become itself, with a host that runs a program next."""
    monkeypatch.setattr(report, "instance", lambda: GOOD["instance"])
    held.hold({})
    channel = Channel()
    become = b"become " + json.dumps(GOOD | {"runs": True}).encode()
    channel.say(b'hello {"v": 1, "nonce": "n"}', become)
    channel.until(lambda: b"did {" in channel.heard)
    assert world.standing() == OTHERS
    yield channel
    channel.close()


def test_the_rest_goes_on_once_no_program_was_run_for_a_moment(
    world: World, waiting: Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = waiting.server
    assert server.rest_at - time.monotonic() <= command.LULL
    for _ in range(2):
        server.rest_at = before = time.monotonic() + 0.5
        waiting.heard = b""
        waiting.say(b'run {"argv": ["true"], "root": false}')
        waiting.until(lambda: b"exit 0" in waiting.heard)
        assert server.rest_at > before, "it was put off"
        assert world.standing() == OTHERS
    monkeypatch.setattr(server, "rest_at", time.monotonic())
    waiting.until(lambda: not world.standing())
    assert server.rest_at == 0


def test_the_rest_goes_on_beside_a_program_that_takes_long_and_however_many_there_are(
    world: World, waiting: Channel
) -> None:
    assert waiting.server.rest_by - time.monotonic() <= command.LULL * command.LULLS
    waiting.server.rest_by = time.monotonic() + 0.1
    waiting.say(b'run {"argv": ["sleep", "60"], "root": false}')
    waiting.until(lambda: not world.standing())
    assert b"exit" not in waiting.heard
    waiting.say(b"kill")
    waiting.until(lambda: b"exit" in waiting.heard)


def test_the_rest_of_a_machine_that_is_going_to_be_paused_waits_until_it_is_woken(
    world: World, waiting: Channel
) -> None:
    server = waiting.server
    server.rest_at = 0.0
    waiting.say(b"wake " + json.dumps(GOOD | {"stays": True}).encode())
    waiting.until(lambda: waiting.heard.count(b"did {") == 2)
    waiting.say(b'run {"argv": ["true"], "root": false}')
    waiting.until(lambda: b"exit 0" in waiting.heard)
    assert server.rest_at == 0, "however long that takes"
    assert world.standing() == OTHERS
    waiting.say(b"wake " + json.dumps(GOOD).encode())
    waiting.until(lambda: waiting.heard.count(b"did {") == 3)
    assert server.rest_at > 0
    server.rest_at = time.monotonic()
    waiting.until(lambda: not world.standing())


@pytest.mark.parametrize(
    ("said", "seconds"),
    [({}, 2), ({"lull": 0.0}, 2), ({"lull": 7}, 7), ({"lull": 1e9}, 15), ({"lull": "x"}, 2)],
)
def test_the_host_says_how_long_a_program_may_take_to_come_within_bounds(
    said: dict[str, object], seconds: float
) -> None:
    assert command.lull(said) == seconds


def test_a_rest_that_does_not_go_on_is_told_to_the_host(
    waiting: Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[dict[str, object]] = []
    monkeypatch.setattr(report, "send", lambda stage, **more: told.append({"stage": stage, **more}))

    def fail() -> None:
        raise ManagerError("PID 1 closed the connection")

    monkeypatch.setattr(held, "go_on", fail)
    waiting.server.rest_at = time.monotonic()
    waiting.until(lambda: bool(told))
    why = "what stood still does not go on: PID 1 closed the connection"
    assert told == [{"stage": "failed", "reason": why}]
    assert waiting.server.rest_at == 0


def test_the_channel_does_it_itself_and_answers_as_the_new_instance(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = socket.socketpair()
    there.setblocking(False)
    server = command.Server(there.fileno(), "before")
    here.settimeout(5)

    def say(line: bytes) -> bytes:
        here.sendall(line + b"\n")
        server.step()
        return here.recv(65536)

    assert b'"own": ["hold", "become", "wake"]' in say(b'hello {"v": 1, "nonce": "n"}')
    assert say(b"hold {}").startswith(b"did {")
    assert say(b"become {}").startswith(b"refused become (request): ")
    assert server.instance == report.instance()
    assert say(b"become " + json.dumps(GOOD).encode()).startswith(b'did {"behind": ')
    assert GOOD["instance"].encode() in say(b'hello {"v": 1, "nonce": "m"}')
    here.close()
    there.close()
