"""What runs and answers nobody: when that is said, and when it is left alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from rave_guest import hung, ready

if TYPE_CHECKING:
    from pathlib import Path

CHECK = {"from": "guest", "kind": "http", "url": "http://127.0.0.1:1/", "status": 200}


def service(state: str, *, active: bool, name: str = "nats") -> ready.WatchedService:
    """Return a service with a verdict."""
    record: dict[str, Any] = {"title": "T", "units": ["nats-server.service"]}
    found = ready.WatchedService(name, record | {"checks": [CHECK], "deadlineSeconds": 1})
    found.state, found.active = state, active
    return found


class Watched:
    """Rounds, each so many seconds after the last one, and what is said after each."""

    def __init__(self, place: Path) -> None:
        self.now, self.place = 0.0, place / "hung"
        self.hung = hung.Hung(str(self.place), lambda: self.now)

    def look(self, after: float, found: ready.WatchedService) -> bool:
        self.now += after
        self.hung.look([found])
        return (self.place / "nats").exists()


HANGS = service("failed", active=True)


def test_what_hangs_for_long_is_said_and_the_next_one_has_as_long(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    watched = Watched(tmp_path)
    assert not watched.look(0, HANGS)
    assert not watched.look(hung.PATIENCE - 1, HANGS)
    assert watched.look(1, HANGS)
    assert "nats runs, and does not answer" in capsys.readouterr().err
    (watched.place / "nats").unlink()
    assert not watched.look(5, HANGS)
    assert watched.look(hung.PATIENCE, HANGS)


@pytest.mark.parametrize(
    "between",
    [
        service("healthy", active=True),
        service("starting", active=True),
        service("failed", active=False),
    ],
)
def test_what_came_back_meanwhile_has_its_time_anew(
    tmp_path: Path, between: ready.WatchedService
) -> None:
    watched = Watched(tmp_path)
    for found in (HANGS, between, HANGS):
        assert not watched.look(hung.PATIENCE, found)


def test_what_came_back_by_itself_is_not_ended_any_more(tmp_path: Path) -> None:
    watched = Watched(tmp_path)
    watched.look(0, HANGS)
    assert watched.look(hung.PATIENCE, HANGS)
    assert not watched.look(1, service("healthy", active=True))


def test_what_is_not_known_to_hang_is_left_alone(tmp_path: Path) -> None:
    watched = Watched(tmp_path)
    for _ in range(3):
        watched.look(hung.PATIENCE, service("failed", active=True, name="redis"))
    assert not watched.place.exists()
