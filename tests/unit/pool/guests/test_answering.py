"""What a machine is answered: its own jobs alone, within its terms, and nothing of this host."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import tarfile
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from rave_cli import audit
from rave_cli.errors import ExitCode, RaveError
from rave_cli.pool.files import inputs
from rave_cli.pool.guests import answering
from rave_cli.pool.guests.terms import MOST_GIVEN, MOST_OUTPUT
from rave_cli.pool.jobs.job import Began, Ended, Printed
from rave_cli.pool.jobs.work import JobInput, Work
from tests.unit.pool.guests.conftest import UUID, Asker, desk_of, guest

if TYPE_CHECKING:
    from rave_cli.pool.jobs.store import JobStore


def archive(text: bytes = b"hello") -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        info = tarfile.TarInfo("file")
        info.size = len(text)
        tar.addfile(info, io.BytesIO(text))
    return out.getvalue()


def give(asker: Asker, data: bytes, size: int = 4096) -> dict[str, Any]:
    for at in range(0, len(data), size):
        piece = base64.b64encode(data[at : at + size]).decode()
        asker.told("give", at=at, data=piece)
    return {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}


def test_it_is_told_its_terms(asker: Asker) -> None:
    told = asker.told("terms")
    assert (told["jobs"], told["timeout"], told["most_output"]) == (2, 600.0, MOST_OUTPUT)
    assert UUID not in json.dumps(told)


def test_a_job_is_taken_in_as_the_machines_own(asker: Asker, store: JobStore) -> None:
    told = asker.submit(command=["uname", "-a"])["answer"]
    job = store.load(told["job"])
    assert job.owner == f"machine:demo.{UUID[:8]}"
    assert job.work.command == ("uname", "-a")
    assert (job.work.most_output, job.work.secrets, job.work.allow) == (MOST_OUTPUT, (), ())
    begun = [one.begin.told for one in audit.commands(audit.read().entries) if one.end]
    assert [one.subjects for one in begun] == [(f"1 by {job.owner}",)]


def test_the_same_again_is_the_same_job_and_something_else_is_refused(asker: Asker) -> None:
    first = asker.submit()["answer"]["job"]
    assert asker.submit()["answer"]["job"] == first
    other = asker.submit(command=["false"])
    assert other["error"] == "refused"
    assert "used before" in other["why"]


@pytest.mark.parametrize(
    ("work", "why"),
    [
        ({"timeout": 601}, "600 at most"),
        ({"memory_mib": 1024}, "as the pool gives them"),
        ({"cpus": 2}, "as the pool gives them"),
        ({"command": []}, "a command or a script"),
        ({"environment": [["RAVE_JOB", "x"]]}, "no name of a variable"),
        ({"command": ["a\0b"]}, "no text"),
        ({"command": ["x" * (65 << 10)]}, "longer than 64 KiB"),
    ],
)
def test_what_is_beyond_its_terms_is_refused(asker: Asker, work: dict[str, Any], why: str) -> None:
    told = asker.submit(**work)
    assert told["error"] == "refused"
    assert why in told["why"]
    assert not asker.desk.pool.store.newest(9)


def test_a_size_that_was_lent_may_be_asked_for(store: JobStore) -> None:
    asker = Asker(desk_of(store, guest(memory_mib=2048, cpus=1)))
    assert asker.submit(memory_mib=2048, cpus=1)["ok"]
    assert "2048 at most" in asker.submit("l", memory_mib=3072)["why"]
    assert "1 at most" in asker.submit("m", cpus=2)["why"]


def test_no_more_jobs_at_a_time_than_it_may(asker: Asker, store: JobStore) -> None:
    names = [asker.submit(str(number))["answer"]["job"] for number in range(2)]
    told = asker.submit("third")
    assert told == {"ok": False, "error": "later", "why": "2 jobs of this machine wait or run,"
                    " and 2 may"}  # fmt: skip
    end(store, names[0])
    assert asker.submit("third")["ok"]


def test_no_more_jobs_in_an_hour_than_it_may(store: JobStore) -> None:
    asker = Asker(desk_of(store, guest(per_hour=2)))
    for number in range(2):
        end(store, asker.submit(str(number))["answer"]["job"])
    assert "within an hour" in asker.submit("third")["why"]
    store._db.execute("UPDATE jobs SET submitted = submitted - 3601")
    assert asker.submit("third")["ok"]


def test_no_more_is_kept_than_it_may(store: JobStore) -> None:
    asker = Asker(desk_of(store, guest(kept_mib=1, jobs=16)))
    for number in range(4):
        assert asker.submit(str(number))["ok"]
    told = asker.submit("fifth", most_output=1024)
    assert told["why"] == "more than 1 MiB would be kept of this machine's jobs"


def test_jobs_of_others_are_as_if_there_were_none(asker: Asker, store: JobStore) -> None:
    (own,) = store.accept([Work(("cat", "/etc/shadow"))], owner="root")
    other = Asker(desk_of(store, replace(guest(), machine=guest("other").machine)))
    theirs = other.submit()["answer"]["job"]
    for name in (own.name, theirs, "0" * 12):
        for ask, more in (("show", {}), ("cancel", {}), ("output", {"attempt": 0})):
            told = asker.said(ask, job=name, **more)
            assert told == {"ok": False, "error": "refused", "why": "this machine has no such job"}
    assert not store.load(own.name).cancelling
    # One that was made later under its name is another machine.
    heir = guest()
    heir = replace(heir, terms=replace(heir.terms, uuid="1" + UUID[1:]))
    mine = asker.submit()["answer"]["job"]
    assert not Asker(desk_of(store, heir)).said("show", job=mine)["ok"]


def begin(store: JobStore, name: str) -> None:
    store.record([(name, Began(time.time(), 1, "agent"))])


def end(store: JobStore, name: str, ending: str = "success", why: str = "") -> None:
    begin(store, name)
    ended = Ended(time.time(), 1, ending, 0, why, 0, 0)  # type: ignore[arg-type]
    store.record([(name, ended)])


def test_what_it_printed_comes_in_pieces_that_fit_a_line(asker: Asker, store: JobStore) -> None:
    name = asker.submit()["answer"]["job"]
    begin(store, name)
    data = bytes(range(256)) * 128
    store.record([(name, Printed(1, 1 + number % 2, data)) for number in range(5)])
    after, heard = 0, b""
    while pieces := asker.told("output", job=name, attempt=1, after=after)["pieces"]:
        assert sum(len(one["data"]) for one in pieces) < 128 << 10
        heard += b"".join(base64.b64decode(one["data"]) for one in pieces)
        after = pieces[-1]["number"]
    assert heard == data * 5


def test_it_is_not_told_what_failed_on_this_host(asker: Asker, store: JobStore) -> None:
    names = [asker.submit(str(number))["answer"]["job"] for number in range(2)]
    end(store, names[0], "error", "qemu: /home/me/.local/share/rave: No space left")
    end(store, names[1], "timeout", "it took longer than 5 s")
    said = [asker.told("show", job=name)["why"] for name in names]
    assert said == ["the pool's host could not run it", "it took longer than 5 s"]


def test_a_fault_of_this_host_is_not_told(
    asker: Asker, monkeypatch: pytest.MonkeyPatch, store: JobStore
) -> None:
    def full(*_words: object, **_named: object) -> None:
        raise RaveError("/home/me is full", exit_code=ExitCode.HOST)

    monkeypatch.setattr(answering.GuestDesk, "_submit", full)
    told = asker.submit()
    assert told == {"ok": False, "error": "later", "why": "the pool's host cannot do that now"}


def test_a_job_is_cancelled_and_said_once_in_the_audit_log(asker: Asker, store: JobStore) -> None:
    name = asker.submit()["answer"]["job"]
    for _ in range(3):
        assert asker.told("cancel", job=name)["cancelling"]
    assert store.load(name).cancelling
    verbs = [one.begin.told.verb for one in audit.commands(audit.read().entries)]
    assert verbs == ["pool submit", "pool cancel"]


def test_an_archive_comes_in_pieces_and_is_kept_for_the_job(asker: Asker, store: JobStore) -> None:
    data = archive()
    given = give(asker, data)
    told = asker.told("submit", key="k", work={"command": ["ls"]}, given=given)
    job = store.load(told["job"])
    assert job.work.given is not None
    assert job.work.given.origin == "machine demo"
    assert inputs.place(job.work.given).read_bytes() == data
    # It is used up, and the same submission needs it no more.
    assert asker.told("submit", key="k", work={"command": ["ls"]}, given=given) == told
    again = asker.said("submit", key="l", work={"command": ["ls"]}, given=given)
    assert again["why"] == "what the job is to be given has not come"


def test_what_is_given_is_refused_where_it_is_not_what_was_said(asker: Asker) -> None:
    asker.told("give", at=0, data=base64.b64encode(b"abc").decode())
    assert asker.said("give", at=5, data="")["why"] == "the next piece begins at 3"
    assert asker.said("give", at=3, data="!")["why"] == "the piece is no base64"
    wrong = {"sha256": "0" * 64, "size": 3}
    told = asker.said("submit", key="k", work={"command": ["ls"]}, given=wrong)
    assert told["why"] == "what the job is to be given came as something else"
    given = give(asker, b"no archive at all")
    told = asker.said("submit", key="k", work={"command": ["ls"]}, given=given)
    assert "no tar archive" in told["why"]
    assert not [*inputs.place(JobInput("x", 1, "")).parent.iterdir()]


def test_what_is_given_is_bounded_and_dropped_where_nobody_uses_it(
    asker: Asker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answering, "MOST_GIVEN", 8)
    asker.told("give", at=0, data=base64.b64encode(b"12345678").decode())
    assert "larger than" in asker.said("give", at=8, data=base64.b64encode(b"9").decode())["why"]
    asker.told("give", at=0, data=base64.b64encode(b"1").decode())
    asker.desk.given.rest(time.monotonic())
    assert asker.said("give", at=1, data="")["ok"]
    asker.desk.given.rest(time.monotonic() + answering.UNUSED + 1)
    assert asker.said("give", at=1, data="")["why"] == "the next piece begins at 0"
    assert MOST_GIVEN > 8


def test_what_is_no_question_gets_no_answer(asker: Asker) -> None:
    assert asker.desk.answer(b"hello") == b""
    assert asker.desk.refused == 1
