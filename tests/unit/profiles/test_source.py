"""Where the catalog comes from, and what is said to a user whom Nix cannot serve."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from rave_cli.errors import ExitCode, RaveError
from rave_cli.profiles import source

if TYPE_CHECKING:
    from pathlib import Path


def test_a_user_without_a_store_is_told_who_builds(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nix = tmp_path / "bin/nix"
    nix.parent.mkdir()
    nix.write_text(
        "#!/bin/sh\necho \"error: creating directory '/nix': Permission denied\" >&2; exit 1\n"
    )
    nix.chmod(0o755)
    monkeypatch.setenv("PATH", f"{nix.parent}:/usr/bin:/bin")
    with pytest.raises(RaveError, match="store cannot be written by this user") as caught:
        source.load_catalog(tmp_path)
    assert caught.value.exit_code is ExitCode.HOST
    assert (caught.value.hint or "").startswith("sudo -i")


def test_a_plain_path_is_named_as_it_is(home: Path) -> None:
    assert source.installable(home, "demo-debian") == f"{home}#demo-debian"


def test_a_link_stands_for_a_path_that_nix_cannot_take(home: Path) -> None:
    place = home / "my work"
    (place / ".git").mkdir(parents=True)
    asked = source.installable(place, "demo-debian")
    link = asked.removeprefix("git+file:").removesuffix("#demo-debian")
    assert " " not in asked
    assert home.joinpath(link).resolve() == place.resolve()
    assert source.installable(place, "demo-debian") == asked


def test_without_git_such_a_path_is_refused(home: Path) -> None:
    (home / "my work").mkdir()
    with pytest.raises(RaveError, match="the path has more than letters") as caught:
        source.installable(home / "my work", "demo-debian")
    assert caught.value.exit_code is ExitCode.USAGE
