"""Where settings come from, and which one wins."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from rave_cli import settings
from rave_cli.errors import ExitCode, RaveError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def checkout(home: Path, tmp_path: Path) -> Path:
    root = tmp_path / "checkout"
    (root / "infra/catalog").mkdir(parents=True)
    (root / "flake.nix").write_text("{ }")
    (root / "sub").mkdir()
    return root


def test_the_first_that_has_it_wins(
    checkout: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = checkout / "sub"
    config = home / ".config/rave"
    config.mkdir()

    def origin() -> tuple[str, str]:
        found = settings.load(start=here).values["RAVE_PROFILE"]
        return found.value, found.origin

    assert origin() == ("demo", "default")
    (config / "config.toml").write_text('rave_profile = "five"\n')
    assert origin() == ("five", str(config / "config.toml"))
    (config / ".env").write_text("RAVE_PROFILE=four\n")
    assert origin() == ("four", str(config / ".env"))
    (checkout / ".env").write_text("RAVE_PROFILE=three\n")
    assert origin() == ("three", str(checkout / ".env"))
    (here / ".env").write_text('export RAVE_PROFILE="two" # a comment\n')
    assert origin() == ("two", str(here / ".env"))
    monkeypatch.setenv("RAVE_PROFILE", "one")
    assert origin() == ("one", "environment")


@pytest.mark.parametrize(("text", "mode"), [("1", "safe"), ("0", "full"), ("no", "full")])
def test_safe_mode_is_a_switch(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, mode: str
) -> None:
    monkeypatch.setenv("SAFE_MODE", text)
    assert settings.load(start=tmp_path).mode == mode


@pytest.mark.parametrize(
    ("name", "value"),
    [("SAFE_MODE", "2"), ("VALIDATION_TIMEOUT", "soon"), ("VALIDATION_TIMEOUT", "-1"),
     ("VALIDATION_TIMEOUT", "nan"), ("VALIDATION_TIMEOUT", "inf"), ("RAVE_FLAKE", "/nonexistent")],
)  # fmt: skip
def test_nonsense_is_refused_with_its_origin(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    loaded = settings.load(start=tmp_path)
    with pytest.raises(RaveError, match=f"{name}='{value}' .from environment.") as caught:
        _ = (loaded.mode, loaded.validation_timeout, loaded.flake)
    assert caught.value.exit_code == ExitCode.USAGE


def test_an_unknown_setting_in_the_file_is_refused(home: Path, tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text("safe_mod = true\n")
    with pytest.raises(RaveError, match="unknown setting 'safe_mod'"):
        settings.load(file, start=tmp_path)


@pytest.mark.parametrize("content", [b"= nonsense", b"\xff\xfe"])
def test_a_broken_file_is_named(home: Path, tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "config.toml"
    file.write_bytes(content)
    with pytest.raises(RaveError, match="cannot be read") as caught:
        settings.load(file, start=tmp_path)
    assert str(file) in caught.value.message


def test_a_switch_of_the_file_may_be_a_boolean(home: Path, tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text("safe_mode = false\nvalidation_timeout = 60\n")
    loaded = settings.load(file, start=tmp_path)
    assert (loaded.mode, loaded.validation_timeout) == ("full", 60.0)


def test_the_flake_is_found_from_below(checkout: Path) -> None:
    assert settings.load(start=checkout / "sub").require_flake() == checkout


def test_no_flake_says_where_to_go(home: Path, tmp_path: Path) -> None:
    with pytest.raises(RaveError, match="no flake found") as caught:
        settings.load(start=tmp_path).require_flake()
    assert "RAVE_FLAKE" in (caught.value.hint or "")


NOBODY = 65534
as_root = pytest.mark.skipif(os.getuid() != 0, reason="giving a file away needs root")


def give_away(path: Path) -> None:
    os.chown(path, NOBODY, NOBODY)


def everybody(path: Path) -> None:
    path.chmod(0o666)


def a_foreign_group(path: Path) -> None:
    os.chown(path, -1, NOBODY)
    path.chmod(0o664)


def a_foreign_link(path: Path) -> None:
    real = path.with_name("real")
    path.rename(real)
    path.symlink_to(real)
    os.chown(path, NOBODY, NOBODY, follow_symlinks=False)


def a_foreign_directory(path: Path) -> None:
    os.chown(path.parent, NOBODY, NOBODY)


def an_open_directory(path: Path) -> None:
    path.parent.chmod(0o777)


SPOILERS = [
    give_away, everybody, a_foreign_group, a_foreign_link, a_foreign_directory, an_open_directory,
]  # fmt: skip


@as_root
@pytest.mark.parametrize("spoil", SPOILERS)
@pytest.mark.parametrize("place", ["here", "repository", "config", "toml", "named"])
def test_settings_that_somebody_else_may_have_written_are_refused(
    checkout: Path, home: Path, spoil: Callable[[Path], None], place: str
) -> None:
    named = home / "place/own.toml"
    file = {
        "here": checkout / "sub/.env",
        "repository": checkout / ".env",
        "config": home / ".config/rave/.env",
        "toml": home / ".config/rave/config.toml",
        "named": named,
    }[place]
    file.parent.mkdir(exist_ok=True)
    file.write_text('RAVE_FLAKE="/evil"\n' if file.name == ".env" else 'rave_flake = "/evil"\n')
    config = named if place == "named" else None
    assert settings.load(config, start=checkout / "sub").text("RAVE_FLAKE") == "/evil"
    spoil(file)
    with pytest.raises(RaveError) as caught:
        settings.load(config, start=checkout / "sub")
    assert str(file) in caught.value.message
    assert caught.value.exit_code is ExitCode.USAGE
    assert caught.value.hint is not None


@as_root
def test_an_env_file_of_another_tool_may_belong_to_anybody(checkout: Path) -> None:
    file = checkout / ".env"
    file.write_text("COMPOSE_PROJECT_NAME=x\n")
    give_away(file)
    assert settings.load(start=checkout).text("RAVE_PROFILE") == "demo"


@as_root
@pytest.mark.parametrize("spoil", SPOILERS)
@pytest.mark.parametrize("named", [False, True])
def test_a_flake_that_somebody_else_may_have_written_is_not_run(
    checkout: Path, home: Path, spoil: Callable[[Path], None], named: bool
) -> None:
    elsewhere = home if named else checkout
    if named:
        (home / ".config/rave").mkdir()
        (home / ".config/rave/.env").write_text(f"RAVE_FLAKE={checkout}\n")
    spoil(checkout / "flake.nix")
    loaded = settings.load(start=elsewhere)
    with pytest.raises(RaveError, match="building would run its code") as caught:
        loaded.require_flake()
    assert caught.value.exit_code is ExitCode.USAGE
    assert f"RAVE_FLAKE={checkout}" in (caught.value.hint or "")


@as_root
def test_who_names_a_flake_in_the_environment_trusts_it(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    give_away(checkout / "flake.nix")
    monkeypatch.setenv("RAVE_FLAKE", str(checkout))
    assert settings.load(start=checkout).require_flake() == checkout
