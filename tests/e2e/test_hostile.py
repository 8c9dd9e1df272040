"""What a real guest may write and do, and from what odd places and terminals rave may be called
beside it.
"""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from rave_cli.machines.qemu.logs import MOST_CONSOLE, MOST_STAGES
from tests.e2e.conftest import qemu_processes
from tests.terminal import Terminal
from tests.waiting import CEILING, until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.conftest import Site

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

PORT = "/dev/virtio-ports/org.rave.ready"
# Clears the screen, sets the title, C1 bytes, and a line that looks like one of rave's.
HOSTILE = r"\033]0;owned\007\033[2J\302\233\r\nerror: forged\n"
# Far more than is kept of either.
FLOOD = 4 * MOST_CONSOLE
# Many times what is under way at once. 300 MB pass in tests/unit/machines/test_exec.py.
MUCH = 16 << 20
LEAST_MEMORY = 400 << 20


def limit() -> None:
    """Bound the memory of what is started to what rave needs."""
    resource.setrlimit(resource.RLIMIT_DATA, (LEAST_MEMORY, LEAST_MEMORY))


def bounded(site: Site, *words: str) -> subprocess.CompletedProcess[bytes]:
    """Run rave with little memory."""
    return subprocess.run(
        [site.rave_path, *words], cwd=site.checkout, env=site.env, capture_output=True,
        check=False, timeout=CEILING, preexec_fn=limit,
    )  # fmt: skip


def inside(site: Site, script: str) -> str:
    """Run a script as root in the guest."""
    return site.rave("vm", "exec", "--sudo", "demo", "--", "sh", "-c", script).stdout


def gone(site: Site, mark: str) -> bool:
    """Whether no process in the guest sleeps for `mark` seconds."""
    return not inside(site, f"pgrep -x -f 'sleep {mark}' || true").strip()


def harmless(said: str) -> bool:
    """Whether a text does nothing to a terminal but being shown."""
    return not [c for c in said if unicodedata.category(c) == "Cc" and c not in "\n\t"]


# --- commands in the guest -----------------------------------------------------------------------


def test_a_command_whose_time_is_over_ends_in_the_guest_with_its_children(site: Site) -> None:
    script = "echo begun; sleep 98761 & sleep 98762"
    done = site.rave("vm", "exec", "demo", "--timeout", "5", "--", "sh", "-c", script, check=False)
    assert (done.returncode, done.stdout) == (5, "begun\n")
    until(lambda: gone(site, "98761") and gone(site, "98762"))


def test_ctrl_c_ends_a_command_in_the_guest_and_what_came_is_kept(site: Site) -> None:
    argv = [site.rave_path, "vm", "exec", "demo", "--", "sh", "-c", "echo begun; sleep 98763"]
    with Terminal(argv, env=site.env) as terminal:
        terminal.until("begun")
        terminal.type("\x03")
        assert terminal.end() == 128 + signal.SIGINT
    until(lambda: gone(site, "98763"))


def test_much_output_passes_through_little_memory(site: Site) -> None:
    argv = [site.rave_path, "vm", "exec", "demo", "--", "head", "-c", str(MUCH), "/dev/zero"]
    with subprocess.Popen(
        argv,
        cwd=site.checkout,
        env=site.env,
        stdout=subprocess.PIPE,
        preexec_fn=limit,  # noqa: PLW1509
    ) as rave:
        assert rave.stdout is not None
        passed = 0
        while data := rave.stdout.read(1 << 20):
            passed += len(data)
        assert rave.wait(CEILING) == 0
    assert passed == MUCH


# --- bytes and floods ----------------------------------------------------------------------------


@pytest.fixture
def silenced(site: Site) -> Iterator[Site]:
    """The machine without its reporter, which has the stage port to itself."""
    inside(site, "systemctl stop rave-ready")
    yield site
    inside(site, "systemctl start rave-ready")
    site.rave("vm", "wait", "demo", "--for", "running", "--timeout", "120")


def test_what_a_guest_writes_is_bounded_on_the_host_counted_and_shown_as_text(
    silenced: Site,
) -> None:
    place = silenced.home / ".local/share/rave/vms/demo"
    (runtime,) = Path(silenced.env["XDG_RUNTIME_DIR"]).glob("rave/demo.*")
    inside(
        silenced,
        f"(printf '{HOSTILE}'; head -c {FLOOD} /dev/zero | tr '\\0' x; printf '\\n{HOSTILE}')"
        f" >{PORT}; (printf '{HOSTILE}'; head -c 100000 /dev/zero | tr '\\0' y;"
        f" printf '\\n{HOSTILE}') >/dev/console",
    )
    assert 0 < sum(file.stat().st_size for file in place.glob("console.log*")) <= 2 * MOST_CONSOLE
    held = sum(file.stat().st_size for file in runtime.iterdir() if file.is_file())
    assert held <= 3 * MOST_STAGES
    shown = bounded(silenced, "vm", "logs", "demo", "--source", "stages")
    assert b"dropped" in shown.stdout + shown.stderr
    for words in (
        ("status", "demo"), ("list",), ("logs", "demo"), ("logs", "demo", "--source", "stages"),
        ("status", "demo", "--json"), ("watch", "demo", "--timeout", "0"),
    ):  # fmt: skip
        done = bounded(silenced, "vm", *words)
        said = done.stdout.decode() + done.stderr.decode()
        assert harmless(said), words
        assert "Traceback" not in said
        assert "error: forged" not in done.stderr.decode().splitlines()


def test_names_and_journals_of_the_guest_are_shown_as_text(site: Site) -> None:
    name = r"$(printf '/tmp/\033[2Jx')"
    inside(site, f"printf '{HOSTILE}' | systemd-cat -t evil; : >\"{name}\"")
    for words in (
        ("logs", "demo", "--unit", "nginx", "--since", "1 hour ago"),
        ("logs", "demo", "--source", "journal"),
        ("cp", "demo:/tmp/\x1b[2Jx", "/proc/nowhere/x"),
        ("cp", "demo:/tmp/\x1b[2Jy", "/tmp/x"),
    ):
        done = bounded(site, "vm", *words)
        assert harmless(done.stdout.decode() + done.stderr.decode()), (words, done)
        assert b"Traceback" not in done.stderr


# --- odd places and terminals --------------------------------------------------------------------


@pytest.mark.parametrize(
    "odd",
    ["{} >&-", "{} 2>&-", "{} >/dev/full", "{} 2>/dev/full", "COLUMNS=20 {}",
     "cd gone && rmdir ../gone && {}"],
)  # fmt: skip
def test_odd_streams_and_places_are_no_reason_for_a_traceback(
    site: Site, tmp_path: Path, odd: str
) -> None:
    for verb in ("vm status demo", "vm exec demo -- echo word"):
        (tmp_path / "gone").mkdir(exist_ok=True)
        done = subprocess.run(
            ["/bin/sh", "-c", odd.format(f"'{site.rave_path}' {verb}")], cwd=tmp_path,
            env=site.env, capture_output=True, check=False, timeout=CEILING,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert b"Traceback" not in done.stderr + done.stdout
        assert (done.returncode == 0) == (odd != "{} >/dev/full"), (verb, done)


def test_arguments_that_are_not_utf_8_are_answered_and_reach_the_guest_as_they_are(
    site: Site,
) -> None:
    odd = os.fsdecode(b"\xff\x9b31m")
    done = bounded(site, "vm", "exec", "demo", "--", "printf", "%s", odd)
    assert (done.returncode, done.stdout) == (0, b"\xff\x9b31m")
    done = bounded(site, "vm", "status", odd)
    assert done.returncode == 2
    assert harmless(done.stderr.decode())


def test_a_terminal_that_is_closed_while_secrets_are_installed_leaves_the_machine_running(
    site: Site,
) -> None:
    argv = [site.rave_path, "secrets", "install", "demo"]
    with Terminal(argv, env=site.env, cwd=site.checkout) as terminal:
        terminal.until("Installing secrets")
        terminal.close()
        assert terminal.end() in (0, 128 + signal.SIGHUP)
    assert site.json("vm", "status", "demo")["state"] == "running"
    assert len(qemu_processes(site)) == 1
    # Nothing is half done that the next does not complete.
    assert site.json("secrets", "install", "demo")["proofs"]
