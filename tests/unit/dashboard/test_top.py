"""The dashboard as it is used: keys are pressed, and what is on the screen is read."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from textual.color import Color

from rave_cli import audit
from rave_cli.dashboard import app as drawn
from rave_cli.dashboard import desk
from rave_cli.errors import ExitCode
from rave_cli.pool import served
from rave_cli.pool.api import certificate
from rave_cli.pool.api.events import JobFeed
from rave_cli.pool.api.listening import Listen, listening
from rave_cli.pool.api.tokens import Tokens
from rave_cli.pool.jobs.database import jobs_file
from rave_cli.pool.jobs.rows import VERSION
from rave_cli.pool.jobs.store import open_store
from rave_cli.pool.served import SERVING, HoldUp, ServingRecord
from rave_cli.pool.serving.metrics import PoolMetrics

from .watched import (
    NOW,
    Watched,
    is_given_up,
    prints,
    runs,
    submitted,
    watch,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rave_cli.pool.api.certificate import ServerCertificate

# httpcore leaves a socket that it could not connect to whoever collects it, in whichever test.
pytestmark = pytest.mark.filterwarnings("ignore:.*<socket:pytest.PytestUnraisableExceptionWarning")

RECORD = ServingRecord(
    pid=4711, since=NOW - 7200, profile="demo", base="debian", mode="safe", need_mib=1024, most=2,
    agents=2, working=1, draining=False, hold=served.FREE,
)  # fmt: skip


@pytest.fixture(autouse=True)
def _prompt(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Look often, so that no test waits for a look."""
    monkeypatch.setattr(drawn, "LOOK", 0.3)
    monkeypatch.setattr(drawn, "PRINTS", 0.02)
    monkeypatch.setattr(desk, "AGAIN", 0.05)


@contextmanager
def serving(hold: HoldUp = served.FREE) -> Iterator[JobFeed]:
    """Serve the pool as far as others can tell: its lock, what it says, and its socket."""
    feed = JobFeed()
    with served.lock(), listening(feed, PoolMetrics("demo")):
        SERVING.write(served.place(), replace(RECORD, hold=hold), mode=0o600)
        yield feed
    served.place().unlink()


@pytest.fixture
def own(home: Path, monkeypatch: pytest.MonkeyPatch) -> ServerCertificate:
    """The certificate of a pool on the network, of which a viewer is."""
    found = certificate.own("127.0.0.1")
    monkeypatch.setenv("RAVE_POOL_CA", str(found.certificate))
    monkeypatch.setenv("RAVE_POOL_TOKEN", Tokens().create("eve", "viewer", 1, time.time())[1])
    return found


# --- looks ---------------------------------------------------------------------------------------


def laid_out(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the pool that the snapshots show, the same each time."""
    names = iter(f"{number:012x}" for number in range(1, 100))
    monkeypatch.setattr("rave_cli.pool.jobs.store.new_name", lambda: next(names))
    jobs = submitted("make check", "make docs", "sleep 600", "true", "./deploy.sh [bold]now[/bold]")
    with open_store() as store:
        store._db.execute("UPDATE jobs SET submitted = ? - 10 * number", (NOW - 100,))
    runs(jobs[0])
    is_given_up(runs(jobs[1]), "its agent was lost 4 times")
    runs(jobs[2], 2)


@pytest.mark.parametrize(
    ("tab", "size"),
    [("jobs", (120, 20)), ("jobs", (60, 14)), ("agents", (120, 20)), ("queue", (120, 20))],
)
def test_a_tab_looks_as_it_did(
    tab: str, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    laid_out(tab, monkeypatch)
    key = {"jobs": "1", "agents": "2", "queue": "3"}[tab]
    seen = ""

    async def look(top: Watched) -> None:
        nonlocal seen
        await top.press(key)
        await top.until({"jobs": "deploy", "agents": "host-2", "queue": "4 times"}[tab])
        # The keys are drawn after what they are for.
        await top.until(file.read_text().splitlines()[-1])
        await top.pilot.pause()
        seen = top.shown() + "\n"

    file = Path(__file__).parent / "snapshots" / f"{tab}-{size[0]}.txt"
    with serving():
        watch(look, size=size, clock=lambda: NOW)
    if "RAVE_NEW_SNAPSHOTS" in os.environ:
        file.write_text(seen)
    assert seen == file.read_text()


def test_what_a_job_says_is_text_and_neither_markup_nor_a_sequence_of_a_terminal() -> None:
    nasty = "[bold red]x[/] [/] [@click=app.quit]y[/] \x1b[31mz\x1b]0;t\x07 $primary \u202ek \n q"
    (job,) = submitted(nasty)
    prints(runs(job), nasty.encode() + b"\n" + b"[/nothing]\n\x1b[2Jrest")

    async def look(top: Watched) -> None:
        shown = await top.until("[bold red]x[/] [/] [@click=app.quit]y[/] z")
        assert "\x1b" not in shown
        assert "\u202e" not in shown
        await top.press("enter")
        await top.until("Esc: close")
        await top.press("escape", "l")
        shown = await top.until("[/nothing]")
        assert "\x1b" not in shown
        is_given_up(job, nasty)
        await top.until("rest")
        await top.press("escape", "3")
        assert "[bold red]x[/]" in await top.until("1 dead")
        await top.press("c")
        await top.until("cancel job")

    watch(look, size=(240, 24))


def test_a_command_of_64_kib_is_cut(home: Path) -> None:
    submitted("x" * 60000)

    async def look(top: Watched) -> None:
        assert "sh -c" in await top.until("xxxx")

    watch(look)


def test_a_terminal_of_any_size_will_do_and_may_change() -> None:
    submitted("true", "false")

    async def look(top: Watched) -> None:
        for size in ((20, 5), (200, 50), (1, 1)):
            await top.press("3", "1", "e", "escape")
            await top.pilot.resize_terminal(*size)
        await top.press("e")
        await top.pilot.resize_terminal(120, 24)
        await top.until("not-served")

    watch(look, size=(1, 1))


def test_no_color_is_heeded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    is_given_up(submitted("true")[0])

    async def look(top: Watched) -> None:
        await top.until("error")
        seen = {
            colour.triplet
            for strip in top.top.screen._compositor.render_strips()
            for segment in strip.apply_filter(top.top._filters[-1], Color(0, 0, 0))
            if segment.style is not None
            for colour in (segment.style.color, segment.style.bgcolor)
            if colour is not None and colour.triplet is not None
        }
        assert seen
        assert [colour for colour in seen if len({*colour}) > 1] == []

    watch(look)


# --- what changes --------------------------------------------------------------------------------


def test_what_happens_is_told_as_an_event_and_seen_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    # Only what is told of makes it look.
    monkeypatch.setattr(drawn, "LOOK", 1000.0)
    (job,) = submitted("make check")
    with serving() as feed:

        async def look(top: Watched) -> None:
            await top.until("waiting")
            while not feed._queues:
                await top.pilot.pause(0.02)
            feed.tell(runs(job))
            await top.until("running")
            await top.press("4")
            await top.until("running: attempt 1")
            feed.tell(is_given_up(job, "lost"))
            await top.until("error: lost")

        watch(look)


def test_a_pool_that_is_not_served_says_so_and_goes_on_when_it_is() -> None:
    submitted("true")

    async def look(top: Watched) -> None:
        assert "rave pool serve" in await top.until("nobody serves the pool")
        with serving():
            await top.without("nobody serves")
            await top.until("1 of 2 agents at work")
        await top.until("nobody serves the pool")
        with serving() as feed:
            await top.without("nobody serves")
            while not feed._queues:
                await top.pilot.pause(0.02)

    watch(look)


def test_an_endpoint_that_goes_away_is_asked_again_and_what_was_seen_stays() -> None:
    (job,) = submitted("true")

    async def look(top: Watched) -> None:
        with serving():
            await top.until(job.name)
        assert job.name in await top.until("it is asked again")
        await top.press("c", "y")
        await top.until("rave pool status")
        with serving():
            await top.without("it is asked again")

    watch(look, endpoint=f"unix:{served.api_socket()}")


def test_what_holds_the_pool_up_is_said_with_what_helps() -> None:
    async def look(top: Watched) -> None:
        assert "rave vm list" in await top.until("too little memory")

    with serving(HoldUp("memory", "too little memory", "rave vm list")):
        watch(look)


def test_an_answer_that_takes_long_keeps_nobody_from_leaving(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked, answer = threading.Event(), threading.Event()

    def slow(*_words: object, **_named: object) -> None:
        asked.set()
        answer.wait()

    monkeypatch.setattr(drawn, "look", slow)

    async def look(top: Watched) -> None:
        while not asked.is_set():
            await top.pilot.pause(0.02)
        await top.press("4", "question_mark")
        await top.until("quit")
        await top.press("escape", "q")

    try:
        watch(look)
    finally:
        answer.set()


# --- what is done --------------------------------------------------------------------------------


def told() -> list[tuple[str, tuple[str, ...], int | None]]:
    """Return what the audit log tells of: verbs, subjects, and how each ended."""
    return [
        (one.begin.told.verb, one.begin.told.subjects, one.end.exit_code if one.end else None)
        for one in audit.commands(audit.read().entries)
    ]


def test_a_job_is_cancelled_after_a_yes_and_not_before() -> None:
    (job,) = submitted("make check")

    async def look(top: Watched) -> None:
        await top.until(job.name)
        await top.press("c")
        assert "make check" in await top.until("cancel job")
        for key in ("enter", "space", "c"):
            await top.press(key)
        assert "y: yes" in top.shown()
        await top.press("n")
        await top.without("y: yes")
        with open_store() as store:
            assert not store.load(job.name).cancelling
        assert told() == []
        await top.press("c")
        await top.until("y: yes")
        await top.press("y")
        await top.until("is to be cancelled")
        await top.until("cancelling")
        with open_store() as store:
            assert store.load(job.name).cancelling
        assert told() == [("pool cancel", (job.name,), 0)]

    watch(look)


def test_a_dead_letter_is_tried_again_and_another_dropped() -> None:
    first, second = (is_given_up(runs(job)) for job in submitted("one", "two"))

    async def look(top: Watched) -> None:
        await top.press("3")
        # Of a column that was laid out before it had its rows no more may be seen.
        await top.until(first.name[:3])
        await top.press("end", "r")
        assert first.name in await top.until("retry job")
        await top.press("y")
        await top.until("is tried again")
        await top.until("waiting            1")
        await top.press("d")
        assert second.name in await top.until("drop job")
        await top.press("y")
        await top.until("is dropped")
        with open_store() as store:
            assert store.dead(9) == []

    watch(look)


def test_what_the_pool_refuses_is_said() -> None:
    submitted("true")

    async def look(top: Watched) -> None:
        await top.until("waiting")
        await top.press("r")
        await top.until("y: yes")
        await top.press("y")
        assert "rave pool explain" in await top.until("is not over")
        await top.press("d")
        await top.until("only a dead letter")

    watch(look)
    assert [code for _, _, code in told()] == [ExitCode.USAGE]


def test_what_a_token_may_not_do_is_said(own: ServerCertificate) -> None:
    (job,) = submitted("true")

    async def look(top: Watched) -> None:
        await top.until(job.name)
        await top.press("e")
        await top.until("not-served")
        await top.press("escape", "c")
        await top.until("y: yes")
        await top.press("y")
        await top.until("takes the role submitter")
        Tokens().revoke("eve", time.time())
        await top.until("none that may be used")

    with listening(JobFeed(), PoolMetrics("demo"), Listen("127.0.0.1", 0, own)) as (_, https):
        watch(look, endpoint=https)
    with open_store() as store:
        assert not store.load(job.name).cancelling


def test_a_job_is_explained_and_its_output_followed_to_the_end() -> None:
    (job,) = submitted("make check")

    async def look(top: Watched) -> None:
        await top.until(job.name)
        await top.press("enter")
        assert "try: rave pool serve" in await top.until("not-served: nobody serves")
        await top.press("escape")
        prints(runs(job), b"one\ntw")
        await top.press("l")
        await top.until("one")
        prints(job, b"o\nthree")
        await top.until("two")
        is_given_up(job)
        assert "it is over" in await top.until("three")
        await top.press("q")
        await top.until("Jobs")

    watch(look)


def test_a_filter_takes_states_and_words_and_escape_ends_it() -> None:
    jobs = submitted("make check", "make docs", "sleep 9")
    runs(jobs[0])

    async def look(top: Watched) -> None:
        await top.until("sleep 9")
        await top.press("slash", *"make", "enter")
        await top.without("sleep 9")
        assert "docs" in top.shown()
        await top.press("slash", "home", *"running ", "enter")
        await top.without("docs")
        await top.until("check")
        await top.press("escape")
        await top.until("sleep 9")

    watch(look)


def test_the_cursor_stays_on_the_job_that_was_selected_while_others_come() -> None:
    jobs = submitted("zero", "one", "two")

    async def look(top: Watched) -> None:
        await top.until("zero")
        await top.press("down")
        submitted("three", "four")
        await top.until("four")
        await top.press("enter")
        await top.until(f"job {jobs[1].name} is waiting")

    watch(look)


def test_jobs_are_seen_in_pages() -> None:
    jobs = submitted(*(f"number {number}" for number in range(230)))

    async def look(top: Watched) -> None:
        await top.until("number 229")
        await top.press("n")
        await top.until("number 129")
        await top.press("n")
        await top.until("number 29")
        await top.press("n")
        await top.until("no older jobs")
        await top.press("end")
        await top.until("number 0'")
        await top.press("p")
        await top.until("number 229")

    watch(look, size=(140, 40))
    assert jobs


@pytest.mark.parametrize("over", ["", "slash", "question_mark", "c"])
def test_ctrl_c_quits_whatever_lies_over_the_tabs_or_takes_what_is_typed(over: str) -> None:
    submitted("true")

    async def look(top: Watched) -> None:
        await top.until("true")
        await top.press(*[over] * bool(over), "ctrl+c")

    assert watch(look).return_code == 0


def test_a_store_that_cannot_be_opened_is_said_and_tried_again() -> None:
    submitted("true")

    def is_of_version(number: int) -> None:
        with closing(sqlite3.connect(jobs_file())) as found:
            found.execute(f"PRAGMA user_version = {number}")

    is_of_version(99)

    async def look(top: Watched) -> None:
        await top.until("newer rave")
        is_of_version(VERSION)
        await top.until("true")

    watch(look)
