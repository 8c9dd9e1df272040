"""The only door to subprocesses."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
from typing import TYPE_CHECKING

import pytest

from rave_cli import process
from rave_cli.errors import ExitCode, RaveError
from tests.waiting import CEILING, until

if TYPE_CHECKING:
    from pathlib import Path


def test_output_and_status_come_back() -> None:
    done = process.run(["sh", "-c", "cat; echo oops >&2; exit 3"], stdin=b"hello", timeout=CEILING)
    assert (done.returncode, done.stdout, done.stderr) == (3, b"hello", b"oops\n")
    assert not done.ok
    assert done.tail() == ("oops",)


def test_a_missing_tool_names_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(RaveError) as caught:
        process.run(["qemu-img", "info"], timeout=1)
    assert caught.value.exit_code == ExitCode.HOST
    assert "qemu-img is not on PATH" in caught.value.message
    assert "qemu-utils" in (caught.value.hint or "")


def test_a_program_that_cannot_start_is_a_fault_not_a_traceback() -> None:
    with pytest.raises(RaveError) as caught:
        process.run(["/etc/hostname"], timeout=1)
    assert "cannot be started" in caught.value.message


def test_a_deadline_kills_the_whole_group() -> None:
    mark = f"9{os.getpid()}.5"
    with pytest.raises(RaveError, match=r"did not finish within 0\.3 s"):
        process.run(["sh", "-c", f"sleep {mark} & wait"], timeout=0.3)
    # What is killed may have yet to be given a processor to end on.
    listing = ["pgrep", "-f", f"sleep {mark}"]
    until(lambda: not subprocess.run(listing, capture_output=True, check=False).stdout)


def test_a_child_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    script = f"trap '' TERM; : > {ready}; while :; do sleep 0.1; done"
    child = process.start(["sh", "-c", script])
    until(ready.exists)
    process.kill_group(child, grace=0.2)
    assert child.returncode == -signal.SIGKILL


def test_the_environment_is_chosen_not_inherited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "hunter2")
    done = process.run(["env"], env={"EXTRA": "1"}, timeout=CEILING)
    assert "SECRET_TOKEN" not in done.text
    assert "EXTRA=1" in done.text
    assert f"PATH={os.environ['PATH']}" in done.text


def test_a_relative_xdg_directory_reaches_no_child(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"RUNTIME_DIR": "run", "CACHE_HOME": "", "DATA_HOME": "/data"}.items():
        monkeypatch.setenv(f"XDG_{name}", value)
    given = process.environment({"XDG_CONFIG_HOME": "as it is"})
    assert {name: value for name, value in given.items() if name.startswith("XDG_")} == {
        "XDG_DATA_HOME": "/data",
        "XDG_CONFIG_HOME": "as it is",
    }


def test_standard_input_is_never_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, logger="rave"):
        process.run(["cat"], stdin=b"hunter2", timeout=CEILING)
    assert "run: cat" in caplog.text
    assert "hunter2" not in caplog.text


def test_leaving_spawn_ends_the_child() -> None:
    with process.spawn(["sleep", "60"]) as child:
        assert child.poll() is None
    assert child.returncode == -signal.SIGTERM


@pytest.mark.parametrize("name", ["http_proxy", "https_proxy", "all_proxy", "no_proxy"])
@pytest.mark.parametrize("upper", [False, True])
def test_what_reaches_the_network_is_told_the_proxy(
    monkeypatch: pytest.MonkeyPatch, name: str, upper: bool
) -> None:
    """curl, and with it Nix, knows all of them; apt and pip know most."""
    spelt = name.upper() if upper else name
    monkeypatch.setenv(spelt, "socks5://127.0.0.1:1080")
    assert process.environment()[spelt] == "socks5://127.0.0.1:1080"


@pytest.mark.parametrize("name", ["SSL_CERT_FILE", "SSL_CERT_DIR", "NIX_SSL_CERT_FILE"])
def test_what_reaches_the_network_is_told_the_certificates(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "/etc/ssl/own")
    assert process.environment()[name] == "/etc/ssl/own"
