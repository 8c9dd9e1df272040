"""A project of the forge is made to its end, wherever its maker was killed: real repositories, and
Pagure's own code stood in for.
"""

from __future__ import annotations

import subprocess
import sys
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from tests.debian import BASE

if TYPE_CHECKING:
    from pathlib import Path

MAKING = BASE / "services/pagure/rootfs/usr/lib/rave/forge/rave_forge/making.py"
KINDS = ("main", "requests")
MAIN = "refs/heads/main"


def git(*words: str, data: str = "") -> str:
    done = subprocess.run(["git", *words], input=data, check=True, capture_output=True, text=True)
    return done.stdout.strip()


class Forge:
    """One project, if its row is there, and the task that makes it as Pagure does."""

    def __init__(self, place: Path) -> None:
        self.place, self.row = place, True
        self.made: list[tuple[Any, ...]] = []
        self.freed = 0
        self.request = SimpleNamespace(delivery_info={})

    def repopath(self, kind: str) -> str:
        return str(self.place / kind)

    def run(self, *words: Any) -> str:
        self.made.append(words)
        *_, existing, _branch = words
        for kind in KINDS:
            if (self.place / kind).exists():
                if not existing:
                    self.row = False
                    raise FileExistsError(kind)
            else:
                git("init", "-q", "--bare", self.repopath(kind))
        commit(self.place / "main")
        return "made"

    def free(self, project: Forge) -> None:
        assert project is self
        self.freed += 1


def commit(repository: Path, branch: str = "main") -> None:
    at = ("-C", str(repository))
    tree = git(*at, "mktree")
    who = ("-c", "user.name=x", "-c", "user.email=x")
    git(*at, "update-ref", f"refs/heads/{branch}", git(*at, *who, "commit-tree", tree, data="x"))


@pytest.fixture
def forge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Forge:
    found = Forge(tmp_path)
    session = SimpleNamespace(remove=lambda: None)
    lib = {
        "git": SimpleNamespace(generate_gitolite_acls=found.free),
        "model_base": SimpleNamespace(create_session=lambda _url: session),
        "query": SimpleNamespace(
            _get_project=lambda *_, **__: found if found.row else None,
            get_repotypes=lambda: KINDS,
        ),
        "tasks": SimpleNamespace(create_project=found, ret=lambda *_, **__: "there"),
    }
    pygit2 = {
        "Repository": lambda place: SimpleNamespace(
            branches=SimpleNamespace(local=git("-C", place, "branch", "--list").split())
        )
    }
    modules: dict[str, dict[str, Any]] = {
        "pagure": {}, "pagure.config": {"config": {"DB_URL": ""}}, "pagure.lib": lib,
        "pygit2": pygit2,
    }  # fmt: skip
    for name, words in modules.items():
        module = ModuleType(name)
        module.__dict__.update(words)
        monkeypatch.setitem(sys.modules, name, module)
    making: dict[str, Any] = {"__name__": "making"}
    # Loaded as a module it would leave bytecode among the files of the guest.
    exec(MAKING.read_text(), making)  # noqa: S102 - our own
    making["see_to_end"]()
    return found


def make(forge: Forge, *, again: bool) -> Any:
    forge.request.delivery_info = {"redelivered": again}
    return forge.run("pingou", None, "shop", True, False, "main")


def test_it_is_done_again_by_whoever_has_it_next(forge: Forge) -> None:
    assert forge.acks_late is True  # type: ignore[attr-defined]


def test_the_first_time_it_is_made_as_ever(forge: Forge) -> None:
    git("init", "-q", "--bare", forge.repopath("requests"))
    with pytest.raises(FileExistsError):
        make(forge, again=False)


@pytest.mark.parametrize("left", ["nothing", "a directory", "one empty", "both empty", "a commit"])
def test_what_a_try_left_holds_nothing_up(forge: Forge, left: str) -> None:
    if left == "a directory":
        (forge.place / "main" / "objects").mkdir(parents=True)
    elif left != "nothing":
        for kind in KINDS[: 1 if left == "one empty" else 2]:
            git("init", "-q", "--bare", forge.repopath(kind))
    if left == "a commit":
        # The branch was not yet there.
        commit(forge.place / "main")
        git("-C", forge.repopath("main"), "update-ref", "-d", MAIN)
    assert make(forge, again=True) == "made"
    assert forge.row
    for kind in KINDS:
        git("-C", forge.repopath(kind), "fsck", "--strict")
    assert git("-C", forge.repopath("main"), "for-each-ref", "--format=%(refname)") == MAIN


def test_one_that_people_have_is_left_alone_and_freed(forge: Forge) -> None:
    make(forge, again=False)
    commit(forge.place / "main", "theirs")
    forge.made.clear()
    assert make(forge, again=True) == "there"
    assert (forge.made, forge.freed) == ([], 1)
    assert "theirs" in git("-C", forge.repopath("main"), "branch", "--list")


def test_one_that_was_deleted_meanwhile_is_not_made(forge: Forge) -> None:
    forge.row = False
    assert make(forge, again=True) is None
    assert forge.made == []
