"""A sandbox as the guest asks for it, against a pool of a few lines."""

from __future__ import annotations

import io
import json
import socket
import subprocess
import sys
from base64 import b64encode
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from rave_guest import looking, provisioning, sandbox
from rave_guest.provisioning import STEPS
from rave_guest.wire.pool import NoPool, NotNow, PoolPort, PoolRefused
from tests.waiting import CEILING

if TYPE_CHECKING:
    from collections.abc import Callable

TERMS = {"memory_mib": None, "cpus": None, "timeout": 600.0, "jobs": 2}


class FakePool(PoolPort):
    """A pool that runs nothing: what becomes of a job is said beforehand."""

    def __init__(self, **ends: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        self.device = "port"
        self.ends = ends
        self.works: dict[str, dict[str, Any]] = {}
        self.asked: list[str] = []
        self.faults: list[Exception] = []

    def ask(self, ask: str, **members: Any) -> dict[str, Any]:
        self.asked.append(ask)
        if self.faults:
            raise self.faults.pop(0)
        if ask == "terms":
            return dict(TERMS)
        if ask == "submit" and members["key"].startswith("smoke-"):
            self.works[members["key"]] = members["work"]
            return self._told(members["key"], over=False)
        if ask in ("show", "cancel") and members["job"] in self.works:
            return self._told(members["job"], over=True)
        if ask == "output" and members["job"] in self.works:
            printed = self._end(members["job"]).get("printed", {})
            return {
                "pieces": [
                    {"number": number, "stream": number, "data": b64encode(data).decode()}
                    for number, data in printed.items()
                    if number > members["after"]
                ]
            }
        raise PoolRefused(f"no {ask}")

    def _end(self, key: str) -> dict[str, Any]:
        return self.ends[key.rpartition("-")[2]](self.works[key])

    def _told(self, key: str, *, over: bool) -> dict[str, Any]:
        head = {"job": key, "over": over, "state": "waiting", "attempt": 1, "exit_status": None}
        times = {"why": "", "submitted": 10.0, "ended": 12.5}
        end = {k: v for k, v in self._end(key).items() if k != "printed"} if over else {}
        return head | times | end


def seen(work: dict[str, Any], **other: Any) -> dict[str, Any]:
    asked = json.loads(work["command"][0])
    found = {
        "marker": asked["marker"], "boot": "b", "machine": "m", "instance": "i", "memory_mib": 980,
        "cpus": 2, "reached": [], "tried": len(asked["tcp"]), "door": "nobody",
    } | other  # fmt: skip
    printed = {1: json.dumps(found).encode(), 2: asked["marker"].encode() + b"\n"}
    return {"state": "failure", "exit_status": 7, "printed": printed}


GOOD: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "looks": seen,
    "sleeps": lambda work: {"state": "timeout", "why": f"longer than {work['timeout']:g} s"},
    "writes": lambda _: {"state": "failure", "why": "its machine wrote more than 48 MiB"},
    "eats": lambda _: {"state": "failure", "exit_status": -9},
}


def travelled(monkeypatch: pytest.MonkeyPatch, pool: FakePool) -> dict[str, Any]:
    monkeypatch.setattr(provisioning, "PoolPort", lambda: pool)
    monkeypatch.setattr("rave_guest.sandbox.time.sleep", lambda _seconds: None)
    return provisioning.make([("10.0.2.2", 4711)])


def test_a_journey_on_which_all_is_well(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = FakePool(**GOOD)
    found = travelled(monkeypatch, pool)
    assert {name: one.status for name, one in found.items()} == dict.fromkeys(STEPS, "pass"), found
    assert len(found["runs"].data["jobs"]) == 4
    looks = next(work for key, work in pool.works.items() if key.endswith("looks"))
    assert ["10.0.2.2", 4711] in json.loads(looks["command"][0])["tcp"]


@pytest.mark.parametrize(
    ("step", "ends"),
    [
        ("runs", {"looks": lambda work: seen(work) | {"exit_status": 0}}),
        ("runs", {"looks": lambda work: seen(work, marker="other")}),
        ("runs", {"looks": lambda work: seen(work, memory_mib=9000)}),
        ("network", {"looks": lambda work: seen(work, reached=["tcp 1.1.1.1:443"])}),
        ("apart", {"looks": lambda work: seen(work, door="somebody")}),
        ("apart", {"looks": lambda work: seen(work, door="silence")}),
        ("memory", {"eats": lambda _: {"state": "success", "exit_status": 0}}),
        ("time", {"sleeps": lambda _: {"state": "success", "exit_status": 0}}),
        ("disk", {"writes": lambda _: {"state": "timeout", "why": "longer than 120 s"}}),
    ],
)
def test_what_does_not_hold_fails_its_step(
    monkeypatch: pytest.MonkeyPatch, step: str, ends: dict[str, Any]
) -> None:
    found = travelled(monkeypatch, FakePool(**GOOD | ends))
    assert found[step].status == "fail", found
    assert all(one.status in ("pass", "skip") for name, one in found.items() if name != step)


def test_a_pool_that_grants_what_it_must_not_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = FakePool(**GOOD)
    answers = pool.ask

    def grants(ask: str, **members: Any) -> dict[str, Any]:
        if ask == "list" or "secrets" in members.get("work", {}):
            return {}
        return answers(ask, **members)

    monkeypatch.setattr(pool, "ask", grants)
    found = travelled(monkeypatch, pool)
    assert found["refused"].detail == "the pool does not refuse a secret, all jobs"


def test_without_a_pool_the_rest_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = FakePool(**GOOD)
    pool.faults = [NoPool("nobody answers")]
    found = travelled(monkeypatch, pool)
    assert (found["door"].status, found["door"].detail) == ("fail", "nobody answers")
    assert {one.status for name, one in found.items() if name != "door"} == {"skip"}


def test_a_job_is_followed_through_a_pool_that_is_away_or_has_no_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr("rave_guest.sandbox.time.sleep", pauses.append)
    pool = FakePool(**GOOD)
    pool.faults = [NotNow("2 jobs wait"), NotNow("2 jobs wait")]
    work = {"command": ["sleep"], "timeout": 8.0}
    job = sandbox.submit(pool, work, key="smoke-1-sleeps", patience=60)
    pool.faults = [NoPool("it is served anew"), NotNow("later")]
    assert job.follow(lambda _stream, _data: None)
    assert job.status == sandbox.TIMED_OUT
    assert len(pauses) == 4


def test_a_pool_without_room_is_said_where_nobody_waits() -> None:
    pool = FakePool()
    pool.faults = [NotNow("2 jobs wait")]
    with pytest.raises(NotNow):
        sandbox.submit(pool, {"command": ["true"]})


@pytest.mark.parametrize(
    ("told", "status"),
    [
        ({"state": "success", "exit_status": 0}, 0),
        ({"state": "failure", "exit_status": 3}, 3),
        ({"state": "failure", "exit_status": -9}, 137),
        ({"state": "failure", "exit_status": None}, sandbox.NOT_RUN),
        ({"state": "timeout", "exit_status": None}, sandbox.TIMED_OUT),
        ({"state": "cancelled", "exit_status": None}, sandbox.NOT_RUN),
        ({"state": "error", "exit_status": None}, sandbox.NOT_RUN),
    ],
)
def test_the_program_ends_as_its_command_did(told: dict[str, Any], status: int) -> None:
    assert sandbox.SandboxJob(FakePool(), told).status == status


def test_what_it_is_given_goes_in_pieces() -> None:
    pool = FakePool()
    sent: list[tuple[int, str]] = []
    pool.ask = lambda ask, **m: sent.append((m["at"], m["data"])) or {"size": 0}  # type: ignore[method-assign,func-returns-value]
    data = bytes(range(256)) * 400
    named = pool.give(io.BytesIO(data))
    assert named["size"] == len(data)
    assert [at for at, _ in sent] == [0, 48 << 10, 96 << 10]


def test_the_program_says_what_is_wrong(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sandbox, "PoolPort", lambda: PoolPort(None))
    monkeypatch.setattr("rave_guest.report.PORTS", "/nowhere")
    assert sandbox.main(["--", "true"]) == sandbox.NOT_RUN
    assert "no way to a pool" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        sandbox.main([])


def test_a_sandbox_is_looked_at_by_a_program_that_stands_alone() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as open_,
        socket.create_server(("127.0.0.1", 0)) as b,
    ):
        shut = b.getsockname()[1]
        b.close()
        place = open_.getsockname()
        about = {
            "marker": "m", "tcp": [list(place), ["127.0.0.1", shut]], "udp": [["127.0.0.1", shut]],
            "port": "org.rave.pool",
        }  # fmt: skip
        done = subprocess.run(
            [sys.executable, "-IS", "-", json.dumps(about)],
            input=Path(str(looking.__file__)).read_text(), capture_output=True, text=True,
            check=False, timeout=CEILING,
        )  # fmt: skip
    assert done.returncode == looking.STATUS, done.stderr
    found = json.loads(done.stdout)
    assert found["reached"] == [f"tcp 127.0.0.1:{place[1]}"]
    assert (found["door"], found["tried"], done.stderr) == ("none", 3, "m\n")
