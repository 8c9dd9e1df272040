"""Locked packages from a real HTTP server, on a host that has no apt."""

from __future__ import annotations

import http.server
import lzma
import shutil
import threading
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import pytest

from rave_cli import process
from rave_cli.errors import ExitCode, RaveError
from rave_cli.images import closure, mirror
from rave_cli.images.archives import Sources
from rave_cli.images.closure import DepartedError, Supply
from rave_cli.images.events import ignore
from rave_cli.images.lock import Archive, Lock, PackageRequest
from tests.integration.images.repository import WORLD, Repository, signer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.integration

OLD = dict.fromkeys(WORLD, "1:1.0")
NEW = dict.fromkeys(WORLD, "1:1.1")


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves files without telling."""

    def log_message(self, *_words: object) -> None:
        """Say nothing."""


@pytest.fixture
def served(tmp_path: Path) -> Iterator[str]:
    """The address under which tmp_path is served."""
    handler = partial(Quiet, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def main(tmp_path: Path) -> Iterator[Repository]:
    with signer("An archive key") as key:
        archive = Repository(tmp_path / "debian", key)
        archive.publish("bookworm", OLD)
        yield archive


@pytest.fixture
def supply(served: str, main: Repository, tmp_path: Path) -> Supply:
    (tmp_path / "keys").mkdir()
    main.signer.export(tmp_path / "keys/archive.asc")
    return Supply(tmp_path / "keys", Sources(mirror=f"{served}/debian"))


@pytest.fixture
def locked(home: Path, main: Repository, supply: Supply, monkeypatch: pytest.MonkeyPatch) -> Lock:
    """A lock that apt made; now nothing is in the cache and apt is gone."""
    archive = Archive(name="debian", suites=("bookworm",), keys=(main.signer.fingerprint,))
    request = PackageRequest(
        archives=(archive,),
        guest=("nginx-light",),
        kernel="linux-image-cloud-amd64",
        tools=("tcc",),
    )
    lock = closure.resolve(request, supply, ignore)
    shutil.rmtree(closure.pool())
    found = process.find
    monkeypatch.setattr(process, "find", lambda tool: None if tool == "apt-get" else found(tool))
    return lock


def test_without_apt_the_locked_files_are_fetched_and_compared(
    locked: Lock, supply: Supply
) -> None:
    names = [path.name for path in closure.fetch(locked, supply, ignore)]
    assert "nginx-light_1-1.0_amd64.deb" in names
    assert len(names) == len(locked.packages) + len(locked.files)


def test_a_mirror_that_serves_other_content_is_refused(
    locked: Lock, supply: Supply, main: Repository
) -> None:
    """Its list is not signed by anybody; the lock alone counts."""
    (deb,) = (main.place / "pool").glob("nginx-light_*.deb")
    deb.write_bytes(deb.read_bytes() + b"and more")
    with pytest.raises(RaveError, match="is not the locked file") as caught:
        closure.fetch(locked, supply, ignore)
    assert caught.value.exit_code == ExitCode.BUILD
    assert not list(closure.pool().glob("nginx-light*"))


def test_what_has_left_the_mirror_is_named_and_a_dated_archive_has_it(
    locked: Lock, supply: Supply, main: Repository, tmp_path: Path, served: str
) -> None:
    main.copy(tmp_path / "dated/debian" / locked.resolved)
    main.publish("bookworm", NEW)
    with pytest.raises(DepartedError) as caught:
        closure.fetch(locked, supply, ignore)
    assert "nginx-light" in caught.value.names
    dated = replace(supply.sources, snapshot=f"{served}/dated")
    closure.fetch(locked, replace(supply, sources=dated), ignore)


def test_a_mirror_out_of_reach_is_the_hosts_fault(
    locked: Lock, supply: Supply, main: Repository
) -> None:
    shutil.rmtree(main.place / "dists")
    with pytest.raises(RaveError, match=r"Packages\.xz could not be fetched: .*404") as caught:
        closure.fetch(locked, supply, ignore)
    assert caught.value.exit_code == ExitCode.HOST
    assert "RAVE_DEBIAN_MIRROR" in (caught.value.hint or "")


def test_a_list_that_is_cut_off_is_the_hosts_fault(
    locked: Lock, supply: Supply, main: Repository
) -> None:
    place = main.place / "dists/bookworm/main/binary-amd64/Packages.xz"
    place.write_bytes(place.read_bytes()[:100])
    with pytest.raises(RaveError, match="could not be fetched") as caught:
        closure.fetch(locked, supply, ignore)
    assert caught.value.exit_code == ExitCode.HOST


@pytest.mark.parametrize("most", [16, 1000])
def test_what_would_fill_the_memory_is_the_hosts_fault(
    locked: Lock, supply: Supply, main: Repository, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = main.place / "dists/bookworm/main/binary-amd64/Packages.xz"
    place.write_bytes(lzma.compress(bytes(100_000)))
    monkeypatch.setattr(mirror, "MOST", most)
    with pytest.raises(RaveError, match="longer than") as caught:
        closure.fetch(locked, supply, ignore)
    assert caught.value.exit_code == ExitCode.HOST


def test_a_mirror_in_a_directory_serves_as_well(
    locked: Lock, supply: Supply, main: Repository
) -> None:
    local = replace(supply, sources=Sources(mirror=main.uri))
    assert closure.fetch(locked, local, ignore)
    shutil.rmtree(closure.pool())
    odd = replace(supply, sources=Sources(mirror="ftp://mirror.example/debian"))
    with pytest.raises(RaveError, match="only http, https and file"):
        closure.fetch(locked, odd, ignore)
