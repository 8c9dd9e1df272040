"""Hooks of the forge: run by what is loaded already, or alone; what they refuse is refused.

Real pushes over git, before a stand-in for what of Pagure they reach.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.debian import BASE
from tests.waiting import CEILING, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FORGE = BASE / "services/pagure/rootfs/usr/lib/rave/forge"
PYTHON = "/usr/bin/python3"

# As run_hook_file of Pagure's: by its standard input, its environment and its exit status.
STAND_IN = """
import os, signal, subprocess, sys
from pathlib import Path
HERE = Path(__file__).parent
with (HERE / "loaded").open("a") as loaded:
    loaded.write("x")

def run_hook_file(name):
    user = os.environ["GL_USER"]
    changes = [line.split()[2] for line in sys.stdin]
    head = subprocess.run(["git", "rev-parse", "--git-dir"], check=True, capture_output=True)
    with (HERE / "ran").open("a") as ran:
        print(name, user, *changes, "LEFT" in os.environ, file=ran)
    print(f"{name} for {user}")
    if user == "mallory":
        sys.exit(1)
    if user == "fault":
        raise RuntimeError("a fault")
    if user == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if user == "slow":
        (HERE / "waits").open("w").close()
"""


class Forge:
    """Git's hooks as a machine has them, below a directory."""

    def __init__(self, place: Path) -> None:
        self.place, self.socket = place, place / "hooks.socket"
        self.pagure = place / "forge/pagure"
        shutil.copytree(FORGE, place / "forge", symlinks=True)
        (self.pagure / "lib").mkdir(parents=True)
        (place / "forge/sqlalchemy").mkdir()
        for name, text in {
            "pagure/__init__.py": "", "pagure/hooks.py": STAND_IN,
            "pagure/lib/__init__.py": "", "pagure/utils.py": "set_up_logging = int\n",
            "pagure/lib/git_auth.py": "get_git_auth_helper = int\n",
            "pagure/lib/plugins.py": "get_plugin_names = int\n",
            "sqlalchemy/__init__.py": "", "sqlalchemy/orm.py": "configure_mappers = int\n",
        }.items():  # fmt: skip
            (place / "forge" / name).write_text(text)
        hook = place / "forge/hooks/hook"
        self.pushed = place / "pushed"
        text = hook.read_text().replace("/run/pagure/hooks", str(self.socket))
        text = text.replace("/run/buildbot-pushed", str(self.pushed))
        hook.write_text(text.replace("/usr/lib/rave/forge", str(place / "forge")))
        git("init", "-q", "--bare", place / "it.git")
        git("-C", place / "it.git", "config", "core.hooksPath", place / "forge/hooks")
        git("init", "-q", "-b", "main", place / "mine")
        who = ("-c", "user.name=a", "-c", "user.email=a@rave.test")
        git("-C", place / "mine", *who, "commit", "-q", "--allow-empty", "-m", "one")

    def pushing(self, user: str, branch: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            ["git", "-C", self.place / "mine", "push", self.place / "it.git", f"main:{branch}"],
            env={**os.environ, "GL_USER": user}, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def push(self, user: str, branch: str = "main") -> tuple[int, str]:
        with self.pushing(user, branch) as process:
            _, said = process.communicate(timeout=CEILING)
        return process.returncode, said

    def branches(self) -> list[str]:
        return git("-C", self.place / "it.git", "branch", "--format=%(refname:short)").split()

    def told(self, name: str) -> str:
        place = self.pagure / name
        return place.read_text() if place.exists() else ""


def git(*words: str | Path) -> str:
    return subprocess.run(["git", *words], check=True, capture_output=True, text=True).stdout


@pytest.fixture
def forge(tmp_path: Path) -> Forge:
    return Forge(tmp_path)


@pytest.fixture
def kept(forge: Forge) -> Iterator[Forge]:
    """A forge of which a process keeps everything loaded, as the web process leaves it behind."""
    program = (
        f"import sys; sys.path.insert(0, {str(forge.place / 'forge')!r})\n"
        "from pathlib import Path; from rave_forge import hooks\n"
        f"hooks.keep(Path({str(forge.socket)!r}))"
    )
    first = subprocess.Popen(
        [PYTHON, "-Ic", program], start_new_session=True, env={**os.environ, "LEFT": "behind"}
    )
    assert first.wait(CEILING) == 0
    try:
        yield forge
    finally:
        end(first.pid)


def end(group: int) -> None:
    os.killpg(group, signal.SIGKILL)


def test_all_hooks_are_run_by_one_that_has_loaded_everything_once(kept: Forge) -> None:
    assert [kept.push("alice", name)[0] for name in ("main", "other")] == [0, 0]
    assert kept.branches() == ["main", "other"]
    assert kept.told("loaded") == "x"
    # With what the caller has, and nothing of the process that was copied.
    assert kept.told("ran").splitlines() == [
        f"{hook} alice refs/heads/{name} False"
        for name in ("main", "other")
        for hook in ("pre-receive", "post-receive")
    ]


@pytest.mark.parametrize(
    ("user", "reason"),
    [("mallory", "pre-receive for mallory"), ("fault", "RuntimeError: a fault"),
     ("killed", "The forge ended before it was done with this push")],
)  # fmt: skip
def test_what_is_refused_or_fails_changes_nothing_and_says_so(
    kept: Forge, user: str, reason: str
) -> None:
    status, said = kept.push(user)
    assert status == 1
    assert f"remote: {reason}" in said
    assert kept.branches() == []
    # The next one is not the worse for it.
    assert kept.push("alice")[0] == 0


def test_whoever_builds_is_told_where_something_was_pushed(kept: Forge) -> None:
    with socket.socket(socket.AF_UNIX) as builds:
        builds.bind(str(kept.pushed))
        builds.listen()
        assert kept.push("mallory")[0] == 1
        assert kept.push("alice")[0] == 0
        with builds.accept()[0] as told:
            assert told.recv(4096).decode() == str(kept.place / "it.git")
    # Nobody is there any more.
    assert kept.push("alice", "other")[0] == 0


def test_without_one_each_hook_is_run_alone_and_refuses_the_same(forge: Forge) -> None:
    status, said = forge.push("mallory")
    assert (status, "remote: pre-receive for mallory" in said) == (1, True)
    assert forge.push("alice")[0] == 0
    assert forge.told("loaded") == "xxx"


def test_nobody_waits_for_anothers_hooks(kept: Forge) -> None:
    os.mkfifo(kept.pagure / "waits")
    with kept.pushing("slow", "slow") as slow:
        until(lambda: "slow" in kept.told("ran"))
        assert kept.push("alice", "quick")[0] == 0
        assert kept.branches() == ["quick"]
        for _ in ("pre-receive", "post-receive"):
            (kept.pagure / "waits").read_text()
        slow.communicate(timeout=CEILING)
    assert kept.branches() == ["quick", "slow"]
