"""Settings of a service: one TOML file, and secrets in files that it names."""

from __future__ import annotations

import os
import tomllib
from datetime import timedelta
from pathlib import Path
from typing import Annotated, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from rave_platform.adapters import files
from rave_platform.adapters.files import UntrustedFileError
from rave_platform.adapters.stream import StreamSettings

# The file of a service's spans, beside its store: rave_guest/spans.py looks for this end of a name.
SPANS = "spans.db"

# Bytes; a secret file that holds more is something else.
LARGEST_SECRET = 4096


class SettingsError(Exception):
    """The settings cannot be used: what is wrong, as one sentence."""


class StrictSettings(BaseModel):
    """Settings in which nothing stands that is not known."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class NatsSettings(StrictSettings):
    """Where the stream is."""

    url: str = "nats://127.0.0.1:4222"
    user: str = ""
    password_file: Path | None = None
    max_mib: Annotated[int, Field(ge=1)] = 256


class TaskStreamSettings(NatsSettings):
    """Where the stream of tasks is: what it may hold is set aside for it, as the events' is."""

    max_mib: Annotated[int, Field(ge=1)] = 64


S = TypeVar("S", bound=StrictSettings)


def read(place: Path, model: type[S]) -> S:
    """Return the settings of a file.

    Raises:
        SettingsError: if it is not there or says something else.
    """
    try:
        with place.open("rb") as file:
            files.require_ours(file.fileno(), place)
            return model.model_validate(tomllib.load(file))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as fault:
        raise SettingsError(f"the settings {place} cannot be read: {fault}") from fault
    except UntrustedFileError as fault:
        raise SettingsError(str(fault)) from fault
    except ValidationError as fault:
        said = "; ".join(
            f"{'.'.join(map(str, error['loc']))}: {error['msg']}" for error in fault.errors()
        )
        raise SettingsError(f"the settings {place} say something else: {said}") from None


def stream_settings(nats: NatsSettings, retention_days: int) -> StreamSettings:
    """Return where a stream is, with the password, and what it keeps.

    Raises:
        SettingsError: if the file of the password is not fit to hold one.
    """
    place = nats.password_file
    found = b"" if place is None else secret(place) or b""
    return StreamSettings(
        nats.url,
        nats.user,
        found.decode(errors="replace"),
        timedelta(days=retention_days),
        nats.max_mib * 1024 * 1024,
    )


def secret(place: Path) -> bytes | None:
    """Return what a file holds without the end of its line; None if there is none.

    A relative name is a credential of the unit (systemd.exec(5), CREDENTIALS_DIRECTORY).

    Raises:
        SettingsError: if it is not fit to hold a secret.
    """
    folder = Path(os.environ.get("CREDENTIALS_DIRECTORY", "/run/secrets"))
    try:
        with (folder / place).open("rb") as file:
            files.require_ours(file.fileno(), f"the secret {place}", secret=True)
            data = file.read(LARGEST_SECRET + 1)
    except FileNotFoundError:
        return None
    except OSError as fault:
        raise SettingsError(f"the secret {place} cannot be read: {fault.strerror}") from fault
    except UntrustedFileError as fault:
        raise SettingsError(str(fault)) from fault
    found = data.rstrip(b"\r\n")
    if not found or len(data) > LARGEST_SECRET:
        raise SettingsError(f"the secret {place} is empty or no secret")
    return found


def token(place: Path) -> str:
    """Return the token that a file holds.

    Raises:
        SettingsError: if it is not there, or not fit to be one.
    """
    found = secret(place)
    if found is None:
        raise SettingsError(f"the secret {place} is not there")
    try:
        return found.decode("ascii")
    except UnicodeDecodeError:
        raise SettingsError(f"the secret {place} is no token") from None
