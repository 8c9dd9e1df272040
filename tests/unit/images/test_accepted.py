"""What the operator has accepted: its lock beside the profile's, in a build and in a lock anew."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from rave_cli.errors import ExitCode, RaveError
from rave_cli.flows import image as flow
from rave_cli.images import accepted, closure, locking
from rave_cli.images import lock as locks
from rave_cli.images.build import build_image, update_lock
from rave_cli.images.events import ignore
from rave_cli.images.lock import File, Lock
from rave_cli.settings import load

if TYPE_CHECKING:
    from pathlib import Path

    from rave_cli.profiles.catalog import Plan
    from tests.unit.images.conftest import Host

BOARD = "board"
RELEASE = "board@1.2.3"
REQUEST = accepted.AcceptedRequest(tarballs={BOARD: (RELEASE,)})


def lock_of(sha256: str = "0" * 64, version: str = "1.2.3") -> accepted.AcceptedLock:
    file = File(
        kind="npm", service=BOARD, name=BOARD, version=version, file=f"board-{version}.tgz",
        sha256=sha256,
    )  # fmt: skip
    asked = accepted.AcceptedRequest(tarballs={BOARD: (f"{BOARD}@{version}",)})
    return accepted.AcceptedLock(requested=asked, files=(file,))


@pytest.fixture
def taken(plan: Plan) -> Plan:
    """The plan of whoever has accepted the board."""
    return plan.model_copy(update={"attr": f"{plan.attr}-with-board", "accepted": (BOARD,)})


def put(flake: Path, lock: accepted.AcceptedLock) -> None:
    place = accepted.place(flake, BOARD)
    place.parent.mkdir(exist_ok=True)
    place.write_bytes(accepted.render(lock))


def test_a_lock_is_read_as_it_was_written_one_file_a_line(flake: Path) -> None:
    put(flake, lock_of())
    assert accepted.load(flake, BOARD) == lock_of()
    text = accepted.place(flake, BOARD).read_text()
    assert len([line for line in text.splitlines() if "sha256" in line]) == 1


def test_it_is_joined_to_the_profiles_and_changes_nothing_of_that(locked: Lock) -> None:
    whole = accepted.joined(locked, [lock_of()])
    assert whole.files == (*locked.files, *lock_of().files)
    assert whole.requested.tarballs == {BOARD: (RELEASE,)}
    same = {"files", "requested"}
    assert whole.model_dump(exclude=same) == locked.model_dump(exclude=same)
    assert locks.parse(locks.render(whole), locking.own_lock("demo")) == whole
    assert accepted.joined(locked, []) is locked


@pytest.mark.parametrize(
    ("text", "said"),
    [(None, "board has no lock"), ("{", "is damaged"), ('{"version": 9}', "a newer rave"),
     ('{"version": 1, "requested": {}, "files": []}', "is damaged")],
)  # fmt: skip
def test_one_that_is_not_there_or_no_lock_is_told(flake: Path, text: str | None, said: str) -> None:
    put(flake, lock_of())
    place = accepted.place(flake, BOARD)
    if text is None:
        place.unlink()
    else:
        place.write_text(text)
    with pytest.raises(RaveError, match=said) as caught:
        accepted.load(flake, BOARD)
    assert caught.value.exit_code == ExitCode.BUILD


@pytest.fixture
def fetched(host: Host, monkeypatch: pytest.MonkeyPatch) -> list[Lock]:
    """What builds ask for, none of which is fetched."""
    found: list[Lock] = []

    def fetch(lock: Lock, *_: object) -> tuple[Path, ...]:
        found.append(lock)
        return ()

    monkeypatch.setattr(closure, "fetch", fetch)
    return found


def test_a_build_fetches_what_was_accepted(
    host: Host, taken: Plan, flake: Path, fetched: list[Lock]
) -> None:
    with pytest.raises(RaveError, match="board has no lock"):
        build_image(taken, flake=flake, mode="safe")
    put(flake, lock_of())
    build_image(taken, flake=flake, mode="safe")
    assert [file.name for file in fetched[0].files] == ["sops", BOARD]
    words = next(call["words"] for call in host.calls("nix") if call["words"][0] == "build")
    assert words[-1].endswith(f"#{taken.attr}")


def test_a_build_of_whoever_accepts_nothing_fetches_nothing_of_it(
    plan: Plan, flake: Path, fetched: list[Lock]
) -> None:
    put(flake, lock_of())
    build_image(plan, flake=flake, mode="safe")
    assert [file.name for file in fetched[0].files] == ["sops"]


def test_what_is_locked_stays_until_it_asks_for_something_else(
    locked: Lock, tmp_path: Path
) -> None:
    kept = accepted.choose(REQUEST, lock_of(), locked, tmp_path, ignore)
    assert kept == lock_of()


def test_the_bill_of_the_checkout_has_it(taken: Plan, flake: Path) -> None:
    put(flake, lock_of())
    (flake / "infra/catalog").mkdir()
    lock, data, of = flow.locked(taken, load(start=flake))
    assert BOARD in [file.name for file in lock.files]
    assert json.loads(data)["requested"]["tarballs"] == {BOARD: [RELEASE]}
    assert of.endswith("with board")


def test_locking_writes_both_locks_or_with_a_dry_run_none(
    host: Host, taken: Plan, flake: Path, monkeypatch: pytest.MonkeyPatch, locked: Lock
) -> None:
    def evaluate(_self: object, installable: str) -> object:
        own = installable.endswith(f"acceptedRequests.{BOARD}")
        return (REQUEST if own else locked.requested).model_dump(mode="json")

    monkeypatch.setattr("rave_cli.images.build.Nix.evaluate", evaluate)
    monkeypatch.setattr(accepted, "choose", lambda *_: lock_of("1" * 64))
    put(flake, lock_of(version="1.2.2"))
    before = accepted.place(flake, BOARD).read_bytes()
    _, changes = update_lock(taken, flake=flake, dry_run=True)
    assert [str(change).split("  ")[0] for change in changes if change.service] == [
        "board 1.2.2 -> 1.2.3"
    ]
    assert accepted.place(flake, BOARD).read_bytes() == before
    update_lock(taken, flake=flake)
    assert accepted.load(flake, BOARD) == lock_of("1" * 64)
