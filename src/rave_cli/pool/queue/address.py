"""Where a Redis server is that several hosts share, and how its password stays a secret.

The address of such a server is a URL that may hold one. It comes from a file of ours alone, from
the operator's secrets or from the environment: what stands on a command line is read by every
process of a host, and what is told of it is without it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

from rave_cli import paths
from rave_cli.errors import ExitCode, RaveError
from rave_cli.secrets import identity, store

if TYPE_CHECKING:
    from pathlib import Path

# Bytes of a URL that somebody means.
LONGEST = 4096


@dataclass(frozen=True)
class RedisAddress:
    """The URL of a server, which is in no repr, and the same for people."""

    url: str = field(repr=False)

    @property
    def shown(self) -> str:
        """The server, without what may be a password."""
        parts = urlsplit(self.url)
        host = parts.netloc.rpartition("@")[2]
        return f"{parts.scheme}://{host}{parts.path}"

    @property
    def has_password(self) -> bool:
        """Whether there is a password in it."""
        parts = urlsplit(self.url)
        return parts.password is not None or "password" in parse_qs(parts.query)


def given(url: str) -> RedisAddress:
    """Return the address that stands on a command line.

    Raises:
        RaveError: USAGE if there is a password in it.
    """
    address = RedisAddress(url)
    if address.has_password:
        raise RaveError(
            "the URL of --redis has a password, which every process of this host can read there",
            hint="--redis-file FILE, or --redis-secret NAME (rave secrets edit); and change that"
            " password",
            exit_code=ExitCode.USAGE,
        )
    return address


def of_file(file: Path) -> RedisAddress:
    """Return the address that stands in a file of ours alone.

    Raises:
        RaveError: SECRETS if others may read or write it; HOST if it cannot be read; USAGE if it
            holds no line of text.
    """
    return _read(paths.read_private(file).decode(errors="replace"), str(file))


def of_secret(name: str) -> RedisAddress:
    """Return the address that is a secret of the operator's.

    Raises:
        RaveError: SECRETS if there is none of that name, or it cannot be decrypted here.
    """
    keys = identity.load()
    opened = store.names_of(store.decrypt(store.read(store.place(None)), keys, output="json"))
    if name not in opened:
        raise RaveError(
            f"there is no secret {name}", hint="rave secrets edit", exit_code=ExitCode.SECRETS
        )
    return _read(opened[name], f"the secret {name}")


def _read(text: str, where: str) -> RedisAddress:
    words = text.split()
    if len(words) != 1 or len(text) > LONGEST:
        raise RaveError(
            f"{where} holds no URL of a Redis server",
            hint="one line: rediss://NAME:PASSWORD@HOST:6379/0",
            exit_code=ExitCode.USAGE,
        )
    return RedisAddress(words[0])
