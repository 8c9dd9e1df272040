"""The bell: who serves hears it at once, and nothing is lost where nobody does."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from rave_cli.pool.jobs import bell
from rave_cli.pool.jobs.store import JobStore, Scale
from rave_cli.pool.jobs.submission import Submission
from rave_cli.pool.jobs.work import Work
from tests.waiting import CEILING

if TYPE_CHECKING:
    from pathlib import Path


def test_where_nobody_serves_nobody_hears_it(home: Path) -> None:
    bell.ring()
    bell.place().parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    bell.place().write_text("no socket")
    bell.ring()


def test_whatever_changes_what_there_is_to_do_rings(home: Path) -> None:
    heard = threading.Semaphore(0)
    with JobStore(home / "jobs.sqlite") as store, bell.hung(heard.release):
        for change in (
            lambda: store.accept([Work(("true",))]),
            lambda: store.accept_each([Submission((Work(("true",)),))]),
            lambda: store.cancel(store.newest(1)[0].name),
            lambda: store.retry(store.newest(1)),
            lambda: store.set_scale(Scale(1)),
        ):
            change()
            assert heard.acquire(timeout=CEILING)


def test_those_who_ring_while_it_is_heard_are_heard_together(home: Path) -> None:
    began, go_on, times = threading.Event(), threading.Event(), []

    def do() -> None:
        times.append(1)
        began.set()
        go_on.wait(CEILING)

    with bell.hung(do):
        bell.ring()
        assert began.wait(CEILING)
        for _ in range(5):
            bell.ring()
        began.clear()
        go_on.set()
        assert began.wait(CEILING)
    assert len(times) == 2
    assert not bell.place().exists()


def test_what_a_killed_server_left_hanging_is_hung_anew(home: Path) -> None:
    bell.place().parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    bell.place().write_text("left")
    heard = threading.Event()
    with bell.hung(heard.set):
        bell.ring()
        assert heard.wait(CEILING)
