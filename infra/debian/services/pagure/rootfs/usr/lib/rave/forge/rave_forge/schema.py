"""Pagure's tables: made at the first start, brought up to date by a newer Pagure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from alembic import command
from alembic.config import Config
from pagure.lib import model
from sqlalchemy import create_engine, inspect

if TYPE_CHECKING:
    from pathlib import Path

ALEMBIC = "/etc/rave/pagure/alembic.ini"


def prepare(url: str, acls: dict[str, str], version: str, mark: Path) -> None:
    """Bring the tables to what this version wants, unless `mark` says that they are so.

    Whatever ends it between two steps, the next start does them again.
    """
    if mark.exists() and mark.read_text() == version:
        return
    engine = create_engine(url)
    known = inspect(engine).has_table("alembic_version")
    engine.dispose()
    if known:
        command.upgrade(Config(ALEMBIC), "head")
    # New ones, and new rights of tokens.
    model.create_tables(url, acls=acls)
    if not known:
        command.stamp(Config(ALEMBIC), "head")
    new = mark.with_name(f"{mark.name}.new")
    new.write_text(version)
    new.replace(mark)
