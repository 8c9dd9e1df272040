"""The agents as the guest's checks and backups see them."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from rave_guest.services import agents
from rave_guest.wire import http
from rave_platform.domain.tasks import AgentKind
from tests.debian import plan

if TYPE_CHECKING:
    from pathlib import Path

PAGE = '# TYPE x gauge\nrave_agent_silent_seconds{agent="x"} 7.5\nrave_agent_waiting 1\n'


@pytest.mark.parametrize(
    ("page", "status"), [(PAGE, "pass"), (PAGE.replace("7.5", "23"), "fail"), ("", "fail")]
)
def test_an_agent_is_heard_or_named(
    monkeypatch: pytest.MonkeyPatch, page: str, status: str
) -> None:
    monkeypatch.setattr(http, "get", lambda *_: http.Response(200, page.encode(), None, None))
    found = agents.heard({"ports": {"ai-engineer": 1}, "timeout": 1.0}, None)  # type: ignore[arg-type]
    assert found.status == status
    assert status == "pass" or "ai-engineer" in found.detail


def test_the_store_of_each_is_kept_and_put_back(tmp_path: Path) -> None:
    live, folder, target = (tmp_path / name for name in ("live", "folder", "target"))
    for place in (live, folder, target):
        place.mkdir()
    names = {agents.STORE.format(kind) for kind in AgentKind}
    # One of them has not begun yet.
    (late,) = {name for name in names if name.startswith("ai-")}
    for name in names - {late}:
        with closing(sqlite3.connect(live / name)) as store, store:
            store.execute("create table one (what text)")
            store.execute("insert into one values (?)", (name,))
    kept = agents.keep(plan("development"), str(live), str(folder))
    assert {name: b"".join(pieces)[:6] for name, pieces in kept} == dict.fromkeys(
        names - {late}, b"SQLite"
    )
    agents.put(str(folder), str(target), "")
    for name in names - {late}:
        with closing(sqlite3.connect(target / name)) as store:
            assert store.execute("select what from one").fetchall() == [(name,)]
        assert (target / name).stat().st_mode & 0o777 == 0o600
