"""The lists of host packages: whatever rave and its tests run is in one, and the doctor knows."""

from __future__ import annotations

import ast
import os
import shutil
import stat
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from rave_cli import doctor, process

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
LISTS = ROOT / "infra/host"

# Functions whose argument is the name of a program, and those that start an argv.
ASKED = {"require", "which", "process.find"}
STARTED = {
    "run", "Popen", "check_call", "check_output", "spawn", "detach", "start", "foreground",
    "become", "_run",
}  # fmt: skip

# Of Debian's essential packages, of apt, or what a checkout cannot be had and used without.
BASIC = {
    "apt-cache", "apt-get", "base64", "bash", "cat", "chroot", "cp", "date", "dpkg", "dpkg-deb",
    "echo",
    "env", "git", "id", "make", "mount", "nice", "printf",
    "setpriv", "setsid", "sh", "sleep", "tar", "true",
    "umount", "unshare", "yes",
}  # fmt: skip
# Run in the guest, or brought by pip.
ELSEWHERE = {"depmod", "journalctl", "rclone", "sops"}
# Used where they are there: caps; a test that needs nixpkgs; a lock with tarballs of npm; backups,
# and their timer.
OPTIONAL = {"systemctl", "systemd-run", "systemd-analyze", "npm", "restic"}

SOURCES = sorted(
    path
    for top in ("src/rave_cli", "infra/debian/builders", "tests", "benchmarks", "docs")
    for path in (ROOT / top).rglob("*.py")
)


def listed(name: str) -> dict[str, str]:
    return process.read_packages((LISTS / name).read_text())


def programs(path: Path) -> Iterator[tuple[str, int]]:
    """Yield each program that a module starts or asks for, with its line."""
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Call) or not node.args:
            continue
        name, first = ast.unparse(node.func), node.args[0]
        begins = first.elts[:1] if isinstance(first, ast.List | ast.Tuple) else []
        if {name, name.rpartition(".")[2]} & ASKED:
            begins = [first]
        elif name.rpartition(".")[2] not in STARTED:
            continue
        for word in begins:
            if isinstance(word, ast.Constant) and "/" not in str(word.value):
                yield str(word.value), node.lineno


def test_every_program_that_is_run_has_a_package_in_a_list() -> None:
    known = BASIC | ELSEWHERE | OPTIONAL
    known |= {*listed("debian-packages"), *listed("test-packages")}
    unknown = [
        f"{path.relative_to(ROOT)}:{line}: {program}"
        for path in SOURCES
        for program, line in programs(path)
        if program not in known
    ]
    assert unknown == []


def test_what_rave_itself_runs_is_not_only_in_the_tests_list() -> None:
    known = BASIC | ELSEWHERE | OPTIONAL | {*listed("debian-packages")}
    sources = [path for path in SOURCES if "tests" not in path.relative_to(ROOT).parts]
    assert {p for path in sources for p, _ in programs(path)} <= known


def test_the_hints_and_the_installer_name_the_same_packages() -> None:
    assert listed("debian-packages") == process.APT_PACKAGE


def test_the_doctor_knows_what_the_tests_need(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(
        process, "find", lambda tool: None if tool == "age-keygen" else f"/bin/{tool}"
    )
    (found,) = doctor.examine(["test-packages"])
    assert found.status == "warn"
    assert "age-keygen" in found.detail
    assert found.fix[-1] == "age"


def test_outside_a_checkout_the_doctor_asks_for_no_test_packages(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    (found,) = doctor.examine(["test-packages"])
    assert (found.status, found.fix) == ("skip", ())


@pytest.fixture
def host(tmp_path: Path) -> Path:
    """A host whose apt-get only says what it was asked, where everybody has root's rights."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, text in {
        "apt-get": 'echo "apt-get $*" >&2',
        "sudo": "exit 1",
        "id": "echo 0",
    }.items():
        (folder / name).write_text(f"#!/bin/sh\n{text}\n")
        (folder / name).chmod(0o755)
    return folder


def install(
    host: Path, tmp_path: Path, listing: str, path: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run a copy of the installer with a list of its own."""
    place = tmp_path / "host"
    place.mkdir()
    script = place / "install-packages"
    script.write_bytes((LISTS / "install-packages").read_bytes())
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    (place / "mine").write_text(listing)
    return subprocess.run(
        ["/bin/sh", script, "mine"], capture_output=True, text=True, check=False,
        env={"PATH": path or f"{host}:{os.environ['PATH']}"},
    )  # fmt: skip


LISTING = (
    "# a list\nno-such-tool  brings-it\nnor-this  brings-it\n/no/such/header.h  headers\nsh  dash\n"
)


def test_the_installer_installs_what_is_missing_once(host: Path, tmp_path: Path) -> None:
    done = install(host, tmp_path, LISTING)
    assert done.returncode == 0, done.stderr
    assert "installing host packages: brings-it headers\n" in done.stderr


def test_without_rights_the_installer_prints_the_one_command(host: Path, tmp_path: Path) -> None:
    (host / "id").write_text("#!/bin/sh\necho 1000\n")
    done = install(host, tmp_path, LISTING)
    assert done.returncode == 3
    hint = done.stderr.splitlines()[-1]
    assert hint == (
        "hint: sudo apt-get update && sudo apt-get install --yes --no-install-recommends"
        " brings-it headers"
    )


def test_on_another_system_the_installer_says_what_rave_runs_on(host: Path, tmp_path: Path) -> None:
    (host / "uname").write_text("#!/bin/sh\necho Darwin arm64\n")
    (host / "uname").chmod(0o755)
    done = install(host, tmp_path, LISTING)
    assert done.returncode == 3
    assert done.stderr.startswith("error: rave builds and runs x86_64 machines on Linux")


def test_without_apt_the_installer_names_what_is_missing(host: Path, tmp_path: Path) -> None:
    for tool in ("sh", "dirname", "uname", "sort"):
        (host / tool).symlink_to(shutil.which(tool) or "")
    (host / "apt-get").rename(host / "python3")
    done = install(host, tmp_path, LISTING, path=str(host))
    assert done.returncode == 3
    assert "which has no apt: brings-it headers (Debian's package names)" in done.stderr


def test_the_installer_is_silent_where_nothing_is_missing(host: Path, tmp_path: Path) -> None:
    done = install(host, tmp_path, "sh  dash\n/etc/passwd  base-passwd\n")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
