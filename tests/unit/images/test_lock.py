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
from rave_cli.images.lock import Archive, File, Lock, Package, PackageRequest

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
    licence=st.sampled_from(["", "MIT"]),
    security=st.booleans(),
)  # fmt: skip
others = st.builds(
    File,
    kind=st.sampled_from(["program", "wheel", "npm"]), name=names, version=st.just("1.0"),
    file=files, sha256=digests, service=st.sampled_from(["", "wiki"]),
    needed_by=st.lists(names, max_size=2).map(tuple),
)  # fmt: skip
fingerprints = st.text("0123456789ABCDEF", min_size=40, max_size=40)
archives = st.builds(
    Archive,
    name=st.sampled_from(["debian", "debian-security"]), suites=st.tuples(names),
    keys=st.tuples(fingerprints), only=st.just(("git",)),
    uri=st.sampled_from(["", "https://packages.example/deb"]),
    components=st.sampled_from([("main",), ("stable", "beta")]),
)  # fmt: skip
lock_values = st.builds(
    Lock,
    epoch=st.integers(1, 2**33),
    requested=st.builds(
        PackageRequest,
        archives=st.tuples(archives),
        guest=st.tuples(names),
        kernel=names,
        tools=st.tuples(names, names),
        wheels=st.sampled_from([{}, {"wiki": ("wiki[all]==1.0", "paper>=2,<3")}]),
        tarballs=st.sampled_from([{}, {"wiki": ("@a/tool@1.2.3",)}]),
    ),
    packages=st.lists(packages, min_size=1, max_size=5).map(tuple),
    files=st.lists(others, max_size=3).map(tuple),
    resolved=st.just("20261120T120000Z"),
    trusted=st.tuples(fingerprints) | st.just(()),
    replaces=st.none() | digests,
)


@given(lock_values)
def test_a_lock_survives_writing_and_reading(lock: Lock) -> None:
    assert locks.parse(locks.render(lock), PLACE) == lock


@given(lock_values)
def test_each_file_has_a_line_of_its_own(lock: Lock) -> None:
    lines = [line for line in locks.render(lock).decode().split("\n") if '"sha256"' in line]
    assert len(lines) == len(lock.packages) + len(lock.files)


def _without_version(document: dict[str, object]) -> None:
    del document["version"]
    document["requested"] = None


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
    with pytest.raises(RaveError, match=r"the lock in \S+ is damaged"):
        locks.parse(data[: len(data) // 2], PLACE)


def test_a_lock_of_a_newer_rave_is_not_called_damaged(locked: Lock) -> None:
    document = json.loads(locks.render(locked)) | {"version": 4, "more": True}
    with pytest.raises(RaveError, match="made by a newer rave") as caught:
        locks.parse(json.dumps(document).encode(), PLACE)
    assert "lock-closure" not in str(caught.value.hint)


def test_a_lock_of_version_1_is_still_read() -> None:
    place = Path(__file__).parents[2] / "fixtures/released-0.1.0/lock.json"
    found = locks.parse(place.read_bytes(), place)
    assert (found.requested.archives, found.resolved) == ((), "")
    (sops,) = found.files
    assert (sops.kind, sops.name, sops.version) == ("program", "sops", "3.11.0")
    assert {package.role for package in found.packages} == {"essential", "guest", "kernel", "tool"}
    assert locks.parse(locks.render(found), place) == found


def test_a_lock_of_version_2_is_still_read(locked: Lock) -> None:
    document = json.loads(locks.render(locked)) | {"version": 2}
    assert locks.parse(json.dumps(document).encode(), PLACE) == locked


def test_a_difference_names_all_that_changed_came_and_went(locked: Lock) -> None:
    bash = locked.packages[0]
    newer = bash.model_copy(update={"version": "1:5.3-1", "security": True})
    dash = bash.model_copy(update={"name": "dash"})
    sops = locked.files[0].model_copy(update={"version": "3.12.0"})
    other = locked.model_copy(update={"packages": (dash, newer), "files": (sops,)})
    asked = locked.requested.model_copy(update={"guest": ("bash", "dash")})
    other = other.model_copy(update={"requested": asked})
    assert list(map(str, locks.difference(locked, other))) == [
        "bash 1:5.2-1 -> 1:5.3-1  (security update)",
        "+ dash 1:5.2-1  (asked for)",
        "sops 3.11.0 -> 3.12.0",
    ]
    assert str(locks.difference(other, locked)[1]) == "- dash 1:5.2-1"
    wanted = File(kind="wheel", service="wiki", name="paper", version="1", file="p",
                  sha256="0" * 64, needed_by=("a", "b", "c", "d", "e"))  # fmt: skip
    with_set = locked.model_copy(update={"files": (*locked.files, wanted)})
    (change,) = locks.difference(locked, with_set)
    assert str(change) == "+ paper 1  (of wiki, for a and b and c and 2 more)"
    assert locks.difference(locked, locked) == ()
