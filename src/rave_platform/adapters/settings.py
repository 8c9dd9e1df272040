"""The dispatcher's settings: one TOML file, and secrets in files that it names."""

from __future__ import annotations

import os
import tomllib
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from rave_platform.adapters import files
from rave_platform.adapters.files import UntrustedFileError
from rave_platform.adapters.stream import StreamSettings
from rave_platform.application.intake import WebhookSource
from rave_platform.domain import signatures
from rave_platform.domain.events import Provider, SourceName
from rave_platform.domain.handover import RETENTION_DAYS
from rave_platform.domain.ratelimit import Rate
from rave_platform.domain.signatures import GitLabHook, StandardWebhook

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rave_platform.domain.signatures import Scheme

# Bytes; a secret file that holds more is something else.
LARGEST_SECRET = 4096


class SettingsError(Exception):
    """The settings cannot be used: what is wrong, as one sentence."""


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SourceSettings(_Strict):
    """A sender: how it proves itself, with secrets in files, and how much it may send."""

    scheme: Provider
    secret_files: tuple[Path, ...] = ()
    # GitLab's tokens; not looked at where there are signing secrets.
    token_files: tuple[Path, ...] = ()
    rate_per_second: Annotated[float, Field(gt=0, le=10_000)] = 20.0
    burst: Annotated[int, Field(ge=1, le=100_000)] = 200


class NatsSettings(_Strict):
    """Where the stream is."""

    url: str = "nats://127.0.0.1:4222"
    user: str = ""
    password_file: Path | None = None
    max_mib: Annotated[int, Field(ge=1)] = 256


class DispatcherSettings(_Strict):
    """All of it."""

    store: Path
    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 3001
    mode: Literal["safe", "full"] = "safe"
    # With what is added, a message stays below the 1 MiB that NATS takes.
    body_limit_kib: Annotated[int, Field(ge=1, le=1000)] = 768
    nats: NatsSettings = NatsSettings()
    sources: dict[SourceName, SourceSettings] = {}

    @property
    def retention_days(self) -> int:
        """Days that an event is kept."""
        return RETENTION_DAYS[self.mode]


def read(place: Path) -> DispatcherSettings:
    """Return the settings of a file.

    Raises:
        SettingsError: if it is not there or says something else.
    """
    try:
        with place.open("rb") as file:
            files.require_ours(file.fileno(), place)
            return DispatcherSettings.model_validate(tomllib.load(file))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as fault:
        raise SettingsError(f"the settings {place} cannot be read: {fault}") from fault
    except UntrustedFileError as fault:
        raise SettingsError(str(fault)) from fault
    except ValidationError as fault:
        said = "; ".join(
            f"{'.'.join(map(str, error['loc']))}: {error['msg']}" for error in fault.errors()
        )
        raise SettingsError(f"the settings {place} say something else: {said}") from None


def stream_settings(settings: DispatcherSettings) -> StreamSettings:
    """Return where the stream is, with the password.

    Raises:
        SettingsError: if the file of the password is not fit to hold one.
    """
    place = settings.nats.password_file
    secret = b"" if place is None else _secret(place) or b""
    return StreamSettings(
        settings.nats.url,
        settings.nats.user,
        secret.decode(errors="replace"),
        timedelta(days=settings.retention_days),
        settings.nats.max_mib * 1024 * 1024,
    )


def webhook_sources(settings: DispatcherSettings) -> list[WebhookSource]:
    """Return the senders; one whose secrets are not there yet has no scheme.

    Raises:
        SettingsError: if a file is not fit to hold a secret, or holds something else.
    """
    return [
        WebhookSource(
            name, source.scheme, _scheme(name, source), Rate(source.rate_per_second, source.burst)
        )
        for name, source in settings.sources.items()
    ]


def _scheme(name: str, source: SourceSettings) -> Scheme | None:
    secrets, tokens = _secrets(source.secret_files), _secrets(source.token_files)
    if not source.secret_files and not source.token_files:
        raise SettingsError(f"the source {name} has no secret_files")
    if source.scheme is Provider.GITLAB:
        # A signing secret that is not there yet must not open the way for a token.
        missing = source.secret_files and not secrets
        return None if missing or not (secrets or tokens) else GitLabHook(tokens, _keys(secrets))
    if not secrets:
        return None
    match source.scheme:
        case Provider.GITHUB:
            return signatures.github(secrets)
        case Provider.GITEA:
            return signatures.gitea(secrets)
        case Provider.PAGURE:
            return signatures.pagure(secrets)
        case Provider.STANDARD:
            return StandardWebhook(_keys(secrets))


def _keys(secrets: Sequence[bytes]) -> tuple[bytes, ...]:
    try:
        return tuple(signatures.parse_key(secret.decode("ascii")) for secret in secrets)
    except ValueError as fault:
        raise SettingsError(f"a signing secret cannot be used: {fault}") from None


def _secrets(places: Sequence[Path]) -> tuple[bytes, ...]:
    found = (_secret(place) for place in places)
    return tuple(secret for secret in found if secret)


def _secret(place: Path) -> bytes | None:
    """Return what a file holds without the end of its line; None if there is none.

    A relative name is a credential of the unit (systemd.exec(5), CREDENTIALS_DIRECTORY).
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
    secret = data.rstrip(b"\r\n")
    if not secret or len(data) > LARGEST_SECRET:
        raise SettingsError(f"the secret {place} is empty or no secret")
    return secret
