"""Both sides of the door: the host's module against the guest's real program, as a process."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from rave_cli.machines.guest import door
from rave_cli.machines.guest.door import Door, VerbRefusedError
from rave_cli.process import Completed
from rave_guest.door import MAX_REQUEST, VERBS
from tests.waiting import CEILING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

ROOT = Path(__file__).resolve().parents[3]

pytestmark = pytest.mark.integration


class Guest:
    """Runs the guest's program here, as a machine would with its own Python."""

    def __init__(self, place: Path) -> None:
        self.program = str(shutil.copy(ROOT / "infra/guest/rave-guest", place))
        (place / "rave_guest").symlink_to(ROOT / "src/rave_guest")

    def run(
        self, argv: Sequence[str], *, stdin: bytes = b"", timeout: float, sudo: bool = False,
        on_error: Callable[[bytes], None] = lambda _: None,
    ) -> Completed:  # fmt: skip
        assert argv[0] == "/usr/lib/rave/rave-guest"
        # -B: the checkout is not the guest's, whose code is compiled when its image is built.
        words = [sys.executable, "-ISB", self.program, *argv[1:]]
        done = subprocess.run(words, input=stdin, capture_output=True, timeout=timeout, check=False)
        on_error(done.stderr)
        return Completed(tuple(words), done.returncode, done.stdout, done.stderr)


@pytest.fixture
def guest(tmp_path: Path) -> Guest:
    return Guest(tmp_path)


@pytest.fixture
def into(guest: Guest) -> Door:
    return Door(guest, "m", door.VERSION)


def check(id_: str, kind: str, *needs: str) -> dict[str, Any]:
    return {
        "id": id_, "kind": kind, "timeout": 20.0, "retry_for": 0.0, "needs": list(needs),
        "arguments": {},
    }  # fmt: skip


def test_a_batch_is_answered(into: Door) -> None:
    checks = [check("a", "kernel"), check("b", "sysctl", "a")]
    answer = into.call("probe", {"checks": checks}, timeout=CEILING)
    assert [result["id"] for result in answer["results"]] == ["a", "b"]
    assert set(answer["results"][0]) == {
        "id", "status", "detail", "data", "seconds", "attempts",
    }  # fmt: skip
    assert answer["facts"]["memory_mib"] > 0
    assert answer["seconds"] > 0


def test_a_batch_that_makes_no_sense_is_refused_not_broken_off(into: Door) -> None:
    with pytest.raises(VerbRefusedError, match=r"refuses probe \(request\): not a batch of checks"):
        into.call("probe", {"checks": [{}]}, timeout=CEILING)


def test_an_installation_that_makes_no_sense_is_refused(into: Door) -> None:
    with pytest.raises(VerbRefusedError) as caught:
        into.call("secrets-install", {"identity": "x", "file": "y"}, timeout=CEILING)
    assert caught.value.stage == "request"
    assert "is not an age secret key" in caught.value.why
    assert caught.value.why.endswith("what was in force before is still in force")


def test_an_unknown_verb_is_refused_with_the_ones_there_are(into: Door) -> None:
    with pytest.raises(VerbRefusedError, match=f"no verb 'dance', only {', '.join(VERBS)}"):
        into.call("dance", {}, timeout=CEILING)


@pytest.mark.parametrize(
    "request_",
    [
        b"",
        b"[]",
        b"not json",
        b'{"v": 1, "checks": []}',
        b'{"v": 3, "verb": "probe", "arguments": {}}',
        b'{"v": 2, "verb": ["probe"], "arguments": {}}',
        b'{"v": 2, "verb": "probe", "arguments": []}',
        b"[" * 100_000,
        b" " * (MAX_REQUEST + 1),
    ],
)
def test_the_guest_refuses_what_is_no_request(guest: Guest, request_: bytes) -> None:
    done = guest.run(door.ARGV, stdin=request_, timeout=CEILING)
    answer = json.loads(done.stdout)
    assert (answer["v"], answer["ok"], answer["stage"]) == (2, False, "request")
    assert done.returncode == 1
    assert done.stderr == b""


def test_both_sides_speak_the_same_version() -> None:
    from rave_guest.door import VERSION

    assert VERSION == door.VERSION


def test_no_thread_that_hangs_holds_the_door_open(guest: Guest, tmp_path: Path) -> None:
    """A verb may leave one behind; the answer is there and the process ends."""
    code = (
        "import sys, threading, time; sys.path.insert(0, sys.argv[1]);"
        " from rave_guest import door;"
        " hang = lambda _: (threading.Thread(target=time.sleep, args=(600,)).start(), {})[1];"
        " door.VERBS['hang'] = hang; sys.exit(door.main([]))"
    )
    done = subprocess.run(
        [sys.executable, "-ISB", "-c", code, str(tmp_path)],
        input=b'{"v": 2, "verb": "hang", "arguments": {}}', capture_output=True, timeout=CEILING,
        check=True,
    )  # fmt: skip
    assert json.loads(done.stdout) == {"v": 2, "ok": True, "answer": {}}


def test_the_program_names_what_it_can_do(guest: Guest) -> None:
    done = guest.run(("/usr/lib/rave/rave-guest", "nonsense"), timeout=CEILING)
    assert done.returncode == 1
    assert b"usage: rave-guest command|door|" in done.stderr
