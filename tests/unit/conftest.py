"""The order in which files of unit tests are taken."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

# Files that take longest, the longest first: each is tested by one process (tests/run.py), and one
# that began late would go on alone while all others have nothing to do.
FIRST = (
    "test_every_command",
    "test_hostile_text",
    "test_copying",
    "test_killed",
    "test_killed_templates",
    "test_exec",
    "test_terminal",
    "test_journal",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the tests of FIRST before the others, in its order."""
    places = {name: number for number, name in enumerate(FIRST)}
    items.sort(key=lambda item: places.get(item.path.stem, len(FIRST)))
