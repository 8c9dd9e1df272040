"""Whom a verifier trusts: a public key or an `allowed_signers` file, always from outside the set.

Source: "ALLOWED SIGNERS" in ssh-keygen(1) and "PATTERNS" in ssh_config(5).
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from rave_cli.errors import ExitCode, RaveError
from rave_cli.paths import read_trusted
from rave_cli.transcript import sshsig
from rave_cli.transcript.canonical import DamagedError

if TYPE_CHECKING:
    from pathlib import Path

LARGEST_FILE = 1 << 20

# A field is a run of anything but blanks, in which blanks may stand between double quotes.
FIELD = re.compile(r'(?:"[^"]*"|[^\s"])+')
OPTION = re.compile(r'([A-Za-z-]+)(?:="([^"]*)")?(?:,|$)')
TIME_FORMATS = {8: "%Y%m%d", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S"}


@dataclass(frozen=True)
class TrustedKey:
    """A key whose signatures are believed, and within which limits.

    Args:
        public: the key.
        principals: the names it signs as, as the file has them.
        namespaces: pattern list that the signature's namespace must match; None for any.
        valid_after: from when on the key is valid; None for always.
        valid_before: until when.
    """

    public: Ed25519PublicKey
    principals: str = ""
    namespaces: str | None = None
    valid_after: datetime | None = None
    valid_before: datetime | None = None

    @property
    def fingerprint(self) -> str:
        """What `ssh-keygen -l` calls the key."""
        return sshsig.fingerprint(self.public)

    def verifies(self, signature: bytes, message: bytes) -> bool:
        """Return whether `signature` is this key's over `message`."""
        try:
            self.public.verify(signature, message)
        except InvalidSignature:
            return False
        return True

    def valid_at(self, moment: datetime) -> bool:
        """Return whether the key was valid then."""
        return not (
            (self.valid_after is not None and moment < self.valid_after)
            or (self.valid_before is not None and moment > self.valid_before)
        )


def trusted_keys(
    key: Path | None,
    allowed_signers: Path | None,
    principal: str | None,
    *,
    command: str = "rave smoke verify FILE",
) -> tuple[TrustedKey, ...]:
    """Return the keys of which one must have signed: `key`, or those of `allowed_signers`, of which
    `principal` may be demanded. `command` is what a hint adds a list of signers to.

    Raises:
        RaveError: USAGE unless exactly one of the two is given and can be used.
    """
    if key is not None and allowed_signers is None and principal is None:
        return (load_key(key),)
    if allowed_signers is not None and key is None:
        return load_allowed_signers(allowed_signers, principal)
    raise RaveError(
        "a transcript is verified against one trusted key or one list of allowed signers",
        hint=f"{command} --allowed-signers ~/.config/rave/signing/allowed_signers",
        exit_code=ExitCode.USAGE,
    )


def load_key(path: Path) -> TrustedKey:
    """Read one public key: PEM (SubjectPublicKeyInfo) or an OpenSSH `.pub` file.

    Raises:
        RaveError: USAGE if the file is not one Ed25519 public key, or somebody else may have
            written it; HOST if it cannot be read.
    """
    text = _read(path)
    if "PRIVATE KEY" in text:
        raise _unusable(path, "is a private key; trust is given to the public one", f"{path}.pub")
    if text.lstrip().startswith("-----BEGIN"):
        return TrustedKey(_pem(path, text))
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    words = lines[0].split() if len(lines) == 1 else []
    if len(words) < 2 or words[0] != sshsig.KEY_TYPE.decode():
        raise _unusable(path, "is not one Ed25519 public key (PEM or OpenSSH)")
    try:
        return TrustedKey(_key(words[1]), principals=" ".join(words[2:]))
    except DamagedError as error:
        raise _unusable(path, f"is damaged: {error}") from error


def load_allowed_signers(path: Path, principal: str | None = None) -> tuple[TrustedKey, ...]:
    """Read the Ed25519 keys of an `allowed_signers` file that may sign transcripts.

    Keys of other types and certificate authorities are passed over, since they cannot have signed
    a transcript; anything that cannot be understood is refused rather than passed over.

    Args:
        path: the file.
        principal: only keys that sign under this name; None for all.

    Raises:
        RaveError: USAGE if a line cannot be understood, no key is left, or somebody else may have
            written the file; HOST if it cannot be read.
    """
    keys = []
    for number, line in enumerate(_read(path).splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        try:
            key = _signer(line)
        except DamagedError as error:
            raise _unusable(path, f"cannot be understood: line {number} {error}") from error
        if key is None or not _matches(sshsig.NAMESPACE, key.namespaces):
            continue
        if principal is None or _matches(principal, key.principals):
            keys.append(key)
    if not keys:
        who = "anybody" if principal is None else principal
        raise _unusable(path, f"has no Ed25519 key with which {who} may sign transcripts")
    return tuple(keys)


def _signer(line: str) -> TrustedKey | None:
    """Return the key of a line, or None if it is of a kind that cannot sign a transcript."""
    fields = FIELD.findall(line)
    if "".join(fields) != re.sub(r'("[^"]*")|\s', r"\1", line):
        raise DamagedError("has an open quote")
    if len(fields) < 3:
        raise DamagedError("has fewer than three fields")
    principals, rest = fields[0].strip('"'), fields[1:]
    options: dict[str, str] = {}
    if not _is_key_type(rest[0]):
        options, rest = _options(rest[0]), rest[1:]
    if len(rest) < 2 or not _is_key_type(rest[0]):
        raise DamagedError("has no key")
    if rest[0] != sshsig.KEY_TYPE.decode() or "cert-authority" in options:
        return None
    key = TrustedKey(
        _key(rest[1]),
        principals=principals,
        namespaces=options.get("namespaces"),
        valid_after=_time(options.get("valid-after")),
        valid_before=_time(options.get("valid-before")),
    )
    if key.valid_after and key.valid_before and key.valid_before <= key.valid_after:
        raise DamagedError("has a valid-before that is not later than its valid-after")
    return key


def _is_key_type(word: str) -> bool:
    return word.startswith(("ssh-", "ecdsa-", "sk-ssh-", "sk-ecdsa-"))


def _options(text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    at = 0
    while at < len(text):
        option = OPTION.match(text, at)
        if option is None:
            raise DamagedError(f"has options that cannot be read: {text!r}")
        name = option[1].lower()
        if name not in {"cert-authority", "namespaces", "valid-after", "valid-before"}:
            raise DamagedError(f"has an unknown option: {name}")
        if name in found:
            raise DamagedError(f"has the option {name} twice")
        found[name] = option[2] or ""
        at = option.end()
    return found


def _time(text: str | None) -> datetime | None:
    if text is None:
        return None
    digits = text.removesuffix("Z")
    layout = TIME_FORMATS.get(len(digits))
    if layout is None or not digits.isdigit():
        raise DamagedError(f"has a time that cannot be read: {text!r}")
    try:
        moment = datetime.strptime(digits, layout)
    except ValueError as error:
        raise DamagedError(f"has a time that cannot be read: {text!r}") from error
    return moment.replace(tzinfo=UTC) if text.endswith("Z") else moment.astimezone()


def _matches(name: str, patterns: str | None) -> bool:
    """Return whether a name matches a pattern list; a negated match wins."""
    if patterns is None:
        return True
    matched = False
    for pattern in patterns.split(","):
        glob = pattern.removeprefix("!").replace("[", "[[]")
        if fnmatchcase(name, glob):
            if pattern.startswith("!"):
                return False
            matched = True
    return matched


def _key(encoded: str) -> Ed25519PublicKey:
    try:
        blob = base64.b64decode(encoded, validate=True)
        key = Ed25519PublicKey.from_public_bytes(blob[-32:])
    except (binascii.Error, ValueError) as error:
        raise DamagedError("has a key that cannot be read") from error
    if sshsig.public_blob(key) != blob:
        raise DamagedError("has a key that cannot be read")
    return key


def _pem(path: Path, text: str) -> Ed25519PublicKey:
    try:
        key = load_pem_public_key(text.encode())
    except (ValueError, UnsupportedAlgorithm) as error:
        raise _unusable(path, "is not a public key in PEM") from error
    if not isinstance(key, Ed25519PublicKey):
        raise _unusable(path, "is not an Ed25519 key")
    return key


def _read(path: Path) -> str:
    raw = read_trusted(path, exit_code=ExitCode.USAGE)
    if len(raw) > LARGEST_FILE:
        raise _unusable(path, "is too large to be a key file")
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise _unusable(path, "is not a text file") from error


def _unusable(path: Path, why: str, hint: str | None = None) -> RaveError:
    return RaveError(
        f"{path} {why}",
        hint=hint or "ssh-keygen -l -f KEY.pub shows what a key file holds",
        exit_code=ExitCode.USAGE,
    )
