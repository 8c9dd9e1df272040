"""The program that receives a copy in a guest, ended before and after whatever it starts."""

from __future__ import annotations

import fcntl
import io
import os
import signal
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from rave_cli.machines.transfer.packing import pack
from rave_cli.machines.transfer.programs import RECEIVE
from tests.unit.machines.fake_sshd import SYSTEM
from tests.waiting import CEILING, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

END = "end-0123456789abcdef"
# What it starts on its way, in this order.
PROGRAMS = ("dirname", "mkdir", "flock", "tar", "mv", "rm")


@pytest.fixture
def there(tmp_path: Path) -> Path:
    place = tmp_path / "there"
    place.mkdir()
    return place


@pytest.fixture
def sent(tmp_path: Path) -> bytes:
    """What a host sends: a file."""
    (tmp_path / "f").write_bytes(b"what is copied")
    stream = io.BytesIO()
    pack(tmp_path / "f", stream, end=END, on_bytes=lambda _count: None)
    return stream.getvalue()


def receive(there: Path, *, end: str = END, path: str = SYSTEM) -> subprocess.Popen[bytes]:
    """Start it as a guest does: in a session of its own."""
    argv = ["/bin/sh", "-c", RECEIVE, "rave-cp", f"{there}/", "f", "tree", end]
    return subprocess.Popen(
        argv, stdin=subprocess.PIPE, stderr=subprocess.PIPE, env={"PATH": path},
        start_new_session=True,
    )  # fmt: skip


def received(there: Path, data: bytes, *, end: str = END, path: str = SYSTEM) -> tuple[int, str]:
    """Let it take `data`; return how it ended and what it complained of."""
    with receive(there, end=end, path=path) as child:
        _, said = child.communicate(data, CEILING)
    return child.returncode, said.decode()


def stages(there: Path) -> list[str]:
    return [path.name for path in there.glob(".rave-cp.*")]


@pytest.fixture(params=PROGRAMS)
def program(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=["before", "after"])
def ending(request: pytest.FixtureRequest, program: str, tmp_path: Path) -> str:
    """A PATH on which a program ends all of the session, as the guest's door does, before or after
    it has done what it is for.
    """
    tools = tmp_path / "tools"
    tools.mkdir()
    steps = ["kill -TERM 0", f'PATH={SYSTEM} {program} "$@"']
    script = "\n".join(steps if request.param == "before" else reversed(steps))
    (tools / program).write_text(f"#!/bin/sh\n{script}\n")
    (tools / program).chmod(0o755)
    return f"{tools}:{SYSTEM}"


def test_wherever_it_is_ended_it_leaves_no_stage(
    there: Path, sent: bytes, ending: str, program: str
) -> None:
    status, said = received(there, sent, path=ending)
    assert stages(there) == []
    # Once it removes its stage nothing stops it any more.
    assert status == (0 if program == "rm" else status), said
    assert (there / "f").exists() or status, said


@pytest.fixture
def killed(there: Path) -> str:
    """A stage of one that was killed, long ago: its name."""
    with receive(there, end="end-killed") as child:
        until(lambda: stages(there))
        os.killpg(child.pid, signal.SIGKILL)
    (stage,) = there.glob(".rave-cp.*")
    aged(stage)
    return stage.name


def aged(stage: Path) -> None:
    long_ago = time.time() - 600
    os.utime(stage, (long_ago, long_ago))


@pytest.mark.usefixtures("killed")
def test_the_next_one_removes_what_a_killed_one_left(there: Path, sent: bytes) -> None:
    assert received(there, sent) == (0, "")
    assert stages(there) == []
    assert (there / "f").read_bytes() == b"what is copied"


@pytest.fixture
def under_way(there: Path) -> Iterator[Path]:
    """The stage of one that has been waiting for long."""
    with receive(there, end="end-slow") as child:
        place = there / ".rave-cp.end-slow"
        # Its shell holds the stage once it has got so far.
        until(lambda: held(place))
        aged(place)
        yield place
        assert child.stdin is not None
        child.stdin.close()
        assert child.wait(CEILING) != 0
    assert not place.exists()


def held(place: Path) -> bool:
    """Whether somebody has locked a folder. /proc/locks does not tell it in a process namespace,
    where whoever took the lock has ended.
    """
    try:
        folder = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(folder)
    return False


def test_one_that_is_under_way_keeps_its_stage(there: Path, sent: bytes, under_way: Path) -> None:
    assert received(there, sent) == (0, "")
    assert under_way.is_dir()


def test_a_stage_that_was_made_just_now_is_left_alone(there: Path, sent: bytes) -> None:
    (there / ".rave-cp.end-new").mkdir()
    assert received(there, sent) == (0, "")
    assert stages(there) == [".rave-cp.end-new"]


def test_what_only_has_such_a_name_is_left_alone(there: Path, sent: bytes, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (there / ".rave-cp.link").symlink_to(tmp_path / "elsewhere")
    (there / ".rave-cp.file").touch()
    assert received(there, sent) == (0, "")
    assert sorted(stages(there)) == [".rave-cp.file", ".rave-cp.link"]
    assert (tmp_path / "elsewhere").is_dir()
