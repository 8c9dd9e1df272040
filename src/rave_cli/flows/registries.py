"""Reach a registry: with what somebody shows it, from wherever that is kept."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from rave_cli import paths
from rave_cli.errors import ExitCode, RaveError
from rave_cli.registry import credentials
from rave_cli.registry.repository import Repository
from rave_cli.registry.session import opened
from rave_cli.secrets import identity, store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from rave_cli.registry.credentials import Credentials
    from rave_cli.registry.reference import Reference


@dataclass(frozen=True)
class RegistryAccess:
    """How a registry is reached.

    Attributes:
        auth_file: a file of credentials as docker has it; None for the usual one, if it is there.
        auth_secret: name of a secret of the operator's file, USER:PASSWORD.
        auth_stdin: whether that is on standard input.
        ca: certificates to trust instead of this host's.
        plain: without TLS, on this host.
    """

    auth_file: Path | None = None
    auth_secret: str | None = None
    auth_stdin: bool = False
    ca: Path | None = None
    plain: bool = False


@contextmanager
def reach(reference: Reference, access: RegistryAccess, *, writes: bool) -> Iterator[Repository]:
    """Yield the repository of a reference; nothing is asked yet.

    Standard input is read now, everything else that is shown when the registry wants to see it.

    Raises:
        RaveError: SECRETS if what is on standard input is no credentials; USAGE if standard input
            is a terminal, or --ca is no file of certificates; HOST if a file cannot be read.
    """
    ca = None if access.ca is None else paths.read_trusted(access.ca).decode(errors="replace")
    given = _on_stdin() if access.auth_stdin else None
    show = partial(_shown, reference, access, given)
    with opened(reference, show, writes=writes, ca=ca, plain=access.plain) as session:
        yield Repository(session)


def _on_stdin() -> Credentials:
    if sys.stdin is None or sys.stdin.isatty():
        raise RaveError(
            "--auth-stdin reads USER:PASSWORD from standard input, which is a terminal or closed",
            hint="pass show registry | rave … --auth-stdin",
            exit_code=ExitCode.USAGE,
        )
    return credentials.of_pair(sys.stdin.buffer.read(credentials.LONGEST + 1), "standard input")


def _shown(
    reference: Reference, access: RegistryAccess, given: Credentials | None
) -> Credentials | None:
    if given is not None:
        return given
    if access.auth_secret is not None:
        return _secret(access.auth_secret)
    place = access.auth_file or credentials.default_file()
    return None if place is None else credentials.of_file(place, reference)


def _secret(name: str) -> Credentials:
    values = store.open_values(store.read(store.place(None)), identity.load()).values
    if name not in values:
        raise RaveError(
            f"there is no secret {name}", hint="rave secrets edit", exit_code=ExitCode.SECRETS
        )
    return credentials.of_pair(values[name].encode(), f"the secret {name}")
