"""Where the catalog comes from, and in which store a user evaluates it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from rave_cli.errors import ExitCode, RaveError
from rave_cli.profiles import source

if TYPE_CHECKING:
    from pathlib import Path


def test_a_user_evaluates_in_a_store_of_their_own(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nix = tmp_path / "bin/nix"
    nix.parent.mkdir()
    nix.write_text('#!/bin/sh\necho "$NIX_REMOTE $NIX_STORE_DIR"\n')
    nix.chmod(0o755)
    monkeypatch.setenv("PATH", f"{nix.parent}:/usr/bin:/bin")
    monkeypatch.setattr(os, "getuid", lambda: 1000)
    store = home.resolve() / ".local/share/rave/nix/store"
    assert source.evaluate(tmp_path).decode() == f"local {store}\n"


def test_a_plain_path_is_named_as_it_is(home: Path) -> None:
    assert source.installable(home, "demo-debian") == f"{home}#demo-debian"


def of_version(folder: Path, version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a Nix of a version on PATH."""
    nix = folder / "bin/nix"
    nix.parent.mkdir()
    nix.write_text(f"#!/bin/sh\necho 'nix (Nix) {version}'\n")
    nix.chmod(0o755)
    monkeypatch.setenv("PATH", f"{nix.parent}:/usr/bin:/bin")


def test_a_link_stands_for_a_path_that_nix_cannot_take(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    of_version(tmp_path, "2.8.0", monkeypatch)
    place = home / "my work"
    (place / ".git").mkdir(parents=True)
    asked = source.installable(place, "demo-debian")
    link = asked.removeprefix("git+file:").removesuffix("#demo-debian")
    assert " " not in asked
    assert home.joinpath(link).resolve() == place.resolve()
    assert source.installable(place, "demo-debian") == asked


def test_a_nix_that_follows_no_links_gets_the_path_escaped(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Debian 13's: "access to absolute path is forbidden in pure evaluation mode"."""
    of_version(tmp_path, "2.26.3", monkeypatch)
    place = home / "my wörk#?"
    (place / ".git").mkdir(parents=True)
    asked = source.installable(place, "demo-debian")
    assert asked == f"git+file:{home}/my%20w%C3%B6rk%23%3F#demo-debian"


def test_without_git_such_a_path_is_refused(home: Path) -> None:
    (home / "my work").mkdir()
    with pytest.raises(RaveError, match="the path has more than letters") as caught:
        source.installable(home / "my work", "demo-debian")
    assert caught.value.exit_code is ExitCode.USAGE
