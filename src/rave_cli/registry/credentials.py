"""What a registry is shown: from a file as docker, podman and oras keep it, or as `USER:PASSWORD`.

Source: docker's config.json ("auths"); containers-auth.json(5).
"""

from __future__ import annotations

import base64
import binascii
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rave_cli import paths
from rave_cli.errors import ExitCode, RaveError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rave_cli.registry.reference import Reference

# Bytes of a user's name and password.
LONGEST = 64 << 10
# How Docker Hub's are kept, since its first version.
_HUB = "https://index.docker.io/v1/"


@dataclass(frozen=True)
class Credentials:
    """A user's name and password, or the token that docker calls an identity token."""

    user: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)

    @property
    def basic(self) -> str:
        """How they are shown (RFC 7617)."""
        return "Basic " + base64.b64encode(f"{self.user}:{self.password}".encode()).decode()


def of_pair(data: bytes, origin: str) -> Credentials:
    """Return what `USER:PASSWORD` says; a newline behind it is none of it.

    Args:
        data: the text.
        origin: where it comes from, for people.

    Raises:
        RaveError: SECRETS if it is anything else.
    """
    try:
        user, there, password = data.decode().removesuffix("\n").removesuffix("\r").partition(":")
    except UnicodeDecodeError:
        user = there = password = ""
    if not user or not there or not password or len(data) > LONGEST:
        raise RaveError(
            f"{origin} is not USER:PASSWORD",
            hint="a token is a password, too: USER:TOKEN",
            exit_code=ExitCode.SECRETS,
        )
    return Credentials(user, password)


def default_file() -> Path | None:
    """Return the file that docker, podman and oras would read, if there is one."""
    named = os.environ.get("REGISTRY_AUTH_FILE")
    if named:
        return Path(named)
    folder = os.environ.get("DOCKER_CONFIG")
    places = (
        Path(folder) / "config.json" if folder else Path.home() / ".docker/config.json",
        paths.session_dir() / "containers/auth.json",
    )
    return next((place for place in places if place.is_file()), None)


def of_file(place: Path, reference: Reference) -> Credentials | None:
    """Return what a file has for a registry, the longest name that fits first; None if nothing.

    It is only read. Programs that it names (`credHelpers`) are not run.

    Raises:
        RaveError: SECRETS if others may read or write it, it is not understood, or a program has
            them; HOST if it cannot be read.
    """
    try:
        document = json.loads(paths.read_private(place))
    except (ValueError, RecursionError) as error:
        raise _unusable(place, "is not JSON") from error
    if not isinstance(document, dict):
        raise _unusable(place, "is not JSON as docker writes it")
    kept = document.get("auths")
    for name in _names(reference):
        entry = kept.get(name) if isinstance(kept, dict) else None
        found = _of_entry(entry, place) if isinstance(entry, dict) else None
        if found is not None:
            return found
    helper = _helper(document, reference)
    if helper is not None:
        raise RaveError(
            f"{place} leaves the credentials of {reference.registry} to a program, which rave does"
            " not run",
            hint=f"docker-credential-{helper} get   (then --auth-stdin, as USER:PASSWORD)",
            exit_code=ExitCode.SECRETS,
        )
    return None


def _names(reference: Reference) -> Iterator[str]:
    parts = [reference.registry, *reference.repository.split("/")]
    for count in range(len(parts), 0, -1):
        yield "/".join(parts[:count])
    for scheme in ("https://", "http://"):
        yield f"{scheme}{reference.registry}"
    if reference.registry == "docker.io":
        yield _HUB


def _of_entry(entry: dict[str, Any], place: Path) -> Credentials | None:
    match entry:
        case {"identitytoken": str(token)} if token:
            return Credentials(identity_token=token)
        case {"auth": str(packed)} if packed:
            try:
                return of_pair(base64.b64decode(packed, validate=True), f"an entry of {place}")
            except binascii.Error as error:
                raise _unusable(place, "holds an entry that is not base64") from error
        case {"username": str(user), "password": str(password)} if user and password:
            return Credentials(user, password)
    return None


def _helper(document: dict[str, Any], reference: Reference) -> str | None:
    match document:
        case {"credHelpers": dict(helpers)} if isinstance(
            helper := helpers.get(reference.registry), str
        ):
            return helper
        case {"credsStore": str(helper)} if helper:
            return helper
    return None


def _unusable(place: Path, why: str) -> RaveError:
    return RaveError(
        f"the file of credentials {place} {why}",
        hint="docker login; or --auth-secret NAME, or --auth-stdin",
        exit_code=ExitCode.SECRETS,
    )
