"""What a real guest may write and do, and what odd places rave may be called from beside it."""

from __future__ import annotations

import os
import resource
import subprocess
import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from rave_cli.machines.qemu.logs import MOST_CONSOLE, MOST_STAGES
from tests.terminal import Terminal
from tests.waiting import CEILING, until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.conftest import Site

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

PORT = "/dev/virtio-ports/org.rave.ready"
HOSTILE = r"\033]0;owned\007\033[2J\302\233\r\nerror: forged\n"
# More than rave ever kept in memory of what a command printed.
MUCH = 70 << 20
LEAST_MEMORY = 400 << 20


def limit() -> None:
    """Bound the memory of what is started: more than rave needs, less than MUCH and rave."""
    resource.setrlimit(resource.RLIMIT_DATA, (LEAST_MEMORY, LEAST_MEMORY))


def inside(site: Site, *words: str) -> str:
    """Run a command as root in the guest."""
    return site.rave("vm", "exec", "--sudo", "demo", "--", *words).stdout


def gone(site: Site, mark: str) -> bool:
    """Whether no process in the guest sleeps for `mark` seconds."""
    return not inside(site, "sh", "-c", f"pgrep -x -f 'sleep {mark}' || true").strip()


def harmless(said: str) -> bool:
    """Whether a text does nothing to a terminal but being shown."""
    return not [c for c in said if unicodedata.category(c) == "Cc" and c not in "\n\t"]


def test_a_command_whose_time_is_over_ends_in_the_guest_with_its_children(site: Site) -> None:
    script = "echo begun; sleep 98761 & sleep 98762"
    done = site.rave("vm", "exec", "demo", "--timeout", "10", "--", "sh", "-c", script, check=False)
    assert (done.returncode, done.stdout) == (5, "begun\n")
    until(lambda: gone(site, "98761") and gone(site, "98762"))


def test_ctrl_c_ends_a_command_in_the_guest(site: Site) -> None:
    argv = [site.rave_path, "vm", "exec", "demo", "--", "sh", "-c", "echo begun; sleep 98763"]
    with Terminal(argv, env=site.env) as terminal:
        terminal.until("begun")
        terminal.type("\x03")
        assert terminal.end() == 130
    until(lambda: gone(site, "98763"))


def test_much_output_passes_through_little_memory(site: Site) -> None:
    argv = [site.rave_path, "vm", "exec", "demo", "--", "head", "-c", str(MUCH), "/dev/zero"]
    with subprocess.Popen(
        argv, cwd=site.checkout, env=site.env, stdout=subprocess.PIPE, preexec_fn=limit  # noqa: PLW1509
    ) as rave:  # fmt: skip
        assert rave.stdout is not None
        passed = 0
        while data := rave.stdout.read(1 << 20):
            passed += len(data)
        assert rave.wait(CEILING) == 0
    assert passed == MUCH


@pytest.fixture
def silenced(site: Site) -> Iterator[Site]:
    """The machine without its reporter, which has the stage port to itself."""
    inside(site, "systemctl", "stop", "rave-ready")
    yield site
    inside(site, "systemctl", "start", "rave-ready")
    until(lambda: site.json("vm", "status", "demo")["state"] == "running", pause=0.5)


def test_what_a_guest_writes_is_bounded_on_the_host_and_shown_as_text(silenced: Site) -> None:
    place = silenced.home / ".local/share/rave/vms/demo"
    flood = f"(printf '{HOSTILE}'; head -c 9000000 /dev/zero | tr '\\0' x; printf '\\n{HOSTILE}')"
    inside(silenced, "sh", "-c", f"{flood} >{PORT}")
    inside(silenced, "sh", "-c", f"{flood} >/dev/ttyS0")
    held = sum(path.stat().st_size for path in place.glob("console.log*"))
    assert 0 < held <= 2 * MOST_CONSOLE
    for runtime in Path(silenced.env["XDG_RUNTIME_DIR"]).glob("rave/demo*"):
        assert sum(p.stat().st_size for p in runtime.glob("*") if p.is_file()) <= 3 * MOST_STAGES
    for words in (
        ("status", "demo"), ("list",), ("logs", "demo"), ("logs", "demo", "--source", "stages"),
        ("status", "demo", "--json"),
    ):  # fmt: skip
        done = subprocess.run(
            [silenced.rave_path, "vm", *words], cwd=silenced.checkout, env=silenced.env,
            capture_output=True, check=False, timeout=CEILING, preexec_fn=limit,
        )  # fmt: skip
        assert harmless(done.stdout.decode() + done.stderr.decode()), words
        assert b"Traceback" not in done.stderr


@pytest.mark.parametrize(
    "odd",
    [
        "{} >&-",
        "{} 2>&-",
        "{} >/dev/full",
        "COLUMNS=20 {}",
        "cd gone && rmdir ../gone && {}",
    ],
)
@pytest.mark.parametrize("verb", ["vm status demo", "vm list", "vm exec demo -- true"])
def test_odd_streams_and_places_are_no_reason_for_a_traceback(
    site: Site, tmp_path: Path, odd: str, verb: str
) -> None:
    (tmp_path / "gone").mkdir()
    done = subprocess.run(
        ["/bin/sh", "-c", odd.format(f"'{site.rave_path}' {verb}")], cwd=tmp_path, env=site.env,
        capture_output=True, check=False, timeout=CEILING, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert b"Traceback" not in done.stderr + done.stdout
    full = "/dev/full" in odd and "exec" not in verb
    assert (done.returncode == 0) != full, done.stderr
    assert os.path.lexists(site.home / ".local/share/rave/vms/demo")
