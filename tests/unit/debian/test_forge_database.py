"""The forge waits for a database that recovers, and for one that does not come, not for ever."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from tests.debian import BASE

if TYPE_CHECKING:
    from collections.abc import Callable

FORGE = BASE / "services/pagure/rootfs/usr/lib/rave/forge/rave_forge"
URL = "postgresql://pagure@/pagure"


class AwayError(Exception):
    """As SQLAlchemy's OperationalError: what the driver said is its `orig`."""

    orig = "FATAL:  the database system is not yet accepting connections\n"


class Engine:
    """A database that refuses so many connections."""

    def __init__(self, refused: int) -> None:
        self.refused, self.asked, self.closed = refused, 0, 0

    def connect(self) -> SimpleNamespace:
        self.asked += 1
        if self.asked <= self.refused:
            raise AwayError
        return SimpleNamespace(close=self.close)

    def close(self) -> None:
        self.closed += 1

    dispose = close


@pytest.fixture
def wait(monkeypatch: pytest.MonkeyPatch) -> Callable[[Engine], None]:
    """Return what waits for a database, with the driver and the time stood in for."""

    def waiting(engine: Engine) -> None:
        driver, faults = ModuleType("sqlalchemy"), ModuleType("sqlalchemy.exc")
        driver.__dict__["create_engine"] = {URL: engine}.get
        faults.__dict__["OperationalError"] = AwayError
        monkeypatch.setitem(sys.modules, "sqlalchemy", driver)
        monkeypatch.setitem(sys.modules, "sqlalchemy.exc", faults)
        found: Any = ModuleType("database")
        # Loaded as a module it would leave bytecode among the files of the guest.
        exec((FORGE / "database.py").read_text(), found.__dict__)  # noqa: S102 - our own
        passed = iter(range(10_000))
        found.time = SimpleNamespace(monotonic=lambda: float(next(passed)), sleep=lambda _: None)
        found.wait(URL)

    return waiting


def test_it_begins_as_soon_as_the_database_has_recovered(
    wait: Callable[[Engine], None], capsys: pytest.CaptureFixture[str]
) -> None:
    engine = Engine(refused=3)
    wait(engine)
    assert (engine.asked, engine.closed) == (4, 2)
    # Once, and why.
    assert capsys.readouterr().err.splitlines() == [
        f"waiting for the database: {AwayError.orig}"[:-1]
    ]


def test_one_that_stays_away_is_not_waited_for_without_end(wait: Callable[[Engine], None]) -> None:
    with pytest.raises(AwayError):
        wait(Engine(refused=10_000))


@pytest.mark.parametrize("program", ["web", "worker"])
def test_each_of_its_programs_waits_before_it_asks(program: str) -> None:
    text = (FORGE / f"{program}.py").read_text()
    first = {"web": "schema.prepare(", "worker": "    take_up()\n"}[program]
    assert 0 < text.index('database.wait(config["DB_URL"])') < text.index(first)
