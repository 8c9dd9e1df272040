"""What the guest keeps: in which order, how it is told, and that no kill of a restore loses any."""

from __future__ import annotations

import builtins
import io
import os
import shutil
import signal
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any
from unittest.mock import MagicMock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rave_cli.backups.stream import BrokenStreamError, StateStream
from rave_cli.profiles.catalog import parse
from rave_cli.profiles.names import BAKED
from rave_guest import registry
from rave_guest.refusal import Refused
from rave_guest.state import keeping, program, wire
from rave_guest.state.putting import Restore
from rave_guest.wire.nats import Nats
from tests import kills

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ITEMS = st.lists(
    st.tuples(st.sampled_from(["redis", "nats"]), st.binary(max_size=700_000)), max_size=3
)


def stream_of(items: list[tuple[str, bytes]]) -> bytes:
    out = io.BytesIO()
    writer = wire.Writer(out)
    writer.begin("1" * 32)
    for number, (service, data) in enumerate(items):
        writer.item(service, f"item-{number}", [data])
    writer.whole()
    return out.getvalue()


def heard(data: bytes) -> None:
    host = StateStream(1 << 30)
    host.feed(data)
    host.finish()


def received(data: bytes) -> list[tuple[str, bytes]]:
    return [(item.service, b"".join(item.pieces)) for item in wire.read(io.BytesIO(data))]


@given(ITEMS, st.integers(1, 99_999))
def test_both_ends_read_what_the_guest_writes_however_it_is_cut(
    items: list[tuple[str, bytes]], step: int
) -> None:
    data = stream_of(items)
    host = StateStream(1 << 30)
    for at in range(0, len(data), step):
        host.feed(data[at : at + step])
    host.finish()
    assert host.instance == "1" * 32
    assert [(item.service, item.size) for item in host.items] == [(s, len(d)) for s, d in items]
    assert received(data) == items


@given(ITEMS, st.data())
def test_no_part_of_a_stream_is_taken_for_all_of_it(
    items: list[tuple[str, bytes]], draw: st.DataObject
) -> None:
    data = stream_of(items)
    cut = draw.draw(st.integers(0, len(data) - 1))
    with pytest.raises(BrokenStreamError):
        heard(data[:cut])
    with pytest.raises(Refused):
        received(data[:cut])


@given(st.binary(max_size=20_000))
def test_no_bytes_of_a_guest_are_more_than_a_fault(data: bytes) -> None:
    with pytest.raises(BrokenStreamError):
        heard(b'{"v":1,"instance":"1"}\n' + data)


def test_what_hands_over_is_copied_before_what_it_hands_over_to() -> None:
    plan = parse(BAKED.read_bytes()).plan("development", "debian")
    states = keeping.kept(plan.model_dump(mode="json", by_alias=True))
    found = keeping.order(states)
    assert {"nats", "postgresql", "redis", "webhook-dispatcher"} <= set(found)
    assert found.index("webhook-dispatcher") < found.index("nats")
    assert found.index("postgresql") < found.index("matrix")
    with pytest.raises(ValueError, match="before another"):
        keeping.order({name: {"before": [other]} for name, other in (("a", "b"), ("b", "a"))})


def test_each_that_keeps_something_knows_how() -> None:
    for profile in parse(BAKED.read_bytes()).profiles.values():
        for name, service in profile.bases["debian"].services.items():
            if service.state is not None:
                module = registry.service(name)
                assert hasattr(module, "keep"), name
                assert hasattr(module, "put"), name
                assert hasattr(module, "marks"), name


@pytest.mark.parametrize(
    "line",
    [b"", b"{}", b"[]", b"x" * 99, b'{"v":1,"verb":"keep","arguments":{"by":"me"}}',
     b'{"v":2,"verb":"drop","arguments":{"by":"me"}}', b'{"v":2,"verb":"keep","arguments":{}}',
     b'{"v":2,"verb":"put","arguments":{"by":"me","only":"redis"}}',
     b'{"v":2,"verb":"keep","arguments":{"by":"me","rate":-1}}'],
)  # fmt: skip
def test_a_request_that_is_none_is_refused(line: bytes) -> None:
    with pytest.raises(Refused) as caught:
        program.parse(line)
    assert caught.value.stage == "request"


def test_a_rate_is_kept() -> None:
    slept: list[float] = []
    writer = wire.Writer(io.BytesIO(), 1 << 20, slept.append)
    writer.item("redis", "a", [bytes(1 << 20), bytes(1 << 20)])
    assert sum(slept) == pytest.approx(2.0)


class Units:
    """Units that a test counts; `bad` do not start."""

    def __init__(self) -> None:
        self.up = True
        self.bad = False

    def stop(self, _names: list[str]) -> None:
        self.up = False

    def start(self, _names: list[str], _seconds: float) -> None:
        self.up = True
        if self.bad:
            self.bad = False
            raise Refused("services", "it does not start")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "dispatcher").mkdir()
    store(tmp_path / "dispatcher/events.db", "before")
    return tmp_path


def store(path: Path, word: str) -> None:
    with closing(sqlite3.connect(path)) as made:
        made.execute("create table marks(word text)")
        made.execute("insert into marks values (?)", [word])
        made.commit()


def plan_of(place: Path) -> dict[str, Any]:
    state = {"path": str(place / "dispatcher"), "before": ["nats"]}
    service = {"units": ["webhook-dispatcher.service"], "state": state, "checks": [],
               "deadlineSeconds": 1, "secrets": []}  # fmt: skip
    return {"services": {"webhook-dispatcher": service}, "databases": [], "secrets": {}}


def word(place: Path) -> str:
    with closing(sqlite3.connect(place / "dispatcher/events.db")) as found:
        return str(found.execute("select word from marks").fetchone()[0])


def kept(place: Path) -> bytes:
    other = place / "other"
    (other / "dispatcher").mkdir(parents=True)
    store(other / "dispatcher/events.db", "kept")
    out = io.BytesIO()
    keeping.send(plan_of(other), wire.Writer(out), instance="1", spool=str(other / "spool"))
    return out.getvalue()


def restore(place: Path, units: Units | None = None) -> Restore:
    return Restore(plan_of(place), str(place / "restore"), units or Units())  # type: ignore[arg-type]


def test_what_was_kept_takes_the_place_of_what_there_was(place: Path) -> None:
    data = kept(place)
    assert restore(place).take(io.BytesIO(data), []) == ["webhook-dispatcher"]
    assert word(place) == "kept"
    assert not (place / "restore").exists()


def test_a_directory_on_another_disk_is_exchanged_there_and_the_link_to_it_stays(
    place: Path,
) -> None:
    data = kept(place)
    (place / "disk").mkdir()
    (place / "dispatcher").rename(place / "disk/dispatcher")
    (place / "dispatcher").symlink_to(place / "disk/dispatcher")
    restore(place).take(io.BytesIO(data), [])
    assert word(place) == "kept"
    units = Units()
    units.bad = True
    (place / "disk/dispatcher/mine").touch()
    with pytest.raises(Refused, match="does not start"):
        restore(place, units).take(io.BytesIO(data), [])
    assert (place / "disk/dispatcher/mine").exists()
    assert (place / "dispatcher").is_symlink()


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.999])
def test_what_breaks_off_changes_nothing(place: Path, share: float) -> None:
    data = kept(place)
    with pytest.raises(Refused):
        restore(place).take(io.BytesIO(data[: int(len(data) * share)]), [])
    assert word(place) == "before"
    assert not (place / "restore").exists()


def test_a_service_that_does_not_live_with_it_gets_back_what_it_had(place: Path) -> None:
    units = Units()
    units.bad = True
    with pytest.raises(Refused, match="does not start"):
        restore(place, units).take(io.BytesIO(kept(place)), [])
    assert (word(place), units.up) == ("before", True)


def test_what_the_backup_has_nothing_of_is_named(place: Path) -> None:
    with pytest.raises(Refused, match="nothing of redis") as caught:
        restore(place).take(io.BytesIO(kept(place)), ["redis"])
    assert caught.value.stage in {"absent", "input"}
    other = stream_of([("penpot", b"x")])
    with pytest.raises(Refused, match="no service penpot"):
        restore(place).take(io.BytesIO(other), [])
    assert word(place) == "before"


# What a restore does to files and units, each a point at which it can be killed.
STEPS = (
    (os, "rename"), (os, "remove"), (os, "makedirs"), (os, "chmod"), (os, "chown"), (os, "fsync"),
    (shutil, "rmtree"), (Units, "stop"), (Units, "start"), (builtins, "open"),
)  # fmt: skip


def counting(monkeypatch: pytest.MonkeyPatch, at: Callable[[], None]) -> None:
    for owner, name in STEPS:
        monkeypatch.setattr(owner, name, telling(getattr(owner, name), at))


def telling(step: Callable[..., Any], at: Callable[[], None]) -> Callable[..., Any]:
    def told(*given: Any, **more: Any) -> Any:
        at()
        return step(*given, **more)

    return told


def test_a_restore_that_is_killed_anywhere_leaves_either_or_is_taken_back(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = kept(place)
    seen = set()
    for point in range(200):
        pid = os.fork()
        if pid == 0:
            doomed(place, data, monkeypatch, point)
        _, status = os.waitpid(pid, 0)
        if os.WIFEXITED(status):
            break
        assert os.WTERMSIG(status) == signal.SIGKILL, (point, status)
        kills.count()
        restore(place).recover()
        seen.add(word(place))
        assert word(place) in {"before", "kept"}, point
        assert not (place / "restore").exists()
        with closing(sqlite3.connect(place / "dispatcher/events.db")) as found, found:
            found.execute("update marks set word = 'before'")
    assert point >= 20
    assert seen == {"before", "kept"}
    assert word(place) == "kept"


def doomed(place: Path, data: bytes, patch: pytest.MonkeyPatch, point: int) -> None:
    left = [point]

    def at() -> None:
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left[0] -= 1

    counting(patch, at)
    restore(place).take(io.BytesIO(data), [])
    os._exit(0)


def test_the_verb_says_what_there_is(place: Path) -> None:
    found = keeping.about(plan_of(place))
    assert found["services"]["webhook-dispatcher"] > 0
    assert found["freeBytes"] > 0


def test_what_comes_before_the_answer_to_a_request_is_kept_for_later() -> None:
    """JetStream sends the first piece of a snapshot and its own answer by two ways."""
    client = Nats.__new__(Nats)
    client._inbox, client._early = "_INBOX.1", []
    client._send = lambda text: None  # type: ignore[method-assign]
    client._socket = MagicMock()
    answer = b'{"config": {"name": "A"}, "state": {}}'
    stream: Any = io.BytesIO(
        b"MSG _INBOX.1.x 2 ack.1 3\r\n\xff\x00a\r\n"
        b"MSG _INBOX.1 1 %d\r\n%b\r\nMSG _INBOX.1.x 2 ack.2 1\r\nb\r\nMSG _INBOX.1.x 2 0\r\n\r\n"
        % (len(answer), answer)
    )
    client._stream = stream
    head, *pieces = client.snapshot("A")
    assert head == b'{"config": {"name": "A"}, "state": {}}\n'
    assert pieces == [b"\xff\x00a", b"b"]
