"""The lock's text: round trip, one package per line, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rave_cli.errors import ExitCode, RaveError
from rave_cli.images import lock as locks
from rave_cli.images.lock import Lock, Package, Request, Sops

if TYPE_CHECKING:
    from collections.abc import Callable

PLACE = Path("locks/demo.json")
HEX = "0123456789abcdef"

names = st.from_regex(r"[a-z0-9][a-z0-9+.-]{0,20}", fullmatch=True)
files = st.from_regex(r"[0-9A-Za-z+_?=-][0-9A-Za-z+._?=-]{0,40}", fullmatch=True)
digests = st.text(HEX, min_size=64, max_size=64)
packages = st.builds(
    Package,
    name=names, version=st.text(min_size=1, max_size=20), architecture=st.just("amd64"),
    file=files, sha256=digests, role=st.sampled_from(["essential", "guest", "kernel", "tool"]),
)  # fmt: skip
lock_values = st.builds(
    Lock,
    epoch=st.integers(1, 2**33),
    requested=st.builds(
        Request, guest=st.tuples(names), kernel=names, tools=st.tuples(names, names)
    ),
    packages=st.lists(packages, min_size=1, max_size=5).map(tuple),
    sops=st.builds(Sops, version=st.just("3.11.0"), file=files, sha256=digests),
    replaces=st.none() | digests,
)


@given(lock_values)
def test_a_lock_survives_writing_and_reading(lock: Lock) -> None:
    assert locks.parse(locks.render(lock), PLACE) == lock


@given(lock_values)
def test_each_package_has_a_line_of_its_own(lock: Lock) -> None:
    lines = [line for line in locks.render(lock).decode().split("\n") if '"architecture"' in line]
    assert len(lines) == len(lock.packages)


def _without_version(document: dict[str, object]) -> None:
    del document["version"]
    document["version"] = 2


def _bad_hash(document: dict[str, object]) -> None:
    document["packages"][0]["sha256"] = "ff"  # type: ignore[index]


def _escaping_name(document: dict[str, object]) -> None:
    document["packages"][0]["file"] = "../bash.deb"  # type: ignore[index]


def _unknown_member(document: dict[str, object]) -> None:
    document["mirror"] = "somewhere"


@pytest.mark.parametrize("damage", [_without_version, _bad_hash, _escaping_name, _unknown_member])
def test_what_is_not_a_lock_is_refused_with_the_way_out(
    locked: Lock, damage: Callable[[dict[str, object]], None]
) -> None:
    document = json.loads(locks.render(locked))
    damage(document)
    with pytest.raises(RaveError) as caught:
        locks.parse(json.dumps(document).encode(), PLACE)
    assert caught.value.exit_code == ExitCode.BUILD
    assert caught.value.hint == "rave vm lock-closure --profile demo"


def test_half_a_lock_is_refused(locked: Lock) -> None:
    data = locks.render(locked)
    with pytest.raises(RaveError, match="not a lock"):
        locks.parse(data[: len(data) // 2], PLACE)


def test_a_difference_names_what_changed_came_and_went(locked: Lock) -> None:
    bash = locked.packages[0]
    newer = bash.model_copy(update={"version": "1:5.3-1"})
    dash = bash.model_copy(update={"name": "dash"})
    found = locks.difference(locked, locked.model_copy(update={"packages": (newer, dash)}))
    assert found.changed == ("bash 1:5.2-1 -> 1:5.3-1",)
    assert found.added == ("dash",)
    assert found.removed == ()
    assert len(found) == 2
    assert not len(locks.difference(locked, locked))
