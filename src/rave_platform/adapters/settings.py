"""The dispatcher's settings: one TOML file, and secrets in files that it names."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - pydantic reads it
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from rave_platform.adapters import configuration
from rave_platform.adapters.configuration import SPANS, NatsSettings, SettingsError, StrictSettings
from rave_platform.application.intake import WebhookSource
from rave_platform.domain import signatures
from rave_platform.domain.events import Provider, SourceName
from rave_platform.domain.handover import RETENTION_DAYS
from rave_platform.domain.ratelimit import Rate
from rave_platform.domain.signatures import GitLabHook, ProjectHmac, StandardWebhook

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rave_platform.domain.signatures import Scheme


class SourceSettings(StrictSettings):
    """A sender: how it proves itself, with secrets in files, and how much it may send."""

    scheme: Provider
    secret_files: tuple[Path, ...] = ()
    # GitLab's tokens; not looked at where there are signing secrets.
    token_files: tuple[Path, ...] = ()
    # Pagure's: secrets from which the keys of its projects follow, instead of those keys.
    project_key_files: tuple[Path, ...] = ()
    rate_per_second: Annotated[float, Field(gt=0, le=10_000)] = 20.0
    burst: Annotated[int, Field(ge=1, le=100_000)] = 200


class DispatcherSettings(StrictSettings):
    """All of it."""

    store: Path
    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 3001
    mode: Literal["safe", "full"] = "safe"
    # With what is added, a message stays below the 1 MiB that NATS takes.
    body_limit_kib: Annotated[int, Field(ge=1, le=1000)] = 768
    nats: NatsSettings = NatsSettings()
    sources: dict[SourceName, SourceSettings] = Field(default_factory=dict)

    @property
    def spans(self) -> Path:
        """Where spans are kept: beside the events."""
        return self.store.with_name(SPANS)

    @property
    def retention_days(self) -> int:
        """Days that an event is kept."""
        return RETENTION_DAYS[self.mode]


def read(place: Path) -> DispatcherSettings:
    """Return the settings of a file.

    Raises:
        SettingsError: if it is not there or says something else.
    """
    return configuration.read(place, DispatcherSettings)


def webhook_sources(settings: DispatcherSettings) -> list[WebhookSource]:
    """Return the senders; one whose secrets are not there yet has no scheme.

    Raises:
        SettingsError: if a file is not fit to hold a secret, or holds something else.
    """
    return [
        WebhookSource(
            name, source.scheme, _of(name, source), Rate(source.rate_per_second, source.burst)
        )
        for name, source in settings.sources.items()
    ]


def _of(name: str, source: SourceSettings) -> Scheme | None:
    by_project = source.project_key_files
    return _by_project(name, source) if by_project else _scheme(name, source)


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


def _by_project(name: str, source: SourceSettings) -> Scheme | None:
    if source.scheme is not Provider.PAGURE or source.secret_files or source.token_files:
        raise SettingsError(f"the source {name}: project_key_files are Pagure's, and alone")
    secrets = _secrets(source.project_key_files)
    return ProjectHmac(secrets) if secrets else None


def _keys(secrets: Sequence[bytes]) -> tuple[bytes, ...]:
    try:
        return tuple(signatures.parse_key(secret.decode("ascii")) for secret in secrets)
    except ValueError as fault:
        raise SettingsError(f"a signing secret cannot be used: {fault}") from None


def _secrets(places: Sequence[Path]) -> tuple[bytes, ...]:
    # The one before may stand on a line of its own while it is rotated: then each counts.
    found = (configuration.secret(place) or b"" for place in places)
    return tuple(line for secret in found for line in secret.splitlines() if line)
