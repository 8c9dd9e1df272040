"""Keeps secrets out of what leaves this host: those that are known, and what looks like one."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rave_cli import paths
from rave_cli.errors import RaveError
from rave_cli.machines import certificate, store
from rave_cli.secrets import identity
from rave_cli.secrets import store as secrets_store
from rave_cli.text import clean
from rave_cli.transcript import signing
from rave_cli.transcript.redaction import MARK, Redactor

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# The private halves among a machine's keys.
PRIVATE = ("ssh_host_ed25519_key", "id_ed25519", "age.key")

_NAMED = "(?:pass(?:word|wd|phrase)?|secret|token|api[_-]?key|private[_-]?key|credential)s?"

# What looks like a secret, whoever's it is. The group `keep` stays. Repetitions before the secret
# itself are bounded: a guest chooses the text, and must not choose the time that this takes.
_LOOKS = tuple(
    re.compile(pattern, re.IGNORECASE | re.DOTALL)
    for pattern in (
        r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY( BLOCK)?-----.*?(-----END [A-Z0-9 ]{0,40}-----|\Z)",
        r"AGE-SECRET-KEY-(PQ-)?1[0-9A-Z]+",
        r"(?P<keep>\b[a-z][a-z0-9+.-]{1,20}://[^\s:/@]{0,64}:)[^\s/@]{1,256}(?=@)",
        r"(?P<keep>\bauthorization\s{0,8}[:=]\s{0,8}(?:bearer|basic|token)?\s{0,8})[^\s'\"]+",
        r"(?P<keep>\bbearer\s{1,8})[A-Za-z0-9._~+/=-]{8,}",
        r"\beyJ[A-Za-z0-9_-]{8,1024}\.[A-Za-z0-9_-]{8,4096}\.[A-Za-z0-9_-]*",
        r"\b(?:glpat|ghp|gho|ghs|github_pat|xox[abpr]|sk|AKIA)[-_]?[A-Za-z0-9_-]{16,}",
        r"\$(?:1|2[aby]|5|6|7|y|argon2[a-z]{0,2})\$[^\s:]{8,}",
        rf"(?P<keep>{_NAMED}[\"']?\s{{0,8}}[=:]\s{{0,8}}[\"']?)(?!\s)[^\s\"',;&]{{4,}}",
    )
)


@dataclass
class Hiding:
    """Replaces secrets in text, and counts how often it had to.

    `unknown` says which secrets could not be learned: those are only found by what they look like.
    """

    redactor: Redactor
    unknown: list[str] = field(default_factory=list)
    looked: int = 0

    @property
    def count(self) -> int:
        """How often something was replaced."""
        return self.redactor.count + self.looked

    def known(self, text: str) -> str:
        """Return text of ours without control characters and the secrets that are known."""
        return self.redactor.text(clean(text))

    def text(self, text: str) -> str:
        """Return anybody's text without control characters, secrets, and what looks like one."""
        text = self.known(text)
        for pattern in _LOOKS:
            text, found = pattern.subn(_kept, text)
            self.looked += found
        return text


def _kept(found: re.Match[str]) -> str:
    return (found.groupdict().get("keep") or "") + MARK


def learn(directory: Path) -> Hiding:
    """Return what hides the secrets of the machine in a directory and of the operator.

    What cannot be opened is named in `unknown`; nothing is raised for it.
    """
    hiding = Hiding(Redactor())
    for name in PRIVATE:
        hiding.redactor.learn(_read(directory / "identity" / name, hiding))
    hiding.redactor.learn(_certificate(directory / "identity" / certificate.RECORD, hiding))
    hiding.redactor.learn(_operators(hiding))
    hiding.redactor.learn(_instance(directory / store.RECORD))
    hiding.redactor.learn(_read(signing.default_path(), hiding))
    return hiding


def _read(place: Path, hiding: Hiding) -> list[bytes]:
    try:
        return [paths.read_private(place)] if place.exists() else []
    except (RaveError, OSError) as error:
        hiding.unknown.append(f"{place}: {error}")
        return []


def _certificate(record: Path, hiding: Hiding) -> list[bytes]:
    """Return the key in the record of a machine's certificate."""
    for data in _read(record, hiding):
        try:
            return [certificate.CERTIFICATE.parse(data, record, hint="").key.encode()]
        except RaveError as error:
            hiding.unknown.append(f"{record}: {error.message}")
    return []


def _instance(record: Path) -> list[bytes]:
    """Return what tells a machine's answers from another's, whatever else its record says."""
    try:
        return re.findall(rb'"instance_id"\s*:\s*"([^"]+)"', record.read_bytes())
    except OSError:
        return []


def _operators(hiding: Hiding) -> Iterator[bytes]:
    """Yield the operator's age identities and the values of the secrets file."""
    file = secrets_store.default_file()
    try:
        keys = identity.find()
        if keys is None:
            return
        yield from (line for line in keys.text.splitlines() if not line.startswith(b"#"))
        if file.exists():
            yield from (
                value.encode()
                for value in secrets_store.open_values(
                    secrets_store.read(file), keys
                ).values.values()
            )
    except RaveError as error:
        hiding.unknown.append(f"{file}: {error.message}")
