"""How a build gets root's rights: root has them, a user namespace gives them to others."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from rave_cli import nixstore, paths, process
from rave_cli.errors import ExitCode, RaveError
from rave_cli.images import rootless
from rave_cli.images.nix import Nix

if TYPE_CHECKING:
    from pathlib import Path

# What unshare (util-linux 2.38 and 2.41) and newuidmap (shadow 4.13) say.
NO_IDS = ("unshare: failed to find subid in /etc/subuid",)
REFUSED = ("newuidmap: uid range [1-65536) -> [100000-165535) not allowed",)
FORBIDDEN = ("unshare: unshare failed: Operation not permitted",)


@pytest.fixture
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever runs the test is no root."""
    monkeypatch.setattr(os, "getuid", lambda: 1000)


def switched(tmp_path: Path, name: str, value: str) -> Path:
    """Return a /proc/sys in which one setting has a value."""
    place = tmp_path / "sys" / name.replace(".", "/")
    place.parent.mkdir(parents=True)
    place.write_text(f"{value}\n")
    return tmp_path / "sys"


def test_root_builds_as_it_is_in_the_hosts_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 0)
    assert rootless.enter() == ()
    rootless.require()
    assert str(nixstore.directory()) == "/nix/store"
    assert nixstore.environment() == {"NIX_REMOTE": "local"}


@pytest.mark.usefixtures("user")
def test_a_user_builds_in_a_namespace_and_in_a_store_of_their_own() -> None:
    env = Nix("debian", "safe").environment()
    assert env["NIX_STORE_DIR"] == str(paths.data_dir().resolve() / "nix/store")
    assert env["NIX_REMOTE"] == "local"
    assert rootless.enter()[:2] == ("unshare", "--user")
    assert "NIX_STORE_DIR" not in Nix("nixos", "safe").environment()


@pytest.mark.usefixtures("user")
def test_the_store_is_named_without_symbolic_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "link"))
    assert nixstore.directory() == tmp_path.resolve() / "real/rave/nix/store"


@pytest.mark.usefixtures("user")
def test_a_missing_newuidmap_names_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "find", lambda _tool: None)
    with pytest.raises(RaveError) as caught:
        rootless.require()
    assert caught.value.exit_code == ExitCode.HOST
    assert "apt-get install uidmap" in (caught.value.hint or "")


@pytest.mark.parametrize("words", [NO_IDS, REFUSED])
def test_a_user_without_ids_gets_the_command_that_gives_some(words: tuple[str, ...]) -> None:
    error = rootless.fault(words)
    assert error.exit_code == ExitCode.HOST
    assert "/etc/subuid" in error.message
    assert (error.hint or "").startswith("sudo usermod --add-subuids ")


@pytest.mark.parametrize(("name", "forbids", "allows"), rootless.SWITCHES)
def test_a_kernel_that_forbids_namespaces_is_named_with_its_switch(
    tmp_path: Path, name: str, forbids: str, allows: str
) -> None:
    error = rootless.fault(FORBIDDEN, switched(tmp_path, name, forbids))
    assert f"{name} is {forbids}" in error.message
    assert f"sudo sysctl -w {name}={allows}" in (error.hint or "")


def test_where_nothing_says_why_the_way_is_root(tmp_path: Path) -> None:
    error = rootless.fault(FORBIDDEN, switched(tmp_path, "user.max_user_namespaces", "9000"))
    assert error.hint == rootless.AS_ROOT
    assert error.detail == FORBIDDEN


@pytest.mark.usefixtures("user")
def test_nothing_is_downloaded_before_the_rights_are_sure(monkeypatch: pytest.MonkeyPatch) -> None:
    said = process.Completed((), 1, b"", FORBIDDEN[0].encode())
    monkeypatch.setattr(process, "find", lambda tool: f"/bin/{tool}")
    monkeypatch.setattr(process, "run", lambda *_words, **_options: said)
    with pytest.raises(RaveError, match="gives this user none"):
        rootless.require()
