"""The real apt and a full disk: what a user's host does to the closure and to a build."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from rave_cli.errors import ExitCode, RaveError
from rave_cli.images import closure, locking
from rave_cli.images.build import ImagePlace, build_image
from tests.integration.images.conftest import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rave_cli.images.manifest import Image
    from rave_cli.images.nix import Nix
    from rave_cli.profiles.catalog import Plan

    Built = tuple[Image, Nix, str]

pytestmark = pytest.mark.integration

NOBODY = 65534
# The cache of the user who runs the tests; `built` has filled it.
POOL = closure.pool()

# Python itself may lie where nobody cannot look, so everything is imported first.
ASK_APT = """
import os, subprocess, sys, tempfile
from pathlib import Path
from rave_cli.images import archives
from rave_cli.images.apt import Apt
from rave_cli.images.closure import Supply
from rave_cli.images.lock import PackageRequest
request = PackageRequest.model_validate_json(sys.argv[2])
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
apt = Supply(Path(sys.argv[3]), archives.Sources()).apt(request)
apt.update()
found = apt.select(["hostname"])
departed = apt.download([(s.name, s.version) for s in found], Path(sys.argv[1]), lambda event: None)
assert not departed
assert apt.download([("hostname", "0")], Path(sys.argv[1]), lambda event: None) == ("hostname",)
"""


@pytest.fixture
def nobodys() -> Iterator[Path]:
    """A directory that nobody reaches: pytest's own are closed again by the next pytest."""
    with tempfile.TemporaryDirectory(prefix="rave nobody-", dir="/tmp") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.mark.skipif(os.getuid() != 0, reason="becoming nobody takes root")
def test_apt_serves_an_unprivileged_user_and_leaves_the_host_alone(nobodys: Path) -> None:
    before = _host_state()
    request = locking.choose(ROOT, "demo", locked=True).lock.requested
    os.chown(nobodys, NOBODY, NOBODY)
    keys = shutil.copytree(ROOT / "infra/debian/keys", nobodys / "keys")
    done = subprocess.run(
        [sys.executable, "-c", ASK_APT, nobodys, request.model_dump_json(), keys],
        capture_output=True, text=True, check=False,
        env={"HOME": str(nobodys), "PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert list(nobodys.glob("hostname_*.deb"))
    assert _host_state() == before


def _host_state() -> list[tuple[str, float]]:
    """Return the names and times of what the host's apt keeps."""
    places = (Path("/var/lib/apt/lists"), Path("/var/cache/apt"), Path("/var/lib/dpkg/status"))
    return [(str(place), place.stat().st_mtime) for place in places]


@pytest.mark.skipif(os.getuid() != 0, reason="a small file system is mounted by root")
def test_a_full_disk_is_named_and_nothing_is_left(
    built: Built, plan: Plan, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = ImagePlace(plan.attr).scratch.parent
    scratch.mkdir(parents=True)
    monkeypatch.setattr(closure, "pool", lambda: POOL)
    flake = shutil.copytree(built[2].partition("#")[0], tmp_path / "flake", symlinks=True)
    with (flake / "src/rave_guest/__init__.py").open("a") as stream:
        stream.write("# makes it an image that nobody has built\n")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=50m", "tmpfs", scratch], check=True)
    try:
        with pytest.raises(RaveError, match="no space left") as caught:
            build_image(plan, flake=flake, mode="safe")
        assert not list(scratch.iterdir())
    finally:
        subprocess.run(["umount", scratch], check=True)
    assert caught.value.exit_code == ExitCode.HOST
    assert not ImagePlace(plan.attr).out_link.exists()
    assert not ImagePlace(plan.attr).manifest.exists()


def test_the_lock_of_each_profile_is_read_and_names_no_source() -> None:
    for place in sorted((ROOT / "infra/debian/locks").glob("*.json")):
        chosen = locking.choose(ROOT, place.stem, locked=True)
        assert {p.role for p in chosen.lock.packages} == {"essential", "guest", "kernel", "tool"}
        assert "://" not in place.read_text()
