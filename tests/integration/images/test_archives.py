"""The real apt against archives made for the test: whom it believes, and what a stale lock does.

Nothing here depends on what a mirror offers today: a lock grows stale because the test lets it.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pytest

from rave_cli.errors import ExitCode, RaveError
from rave_cli.images import archives, closure, locking
from rave_cli.images import lock as locks
from rave_cli.images.archives import Sources
from rave_cli.images.closure import DepartedError, Supply
from rave_cli.images.events import BuildEvent, ignore
from rave_cli.images.lock import Archive, Lock, PackageRequest
from tests.integration.images.repository import KERNEL, WORLD, Repository, Signer, signer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.integration

OLD = dict.fromkeys(WORLD, "1.0")
URGENT = {"nginx-light": "1.0+deb12u1", "nginx-common": "1.0+deb12u1"}


@pytest.fixture(scope="module")
def trusted() -> Iterator[Signer]:
    with signer("The distribution's archive key") as key:
        yield key


@pytest.fixture(scope="module")
def stranger() -> Iterator[Signer]:
    with signer("Debian Archive Automatic Signing Key (12/bookworm)") as key:
        yield key


@dataclass(frozen=True)
class Site:
    """An archive with its security archive, and what a checkout knows of them."""

    main: Repository
    security: Repository
    supply: Supply
    request: PackageRequest

    def resolve(self) -> Lock:
        return closure.resolve(self.request, self.supply, ignore)

    def renew(self) -> None:
        """Publish a security update; what it replaces leaves the mirror."""
        self.main.publish("bookworm", OLD | URGENT)
        self.security.publish("bookworm-security", URGENT)


@pytest.fixture
def site(home: Path, tmp_path: Path, trusted: Signer) -> Site:
    main = Repository(tmp_path / "debian", trusted)
    security = Repository(tmp_path / "debian-security", trusted, "Debian-Security")
    main.publish("bookworm", OLD)
    security.publish("bookworm-security", {})
    keys = tmp_path / "keys"
    keys.mkdir()
    trusted.export(keys / "archive.asc")
    named = tuple(
        Archive(name=name, suites=(suite,), keys=(trusted.fingerprint,))
        for name, suite in (("debian", "bookworm"), ("debian-security", "bookworm-security"))
    )
    request = PackageRequest(
        archives=named, guest=("nginx-light",), kernel="linux-image-cloud-amd64", tools=("tcc",)
    )
    return Site(main, security, Supply(keys, Sources(mirror=main.uri)), request)


def test_a_lock_is_resolved_and_fetched_from_the_named_archives(site: Site) -> None:
    lock = site.resolve()
    found = {package.name: package.role for package in lock.packages}
    assert found == {
        "base": "essential", "usr-is-merged": "essential", "nginx-common": "guest",
        "nginx-light": "guest", KERNEL: "kernel", "tcc": "tool",
    } or found["usr-is-merged"] == "guest"  # fmt: skip
    shutil.rmtree(closure.pool())
    names = [path.name for path in closure.fetch(lock, site.supply, ignore)]
    assert f"{KERNEL}_1.0_amd64.deb" in names
    assert "nginx-light_1.0_amd64.deb" in names


def test_an_archive_that_calls_itself_debian_is_refused_without_the_key(
    site: Site, stranger: Signer
) -> None:
    forged = replace(site.main, signer=stranger)
    forged.publish("bookworm", dict.fromkeys(WORLD, "9.9"))
    with pytest.raises(RaveError, match="not signed by the keys that the lock names") as caught:
        site.resolve()
    assert caught.value.exit_code == ExitCode.HOST
    assert site.main.uri in caught.value.detail[0]


def test_an_unsigned_archive_is_refused(site: Site) -> None:
    (site.main.place / "dists/bookworm/InRelease").unlink()
    with pytest.raises(RaveError, match="not signed"):
        site.resolve()


def test_other_repositories_of_the_host_have_no_part_in_it(
    site: Site, stranger: Signer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that the host trusts, that claims to be Debian, and that has all in a newer version."""
    forged = Repository(tmp_path / "forged", stranger)
    forged.publish("bookworm", dict.fromkeys(WORLD, "9.9"))
    host = tmp_path / "etc-apt"
    (host / "sources.list.d").mkdir(parents=True)
    (host / "sources.list").write_text(
        f"deb {site.main.uri} bookworm main\n"
        f"deb {site.security.uri} bookworm-security main\n"
        f"deb [trusted=yes] {forged.uri} bookworm main\n"
    )
    monkeypatch.setattr(archives, "HOST_SOURCES", host)
    supply = replace(site.supply, sources=Sources())
    lock = closure.resolve(site.request, supply, ignore)
    assert {package.version for package in lock.packages} == {"1.0"}


def test_of_a_newer_release_nothing_but_what_is_named_is_taken(site: Site) -> None:
    """Not even what the named package asks for, as long as the guest's release has it."""
    newer = {"nginx-light": "2.0", "nginx-common": "2.0", "tcc": "2.0"}
    site.main.publish("trixie", newer, pool="newer")
    only = site.request.archives[0].model_copy(
        update={"suites": ("trixie",), "only": ("nginx-light",)}
    )
    request = site.request.model_copy(update={"archives": (*site.request.archives, only)})
    lock = closure.resolve(request, site.supply, ignore)
    found = {package.name: package.version for package in lock.packages}
    assert {name for name, version in found.items() if version == "2.0"} == {"nginx-light"}
    assert found["nginx-common"] == found["tcc"] == "1.0"
    shutil.rmtree(closure.pool())
    names = [path.name for path in closure.fetch(lock, site.supply, ignore)]
    assert "nginx-light_2.0_amd64.deb" in names


def test_a_further_key_counts_only_where_the_operator_names_it_and_the_lock_tells(
    site: Site, stranger: Signer, tmp_path: Path
) -> None:
    replace(site.main, signer=stranger).publish("bookworm", OLD)
    keyring = tmp_path / "company.asc"
    stranger.export(keyring)
    supply = replace(site.supply, sources=replace(site.supply.sources, keyring=str(keyring)))
    lock = closure.resolve(site.request, supply, ignore)
    assert lock.trusted == (stranger.fingerprint,)
    assert stranger.fingerprint in locks.render(lock).decode()


def test_a_changed_lock_tells_which_changes_are_security_updates(site: Site) -> None:
    old = site.resolve()
    site.renew()
    changes = locks.difference(old, site.resolve())
    assert [(change.name, change.security) for change in changes] == [
        ("nginx-common", True),
        ("nginx-light", True),
    ]


def test_only_what_has_changed_is_downloaded_for_a_new_lock(site: Site) -> None:
    site.resolve()
    site.renew()
    told: list[BuildEvent] = []
    closure.resolve(site.request, site.supply, told.append)
    assert [event.total for event in told if event.text == "downloading packages"] == [2, 2]
    told.clear()
    closure.resolve(site.request, site.supply, told.append)
    assert not [event for event in told if event.text == "downloading packages"]


def test_a_stale_lock_names_what_has_left(site: Site) -> None:
    lock = site.resolve()
    site.renew()
    shutil.rmtree(closure.pool())
    with pytest.raises(DepartedError) as caught:
        closure.fetch(lock, site.supply, ignore)
    assert set(caught.value.names) == set(URGENT)


def test_a_stale_lock_still_serves_from_the_cache(site: Site) -> None:
    lock = site.resolve()
    site.renew()
    assert closure.fetch(lock, site.supply, ignore)


def test_a_stale_lock_is_replaced_with_every_change_told(site: Site, tmp_path: Path) -> None:
    lock = site.resolve()
    place = tmp_path / "demo.json"
    place.write_bytes(locks.render(lock))
    site.renew()
    told: list[BuildEvent] = []
    chosen = locking.Chosen(lock, place, own=False)
    new = locking.replace_lock(chosen, place, site.supply, list(URGENT), told.append)
    assert new.lock.replaces == locks.digest(place.read_bytes())
    (notice,) = [event.text for event in told if event.notice]
    assert "nginx-light 1.0 -> 1.0+deb12u1  (security update)" in notice
    assert closure.fetch(new.lock, site.supply, ignore)


def test_a_dated_archive_still_has_what_has_left_the_mirror(site: Site, tmp_path: Path) -> None:
    lock = site.resolve()
    for repository in (site.main, site.security):
        name = repository.place.name
        old = replace(repository, fields={"Valid-Until": "Sat, 01 Jan 2022 00:00:00 UTC"})
        suite = "bookworm" if name == "debian" else "bookworm-security"
        old.publish(suite, OLD if name == "debian" else {})
        old.copy(tmp_path / "snapshot" / name / lock.resolved)
    site.renew()
    shutil.rmtree(closure.pool())
    sources = replace(site.supply.sources, snapshot=f"file:{tmp_path}/snapshot")
    told: list[BuildEvent] = []
    assert closure.fetch(lock, replace(site.supply, sources=sources), told.append)
    assert any("packages have left the mirror" in event.text for event in told if event.notice)


def test_other_content_under_a_locked_version_is_refused(site: Site) -> None:
    lock = site.resolve()
    site.main.publish("bookworm", OLD, says="something else")
    shutil.rmtree(closure.pool())
    with pytest.raises(RaveError, match="is not the locked file") as caught:
        closure.fetch(lock, site.supply, ignore)
    assert caught.value.exit_code == ExitCode.BUILD
