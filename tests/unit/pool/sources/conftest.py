"""The secrets of sources, without a secrets file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from rave_cli.pool.sources import keys

from .forges import OLD_SECRET, SECRET, SIGNING, TOKEN

if TYPE_CHECKING:
    from collections.abc import Iterable

VALUES = {"hook": SECRET, "old": OLD_SECRET, "signing": SIGNING, "token": TOKEN}


@pytest.fixture(autouse=True)
def _secrets(home: object, monkeypatch: pytest.MonkeyPatch) -> None:
    def opened(names: Iterable[str]) -> dict[str, str]:
        return {name: VALUES[name] for name in names if name in VALUES}

    monkeypatch.setattr(keys, "opened", opened)
