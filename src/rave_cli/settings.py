"""What the user set, and where: the environment, `.env` files and the configuration file."""

from __future__ import annotations

import io
import os
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rave_cli import paths
from rave_cli.errors import ExitCode, RaveError
from rave_cli.images.archives import Sources
from rave_cli.records import Versions

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from rave_cli.profiles.names import Mode

DEFAULTS: Mapping[str, str] = {
    "SAFE_MODE": "1",
    "DEBUG": "0",
    "VALIDATION_TIMEOUT": "1800",
    "RAVE_PROFILE": "demo",
    "RAVE_BASE": "nixos",
    "RAVE_FLAKE": "",
    "RAVE_ACCEPTED": "",
    "RAVE_SIGNING_KEY": "",
    "RAVE_BACKUP_FOLDER": "",
    "RAVE_OTLP_ENDPOINT": "",
    "RAVE_DEBIAN_MIRROR": "",
    "RAVE_DEBIAN_SNAPSHOT": "",
    "RAVE_DEBIAN_KEYRING": "",
}

# A file that does not say its version is of the first.
CONFIG = Versions(title="the configuration", version=1, unversioned=1, exit_code=ExitCode.USAGE)

ENVIRONMENT = "environment"
_SWITCH = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}


@dataclass(frozen=True)
class Setting:
    """One setting with the place it came from."""

    name: str
    value: str
    origin: str


@dataclass(frozen=True)
class Settings:
    """Every setting of rave, resolved. `values` maps each name of DEFAULTS to its Setting."""

    values: Mapping[str, Setting]
    repository: Path | None

    def text(self, name: str) -> str:
        """Return a setting's value."""
        return self.values[name].value

    @property
    def mode(self) -> Mode:
        """The resource mode: `SAFE_MODE=0` means full."""
        return "safe" if self._switch("SAFE_MODE") else "full"

    @property
    def debug(self) -> bool:
        """Whether debug output is wanted."""
        return self._switch("DEBUG")

    @property
    def validation_timeout(self) -> float:
        """Seconds a smoke run may take."""
        setting = self.values["VALIDATION_TIMEOUT"]
        try:
            seconds = float(setting.value)
        except ValueError:
            seconds = -1.0
        if not 0 < seconds < float("inf"):
            raise _bad(setting, "a number of seconds above 0")
        return seconds

    @property
    def accepted(self) -> tuple[str, ...]:
        """The services that the operator has accepted by name, each once, in order."""
        return tuple(sorted(set(self.text("RAVE_ACCEPTED").replace(",", " ").split())))

    @property
    def flake(self) -> Path | None:
        """The directory of the flake: RAVE_FLAKE, else the repository around the working directory.

        Its code is run, so somebody else's counts only if the environment names it.

        Raises:
            RaveError: USAGE if RAVE_FLAKE names a directory without a flake.nix, or somebody else
                may have written the flake.
        """
        setting = self.values["RAVE_FLAKE"]
        path = Path(setting.value).expanduser().resolve() if setting.value else self.repository
        if path is None:
            return None
        if not (path / "flake.nix").is_file():
            raise _bad(setting, "a directory with rave's flake.nix")
        if not setting.value or setting.origin != ENVIRONMENT:
            _require_own_flake(path)
        return path

    @property
    def sources(self) -> Sources:
        """Where the packages of a Debian guest come from, as far as the operator says."""
        return Sources(
            mirror=self.text("RAVE_DEBIAN_MIRROR"),
            snapshot=self.text("RAVE_DEBIAN_SNAPSHOT"),
            keyring=self.text("RAVE_DEBIAN_KEYRING"),
        )

    def require_flake(self) -> Path:
        """Return the flake's directory.

        Raises:
            RaveError: USAGE if there is none.
        """
        flake = self.flake
        if flake is None:
            raise RaveError(
                "no flake found: this is not inside a checkout of rave",
                hint="cd into the checkout, or set RAVE_FLAKE to its directory",
                exit_code=ExitCode.USAGE,
            )
        return flake

    def _switch(self, name: str) -> bool:
        setting = self.values[name]
        try:
            return _SWITCH[setting.value.lower()]
        except KeyError:
            raise _bad(setting, "0 or 1") from None


def load(config: Path | None = None, *, start: Path | None = None) -> Settings:
    """Resolve every setting. The first of these that has it wins: the environment, `.env` of the
    working directory, of the repository root, of `$XDG_CONFIG_HOME/rave`, the configuration file,
    the default.

    Args:
        config: configuration file; None means `$XDG_CONFIG_HOME/rave/config.toml` if it exists.
        start: directory that counts as the working directory.

    Raises:
        RaveError: USAGE if a file cannot be read as what it should be, or somebody else may have
            written it.
    """
    here = start or paths.working_dir()
    repository = find_repository(here) if here else None
    layers = [(ENVIRONMENT, dict(os.environ))]
    layers += [(str(path), _read_dotenv(path)) for path in _dotenv_files(here, repository)]
    layers += list(_read_config(config))
    layers += [("default", dict(DEFAULTS))]
    return Settings({name: _first(name, layers) for name in DEFAULTS}, repository)


def find_repository(start: Path) -> Path | None:
    """Return the nearest directory at or above `start` that holds rave's flake."""
    for place in (start, *start.parents):
        if (place / "flake.nix").is_file() and (place / "infra/catalog").is_dir():
            return place
    return None


def _first(name: str, layers: list[tuple[str, dict[str, str]]]) -> Setting:
    origin, values = next((origin, values) for origin, values in layers if name in values)
    return Setting(name, values[name], origin)


def _dotenv_files(*places: Path | None) -> list[Path]:
    found = dict.fromkeys(place / ".env" for place in (*places, paths.config_dir()) if place)
    return [path for path in found if path.is_file()]


def _read_dotenv(path: Path) -> dict[str, str]:
    """Read the settings of ours in a `.env`; one that has none may belong to anybody."""
    with paths.refusing(path):
        claimed = _parse_dotenv(path, path.read_bytes())
    if not claimed:
        return {}
    return _parse_dotenv(path, paths.read_trusted(path, exit_code=ExitCode.USAGE))


def _parse_dotenv(path: Path, data: bytes) -> dict[str, str]:
    from dotenv import dotenv_values

    try:
        values = dotenv_values(stream=io.StringIO(data.decode()), interpolate=False)
    except UnicodeDecodeError as error:
        raise _unreadable(path, error) from error
    return {name: value for name, value in values.items() if name in DEFAULTS and value is not None}


def _read_config(config: Path | None) -> Iterator[tuple[str, dict[str, str]]]:
    path = config or paths.config_dir() / "config.toml"
    if config is None and not path.is_file():
        return
    try:
        document = tomllib.loads(paths.read_trusted(path, exit_code=ExitCode.USAGE).decode())
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise _unreadable(path, error) from error
    document = CONFIG.upgraded(document, path, hint=f"correct {path}")
    unknown = sorted(set(document) - {name.lower() for name in DEFAULTS})
    if unknown:
        raise RaveError(
            f"{path}: unknown setting {unknown[0]!r}",
            hint=f"known: {', '.join(name.lower() for name in DEFAULTS)}",
            exit_code=ExitCode.USAGE,
        )
    yield str(path), {name.upper(): _text(value) for name, value in document.items()}


def _require_own_flake(flake: Path) -> None:
    """Refuse a flake that somebody else may have written, as git and nix do with a repository."""
    try:
        paths.require_trusted(flake / "flake.nix", exit_code=ExitCode.USAGE)
    except RaveError as error:
        raise RaveError(
            f"{error.message}: building would run its code",
            hint=f"{error.hint}; or name it yourself: RAVE_FLAKE={flake} rave …",
            exit_code=error.exit_code,
        ) from error


def _text(value: object) -> str:
    if isinstance(value, list):
        return " ".join(map(_text, value))
    return str(int(value)) if isinstance(value, bool) else str(value)


def _bad(setting: Setting, expected: str) -> RaveError:
    return RaveError(
        f"{setting.name}={setting.value!r} (from {setting.origin}) is not {expected}",
        hint="rave config",
        exit_code=ExitCode.USAGE,
    )


def _unreadable(path: Path, error: Exception) -> RaveError:
    return RaveError(
        f"{path} cannot be read: {error}",
        hint=f"correct {path}",
        exit_code=ExitCode.USAGE,
    )
