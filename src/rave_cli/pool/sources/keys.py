"""What sources prove themselves with: secrets by their names, held in memory, written nowhere."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field
from threading import Lock
from typing import TYPE_CHECKING

from rave_cli.errors import ExitCode, RaveError
from rave_cli.secrets import identity, store
from rave_platform.domain import signatures
from rave_platform.domain.signatures import KEY_PREFIX, GitLabHook

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rave_cli.pool.sources.source import ForgeSource
    from rave_platform.domain.signatures import Scheme

log = logging.getLogger("rave.pool.sources")

# Seconds before a secrets file that could not be opened is tried again.
AGAIN = 10.0


def opened(names: Iterable[str]) -> dict[str, str]:
    """Return the values of secrets by their names; none for a name that there is not.

    Raises:
        RaveError: SECRETS if the file cannot be decrypted here; HOST if it cannot be read.
    """
    found = store.names_of(
        store.decrypt(store.read(store.place(None)), identity.load(), output="json")
    )
    return {name: found[name].strip() for name in names if found.get(name, "").strip()}


def scheme(source: ForgeSource, values: dict[str, str]) -> Scheme | None:
    """Return how the hooks of a source are proven, by those of its secrets that there are; None
    without any.

    Raises:
        RaveError: SECRETS if one is no signing key, and begins as one.
    """
    secrets = tuple(values[name] for name in source.secrets if name in values)
    if not secrets:
        return None
    raw = tuple(one.encode() for one in secrets)
    if source.forge == "gitlab":
        # GitLab makes signing keys with this beginning; a secret token of before is anything else.
        keys = tuple(_key(one) for one in secrets if one.startswith(KEY_PREFIX))
        tokens = tuple(one.encode() for one in secrets if not one.startswith(KEY_PREFIX))
        return GitLabHook(tokens, keys)
    if source.forge == "github":
        return signatures.github(raw)
    return signatures.pagure(raw) if source.forge == "pagure" else signatures.gitea(raw)


def _key(text: str) -> bytes:
    try:
        return signatures.parse_key(text)
    except ValueError as fault:
        raise RaveError(
            f"a source's signing key cannot be used: {fault}",
            hint="rave secrets edit",
            exit_code=ExitCode.SECRETS,
        ) from fault


@dataclass
class SourceSecrets:
    """The secrets of the sources, opened again when the file is another. For any thread."""

    _seen: tuple[object, ...] = ()
    _values: dict[str, str] = field(default_factory=dict, repr=False)
    _next: float = 0.0
    _lock: Lock = field(default_factory=Lock, repr=False)

    def scheme(self, source: ForgeSource) -> Scheme | None:
        """Return how the hooks of a source are proven; None if that cannot be said."""
        try:
            return scheme(source, self._of(source.secrets))
        except RaveError as error:
            log.warning("source %s: %s", source.name, error.message)
            return None

    def token(self, source: ForgeSource) -> str:
        """Return what a forge is asked with; empty for none."""
        return self._of((source.token,)).get(source.token, "") if source.token else ""

    def _of(self, names: tuple[str, ...]) -> dict[str, str]:
        with self._lock:
            place = store.place(None)
            stat = place.stat() if place.exists() else None
            seen = (stat.st_ino, stat.st_mtime_ns, stat.st_size) if stat else ()
            if seen != self._seen:
                self._values, self._next, self._seen = {}, 0.0, seen
            missing = [name for name in names if name and name not in self._values]
            if missing and time.monotonic() >= self._next:
                self._next = time.monotonic() + AGAIN
                try:
                    self._values |= opened(missing)
                except RaveError as error:
                    log.warning("no secrets for sources: %s", error.message)
                else:
                    self._next = 0.0 if all(n in self._values for n in missing) else self._next
            return {name: self._values[name] for name in names if name in self._values}
