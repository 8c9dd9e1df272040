"""Secrets on their way into force, and back: by our own hand, and by sops-nix."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from rave_guest.secrets import generations
from rave_guest.secrets.placement import SOPS_NIX, Direct, SopsNix
from rave_guest.secrets.store import KeptSecrets, kept

if TYPE_CHECKING:
    from pathlib import Path

ENTRIES = {"a/b": generations.SecretFile(b"value", "nobody-of-that-name", 0o400)}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> generations.Place:
    (tmp_path / "secrets.d").mkdir()
    monkeypatch.setattr(generations, "_mount", lambda root: None)
    monkeypatch.setattr(generations, "account", lambda owner: (-1, -1))
    return generations.Place(str(tmp_path / "secrets.d"), str(tmp_path / "secrets"))


def test_direct_puts_a_generation_in_force_and_takes_it_back(place: generations.Place) -> None:
    first = Direct(place, ENTRIES, stale=True)
    first.put()
    before = generations.current(place)
    second = Direct(place, {"c": ENTRIES["a/b"]}, stale=True)
    second.put()
    assert set(generations.read(generations.current(place))) == {"c"}
    second.take_back()
    assert generations.current(place) == before
    assert set(generations.read(before)) == {"a/b"}


def test_direct_writes_nothing_that_is_in_force_already(place: generations.Place) -> None:
    Direct(place, ENTRIES, stale=True).put()
    before = generations.current(place)
    again = Direct(place, ENTRIES, stale=False)
    again.put()
    again.settle()
    assert generations.current(place) == before


class Store:
    """What sops-nix reads, and the order of what happened."""

    def __init__(self, before: KeptSecrets) -> None:
        self.now = before
        self.calls: list[str] = []

    def placement(self, place: generations.Place) -> SopsNix:
        return SopsNix(
            place, self.now, keep=self.keep, restore=self.restore, restart=self.calls.append
        )

    def keep(self) -> None:
        self.calls.append("keep")
        self.now = KeptSecrets(b"new key", b"new file")

    def restore(self, before: KeptSecrets) -> None:
        self.calls.append("restore")
        self.now = before


def test_sops_nix_runs_on_the_new_files(place: generations.Place) -> None:
    store = Store(KeptSecrets(None, None))
    store.placement(place).put()
    assert store.calls == ["keep", SOPS_NIX]


def test_sops_nix_gets_its_old_files_back(place: generations.Place) -> None:
    old = KeptSecrets(b"old key", b"old file")
    store = Store(old)
    placement = store.placement(place)
    placement.put()
    placement.take_back()
    assert store.now == old
    assert store.calls == ["keep", SOPS_NIX, "restore", SOPS_NIX]


def test_without_old_files_no_secrets_stay(place: generations.Place) -> None:
    store = Store(KeptSecrets(None, None))
    placement = store.placement(place)
    placement.put()
    generations.enforce(place, generations.write(place, ENTRIES))
    placement.take_back()
    assert generations.current(place) is None


def test_what_is_kept_is_read_as_it_lies(tmp_path: Path) -> None:
    (tmp_path / "age.key").write_bytes(b"k")
    assert kept(str(tmp_path)) == KeptSecrets(b"k", None)
