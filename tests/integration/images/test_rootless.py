"""A build by somebody who is not root, with the real Nix, kernel and newuidmap."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(os.getuid() != 0, reason="becoming nobody takes root"),
]

NOBODY = 65534

# Leaves a directory of another id behind, as an interrupted builder does.
FLAKE = """{ outputs = _: { packages.x86_64-linux.default = derivation {
  name = "probe"; system = "x86_64-linux"; builder = "/bin/sh";
  args = [ "-ec" "PATH=/usr/bin:/bin; mkdir -p left/by; chown -R 114:114 left; chmod 0700 left
    mkdir $out; stat -c %u left >$out/owner" ];
}; }; }"""

# Python itself may lie where nobody cannot look, so everything is imported first.
BUILD = """
import os, subprocess, sys
from pathlib import Path
from rave_cli import nixstore
from rave_cli.errors import RaveError
from rave_cli.images import nix, rootless
from rave_cli import signals, streams
os.setgroups([]); os.setgid(65534); os.setuid(65534)
home = Path(os.environ["HOME"])
try:
    rootless.require()
except RaveError as error:
    sys.exit(f"{error.message}\\n{error.hint}")
driver, scratch = nix.Nix("debian", "safe"), home / "scratch"
leave = f"mkdir -p {scratch}/old/er; chown -R 7:7 {scratch}/old"
subprocess.run([*rootless.enter(), "sh", "-c", leave], check=True)
driver.build(f"path:{home}/flake", home / "link", print, scratch=scratch)
assert not scratch.exists()
found = driver.output(str((home / "link").readlink()))
assert found.nar_hash and Path(found.path).is_relative_to(nixstore.directory()), found
print((home / "link/owner").read_text(), (home / "link/owner").stat().st_uid)
"""


@pytest.fixture
def home() -> Iterator[Path]:
    """A home of nobody's, with a flake; pytest's own directories are closed to others."""
    with tempfile.TemporaryDirectory(prefix="rave-nobody-", dir="/tmp") as name:
        place = Path(name)
        (place / "flake").mkdir()
        (place / "flake/flake.nix").write_text(FLAKE)
        for path in (place, *place.rglob("*")):
            os.chown(path, NOBODY, NOBODY)
        yield place


def build(home: Path, ids: str) -> subprocess.CompletedProcess[str]:
    """Build as nobody, on a host that gives its users the ids of `ids`."""
    (home / "ids").write_text(ids)
    script = 'for f in /etc/subuid /etc/subgid; do mount --bind $1/ids $f; done; shift; exec "$@"'
    return subprocess.run(
        ["unshare", "--mount", "--propagation", "private", "sh", "-ec", script, "sh", home,
         sys.executable, "-c", BUILD],
        capture_output=True, text=True, check=False, timeout=120,
        env={"HOME": str(home), "PATH": os.environ["PATH"], "USER": "nobody"},
    )  # fmt: skip


@pytest.fixture(autouse=True)
def ids() -> None:
    """Every Debian has the two files; an older system without accounts may lack them."""
    for name in ("subuid", "subgid"):
        Path("/etc", name).touch()


@pytest.mark.skipif(
    "NoNewPrivs:\t1" in Path("/proc/self/status").read_text(),
    reason="no program gains rights here (no_new_privs, as in a bubblewrap), so not newuidmap",
)
def test_a_user_builds_as_root_of_a_namespace_and_nothing_is_left(home: Path) -> None:
    assert shutil.which("newuidmap")
    done = build(home, "nobody:100000:65536\n")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-2:] == ["114", str(NOBODY)]


def test_a_user_without_ids_is_told_how_to_get_some(home: Path) -> None:
    done = build(home, "somebody-else:100000:65536\n")
    assert done.returncode == 1
    assert "/etc/subuid or /etc/subgid gives this user no ids" in done.stderr
    assert "sudo usermod --add-subuids" in done.stderr
