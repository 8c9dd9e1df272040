"""age identities: an X25519 key pair written in Bech32.

Sources of the format: the age specification (https://age-encryption.org/v1, "The X25519 recipient
type") and BIP 173 for Bech32.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from rave_cli.errors import ExitCode, RaveError

_CHARSET = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_GENERATORS = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)
_SECRET_HRP = "age-secret-key-"  # noqa: S105 - a prefix, not a secret
_RECIPIENT_HRP = "age"
_PLUGIN = re.compile(r"AGE-PLUGIN-([A-Z0-9+._-]+?)-1")
_ENCRYPTED = (
    "an identity that is encrypted with a passphrase, which rave does not ask for",
    "let a command decrypt it: SOPS_AGE_KEY_CMD='age --decrypt KEYFILE' rave secrets …",
)
# What sops takes for a key file, too, by its beginning.
_OTHER_FILES = (
    ("-----BEGIN AGE ENCRYPTED FILE-----", *_ENCRYPTED),
    ("age-encryption.org/", *_ENCRYPTED),
    (
        "-----BEGIN ",
        "an SSH or other key in PEM; rave uses age identities alone, which sops-nix can read",
        "age-keygen -o KEYFILE, and have its recipient added to .sops.yaml",
    ),
)


@dataclass(frozen=True)
class Identity:
    """An age key pair. `secret` is the AGE-SECRET-KEY-1 line and stays out of every repr."""

    secret: str = field(repr=False)
    recipient: str

    def file_text(self) -> bytes:
        """Return the pair as an age key file, as age-keygen writes it."""
        return f"# public key: {self.recipient}\n{self.secret}\n".encode()


def generate() -> Identity:
    """Return a new random identity."""
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

    return _identity(X25519PrivateKey.generate().private_bytes_raw())


def parse_identity(secret: str) -> Identity:
    """Read an AGE-SECRET-KEY-1 line.

    Raises:
        RaveError: SECRETS if it is not one. The message never repeats the text.
    """
    try:
        # age writes secret keys in upper case only.
        return _identity(_decode(_SECRET_HRP, secret if secret.isupper() else ""))
    except ValueError as error:
        raise RaveError(
            f"this is not an age secret key: {error}",
            hint="an age secret key is one line that starts with AGE-SECRET-KEY-1",
            exit_code=ExitCode.SECRETS,
        ) from error


@dataclass(frozen=True)
class KeyText:
    """What an age key file holds: identities that rave can use, and in words those it cannot."""

    identities: tuple[Identity, ...]
    unused: tuple[str, ...]


def parse_keys(text: str, *, by_word: bool = False) -> KeyText:
    """Read an age key file; comments, empty lines and a byte order mark are skipped.

    Args:
        text: its content.
        by_word: whether a line may hold several identities, as in SOPS_AGE_KEY.

    Raises:
        RaveError: SECRETS if a line is no identity, or the file is encrypted or an SSH key. The
            message names the line and never repeats it.
    """
    text = text.removeprefix("\ufeff")
    _refuse_other_files(text)
    identities, unused = [], []
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        for word in stripped.split() if by_word else [stripped]:
            what = _unusable(word)
            if what is not None:
                unused.append(f"line {number}: {what}")
                continue
            try:
                identities.append(parse_identity(word))
            except RaveError as error:
                raise RaveError(
                    f"line {number}: {error.message}", hint=error.hint, exit_code=error.exit_code
                ) from error
    return KeyText(tuple(identities), tuple(unused))


def parse_identities(text: str) -> tuple[Identity, ...]:
    """Read every X25519 identity of an age key file.

    Raises:
        RaveError: SECRETS as `parse_keys`, or if there is none.
    """
    found = parse_keys(text)
    if not found.identities:
        unused = f" that rave can use ({'; '.join(found.unused)})" if found.unused else ""
        raise RaveError(
            f"the age key file holds no identity{unused}",
            hint="rave uses identities that begin with AGE-SECRET-KEY-1, as age-keygen makes them",
            exit_code=ExitCode.SECRETS,
        )
    return found.identities


def _unusable(word: str) -> str | None:
    """Return what kind of identity this is if sops could use it and rave cannot."""
    plugin = _PLUGIN.match(word)
    if plugin is not None:
        return f"an identity of age-plugin-{plugin[1].lower()}"
    return "a post-quantum identity" if word.startswith("AGE-SECRET-KEY-PQ-1") else None


def _refuse_other_files(text: str) -> None:
    for beginning, what, hint in _OTHER_FILES:
        if text.startswith(beginning):
            raise RaveError(f"this is {what}", hint=hint, exit_code=ExitCode.SECRETS)


def check_recipient(text: str) -> str | None:
    """Return why `text` is not an age X25519 recipient (age1...), or None if it is one."""
    if text.startswith("age1") and text.count("1") > 1:
        return "it is one of a plugin or a post-quantum one, which rave does not use"
    try:
        # age writes recipients in lower case only.
        _decode(_RECIPIENT_HRP, text if text.islower() else "")
    except ValueError as error:
        return str(error)
    return None


def _identity(private: bytes) -> Identity:
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

    public = X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()
    return Identity(
        secret=_encode(_SECRET_HRP, private).upper(), recipient=_encode(_RECIPIENT_HRP, public)
    )


def _polymod(values: list[int]) -> int:
    check = 1
    for value in values:
        top = check >> 25
        check = (check & 0x1FFFFFF) << 5 ^ value
        for bit, generator in enumerate(_GENERATORS):
            check ^= generator if top >> bit & 1 else 0
    return check


def _expand(hrp: str) -> list[int]:
    return [ord(c) >> 5 for c in hrp] + [0] + [ord(c) & 31 for c in hrp]


def _encode(hrp: str, data: bytes) -> str:
    bits = int.from_bytes(data, "big")
    length = -(-len(data) * 8 // 5)
    bits <<= length * 5 - len(data) * 8
    words = [bits >> 5 * (length - 1 - i) & 31 for i in range(length)]
    check = _polymod([*_expand(hrp), *words, 0, 0, 0, 0, 0, 0]) ^ 1
    words += [check >> 5 * (5 - i) & 31 for i in range(6)]
    return f"{hrp}1{''.join(_CHARSET[word] for word in words)}"


def _decode(hrp: str, text: str) -> bytes:
    """Return the 32 bytes behind a Bech32 text, or raise ValueError saying what is wrong."""
    folded = text.lower()
    prefix = f"{hrp}1"
    if not folded.startswith(prefix):
        raise ValueError(f"it does not start with {prefix}")
    if any(c not in _CHARSET for c in folded[len(prefix) :]):
        raise ValueError("it has a character that Bech32 does not use")
    words = [_CHARSET.index(c) for c in folded[len(prefix) :]]
    if _polymod([*_expand(hrp), *words]) != 1:
        raise ValueError("its checksum is wrong")
    payload = words[:-6]
    padding = len(payload) * 5 - 256
    if not 0 <= padding < 5:
        raise ValueError("it has the wrong length")
    bits = sum(word << 5 * (len(payload) - 1 - i) for i, word in enumerate(payload))
    if bits & (1 << padding) - 1:
        raise ValueError("its padding is not zero")
    return (bits >> padding).to_bytes(32, "big")
