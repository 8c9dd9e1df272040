"""The closure: the cache, the choice of the lock, and what happens when a package has left."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from rave_cli import paths
from rave_cli.errors import ExitCode, RaveError
from rave_cli.images import closure, files, locking
from rave_cli.images import lock as locks
from rave_cli.images.apt import Selected, file_name
from rave_cli.images.events import BuildEvent, ignore
from tests.unit.images.conftest import deb, sha256

if TYPE_CHECKING:
    from pathlib import Path

    from rave_cli.images.closure import Supply
    from rave_cli.images.lock import Lock
    from tests.unit.images.conftest import Host


def test_a_cold_cache_is_filled_and_verified(host: Host, locked: Lock, supply: Supply) -> None:
    found = closure.fetch(locked, supply, ignore)
    assert [path.name for path in found] == ["bash_1-5.2-1_amd64.deb", "sops-3.11.0"]
    assert found[0].read_text() == deb("bash", "1:5.2-1")
    assert host.verbs("apt-get") == ["update", "download"]
    assert set(closure.pool().iterdir()) == set(found)


def test_a_warm_cache_needs_neither_apt_nor_network(
    host: Host, locked: Lock, supply: Supply
) -> None:
    closure.fetch(locked, supply, ignore)
    before = len(host.calls("apt-get"))
    host.remove("apt-get")
    closure.fetch(locked, supply, ignore)
    assert len(host.calls("apt-get")) == before


def test_a_damaged_file_of_the_cache_is_fetched_again(
    host: Host, locked: Lock, supply: Supply
) -> None:
    path = closure.fetch(locked, supply, ignore)[0]
    path.write_text("half")
    closure.fetch(locked, supply, ignore)
    assert path.read_text() == deb("bash", "1:5.2-1")


def test_other_content_under_the_same_version_is_refused(
    host: Host, locked: Lock, supply: Supply
) -> None:
    host.set(debs={"bash": deb("bash", "1:5.2-1") + " and more"})
    with pytest.raises(RaveError, match="is not the locked file") as caught:
        closure.fetch(locked, supply, ignore)
    assert caught.value.exit_code == ExitCode.BUILD
    assert not list(closure.pool().glob("*.deb"))


def test_a_version_that_left_is_told_with_its_name(
    host: Host, locked: Lock, supply: Supply
) -> None:
    host.set(offered={"bash": "1:5.3-1"})
    with pytest.raises(closure.DepartedError) as caught:
        closure.fetch(locked, supply, ignore)
    assert caught.value.names == ("bash",)


def test_without_apt_no_packages_are_chosen(host: Host, locked: Lock, supply: Supply) -> None:
    host.remove("apt-get")
    with pytest.raises(RaveError, match="takes apt, and this host has none") as caught:
        closure.resolve(locked.requested, supply, ignore)
    assert caught.value.exit_code == ExitCode.HOST
    assert "rave vm lock-closure" in (caught.value.hint or "")


def test_offline_the_host_is_at_fault(host: Host, locked: Lock, supply: Supply) -> None:
    host.set(apt_fault={"update": "E: Failed to fetch http://m/  Could not resolve 'm'\n"})
    with pytest.raises(RaveError, match="could not be fetched") as caught:
        closure.fetch(locked, supply, ignore)
    assert caught.value.exit_code == ExitCode.HOST


def test_lists_too_old_for_the_mirror_are_fetched_again(
    host: Host, locked: Lock, supply: Supply
) -> None:
    supply.apt(locked.requested).update()
    host.set(stale_lists=True)
    closure.fetch(locked, supply, ignore)
    assert host.verbs("apt-get") == ["update", "download", "update", "download"]


def test_a_list_that_changes_while_it_is_read_is_read_again(
    host: Host, locked: Lock, supply: Supply
) -> None:
    host.set(hiccup=True)
    closure.fetch(locked, supply, ignore)
    assert host.verbs("apt-get") == ["update", "update", "download"]


def test_two_downloads_do_not_meet(host: Host, locked: Lock, supply: Supply) -> None:
    with (
        paths.lock(closure.pool().parent / "lock", busy=""),
        pytest.raises(RaveError, match="another rave downloads"),
    ):
        closure.fetch(locked, supply, ignore)


def test_what_an_interrupted_download_left_is_removed(
    host: Host, locked: Lock, supply: Supply
) -> None:
    left = closure.pool() / ".download-left"
    left.mkdir(parents=True)
    (left / "half.deb").touch()
    closure.fetch(locked, supply, ignore)
    assert not left.exists()


def test_apt_is_never_given_the_hosts_own_state(
    host: Host, locked: Lock, supply: Supply, home: Path
) -> None:
    closure.fetch(locked, supply, ignore)
    configuration = (home / ".cache/rave/debian/apt/apt.conf").read_text()
    for line in configuration.splitlines():
        if line.startswith("Dir::"):
            assert f'"{home}/' in line or "/dev/null" in line or "pkgcache" in line
    assert "#clear APT::Update::Post-Invoke;" in configuration


def test_resolving_gives_roles_the_newest_build_time_and_apts_order(
    host: Host, locked: Lock, supply: Supply
) -> None:
    host.set(
        offered={
            "usr-is-merged": "37", "bash": "1:5.2-1",
            "linux-image-6.1-cloud-amd64": "6.1~1", "linux-image-cloud-amd64": "6.1", "tcc": "0.9",
        },
        debs={
            "usr-is-merged": deb("usr-is-merged", "37"), "bash": deb("bash", "1:5.2-1"),
            "linux-image-6.1-cloud-amd64": deb("linux", "6.1~1", 1_700_000_500),
            "tcc": deb("tcc", "0.9"),
        },
    )  # fmt: skip
    request = locked.requested.model_copy(update={"kernel": "linux-image-6.1-cloud-amd64"})
    found = closure.resolve(request, supply, ignore)
    assert [(p.name, p.role) for p in found.packages] == [
        ("usr-is-merged", "essential"),
        ("bash", "guest"),
        ("linux-image-6.1-cloud-amd64", "kernel"),
        ("tcc", "tool"),
    ]
    assert found.epoch == 1_700_000_500
    assert found.packages[2].file == "linux-image-6.1-cloud-amd64_6.1-1_amd64.deb"
    assert found.packages[1].sha256 == sha256(deb("bash", "1:5.2-1"))


def test_a_lock_of_our_own_counts_until_the_repositorys_changes(
    host: Host, locked: Lock, supply: Supply, flake: Path
) -> None:
    host.set(offered={"usr-is-merged": "37"}, debs={"usr-is-merged": deb("usr-is-merged", "37")})
    told: list[BuildEvent] = []
    chosen = locking.choose(flake, "demo")
    assert not chosen.own
    ours = locking.replace_lock(
        chosen, locking.repository_lock(flake, "demo"), supply, ["bash"], told.append
    )
    assert ours.own
    assert [event.notice for event in told][-1]
    assert "lock updated: 1 package of" in told[-1].text
    assert "- bash" in told[-1].text
    assert locking.choose(flake, "demo").path == ours.path
    assert not locking.choose(flake, "demo", locked=True).own
    place = locking.repository_lock(flake, "demo")
    assert locks.parse(place.read_bytes(), place) == locked
    place.write_bytes(locks.render(locked.model_copy(update={"epoch": 5})))
    assert not locking.choose(flake, "demo").own


def test_a_profile_without_a_lock_says_how_to_make_one(flake: Path, home: Path) -> None:
    with pytest.raises(RaveError) as caught:
        locking.choose(flake, "production")
    assert caught.value.hint == "rave vm lock-closure --profile production"


def test_another_sops_than_the_locks_is_refused(host: Host, locked: Lock) -> None:
    other = locked.files[0].model_copy(update={"sha256": "0" * 64})
    with pytest.raises(RaveError, match="the lock wants sops") as caught:
        files.provide([other], (), closure.pool(), ignore)
    assert caught.value.exit_code == ExitCode.HOST


def test_only_a_debian_package_has_a_build_time(tmp_path: Path) -> None:
    page = tmp_path / "error.deb"
    page.write_text("<html>404</html>")
    with pytest.raises(RaveError, match="not a Debian package"):
        closure.build_time(page)


def test_names_fit_apt_and_the_store() -> None:
    selected = Selected("nginx", "1:1.22~1+deb12u1", "amd64")
    assert (
        file_name(selected.name, selected.version, selected.architecture)
        == "nginx_1%3a1.22~1+deb12u1_amd64.deb"
    )
    assert closure.store_name(selected) == "nginx_1-1.22-1+deb12u1_amd64.deb"


def test_the_sops_of_this_environment_is_a_program() -> None:
    path, version = files.installed("sops")
    assert path.read_bytes()[:4] == b"\x7fELF"
    (record,) = files.programs()
    assert (record.version, record.sha256) == (version, locks.file_digest(path))


@pytest.mark.parametrize("which", ["repository", "own"])
def test_a_lock_that_somebody_else_may_have_written_is_refused(
    host: Host, supply: Supply, flake: Path, which: str
) -> None:
    host.set(offered={"usr-is-merged": "37"}, debs={"usr-is-merged": deb("usr-is-merged", "37")})
    chosen = locking.choose(flake, "demo")
    own = locking.replace_lock(
        chosen, locking.repository_lock(flake, "demo"), supply, ["bash"], ignore
    )
    (chosen if which == "repository" else own).path.chmod(0o666)
    with pytest.raises(RaveError, match="can be changed by anybody") as caught:
        locking.choose(flake, "demo")
    assert caught.value.exit_code is ExitCode.BUILD
