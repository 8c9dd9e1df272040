"""The key that signs transcripts: an Ed25519 key file of OpenSSH, made on first use.

Beside it lie its public forms, for the verifiers: `.pub`, `.pub.pem` and `allowed_signers`.
"""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass, replace
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_ssh_private_key,
)

from rave_cli.errors import ExitCode, RaveError
from rave_cli.paths import (
    atomic_write,
    config_dir,
    private_dir,
    read_private,
    read_trusted,
    refusing,
    sync_dir,
)
from rave_cli.transcript import sshsig

VARIABLE = "RAVE_SIGNING_KEY"
PRINCIPAL = "rave"


@dataclass(frozen=True)
class SigningKey:
    """A signing key. `created` tells that it did not exist before, which the user should know."""

    private: Ed25519PrivateKey
    path: Path
    created: bool = False

    @property
    def public(self) -> Ed25519PublicKey:
        """The public half."""
        return self.private.public_key()

    @property
    def fingerprint(self) -> str:
        """What `ssh-keygen -l` calls the key."""
        return sshsig.fingerprint(self.public)

    @property
    def public_file(self) -> Path:
        """Where the OpenSSH public key lies."""
        return self.path.with_name(f"{self.path.name}.pub")

    @property
    def pem_file(self) -> Path:
        """Where the public key lies as PEM, for openssl and cosign."""
        return self.path.with_name(f"{self.path.name}.pub.pem")

    @property
    def allowed_signers_file(self) -> Path:
        """Where the list lies that `ssh-keygen -Y verify` wants."""
        return self.path.with_name("allowed_signers")


def default_path() -> Path:
    """Return where the signing key lies unless somebody says otherwise."""
    return config_dir() / "signing" / "id_ed25519"


def signing_key(path: Path | None = None) -> SigningKey:
    """Return the key to sign with: `path`, else `$RAVE_SIGNING_KEY`, else the default one.

    Only the default key is created when it is missing; its public forms are written beside it.

    Raises:
        RaveError: SECRETS if the key must not be used (readable by others, a symlink, somebody
            else's, with a passphrase, not Ed25519); HOST if a file cannot be read or written.
    """
    named = path or (Path(value) if (value := os.environ.get(VARIABLE)) else None)
    if named is not None:
        return load(named)
    default = default_path()
    private_dir(default.parent)
    created = _create(default)
    key = replace(load(default), created=created)
    publish(key)
    return key


def load(path: Path) -> SigningKey:
    """Read a signing key that must exist.

    Raises:
        RaveError: SECRETS if the key must not be used; HOST if it cannot be read.
    """
    data = read_private(path)
    try:
        key = load_ssh_private_key(data, password=None)
    except TypeError as error:
        raise _unusable(path, "has a passphrase", f"ssh-keygen -p -N '' -f {path}") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise _unusable(path, "is not a private key in OpenSSH's format") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise _unusable(path, "is not an Ed25519 key")
    return SigningKey(key, path)


def publish(key: SigningKey) -> None:
    """Write the public forms of a key beside it, where they are missing or differ.

    An `allowed_signers` that already names the key is left alone: its owner may have limited it.

    Raises:
        RaveError: SECRETS if somebody else may have written one; HOST if a file cannot be written.
    """
    for path, text in (
        (key.public_file, f"{sshsig.public_line(key.public)} {PRINCIPAL}\n"),
        (key.pem_file, public_pem(key.public)),
    ):
        if _content(path) != text:
            atomic_write(path, text.encode())
    known = _content(key.allowed_signers_file)
    if sshsig.public_line(key.public) not in known:
        atomic_write(key.allowed_signers_file, (known + allowed_signer(key.public)).encode())


def public_pem(key: Ed25519PublicKey) -> str:
    """Return a public key as PEM (SubjectPublicKeyInfo)."""
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def allowed_signer(key: Ed25519PublicKey, principal: str = PRINCIPAL) -> str:
    """Return a line of `allowed_signers` that trusts a key for transcripts only."""
    return f'{principal} namespaces="{sshsig.NAMESPACE}" {sshsig.public_line(key)}\n'


def _create(path: Path) -> bool:
    """Make a key at `path` unless there is one; return whether this call made it."""
    if os.path.lexists(path):
        return False
    data = Ed25519PrivateKey.generate().private_bytes(
        Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()
    )
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    with refusing(path):
        try:
            fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with os.fdopen(fd, "wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(fd)
            # A link, unlike a rename, never replaces the key that another rave made meanwhile.
            os.link(temporary, path)
        except FileExistsError:
            return False
        finally:
            temporary.unlink(missing_ok=True)
        sync_dir(path.parent)
    return True


def _unusable(path: Path, why: str, hint: str | None = None) -> RaveError:
    return RaveError(
        f"the signing key {path} {why}",
        hint=hint or "ssh-keygen -t ed25519 -N '' -f ANOTHER_PLACE",
        exit_code=ExitCode.SECRETS,
    )


def _content(path: Path) -> str:
    """Return the text of a public file, or nothing if there is none."""
    with refusing(path):
        if not path.exists():
            return ""
    return read_trusted(path, exit_code=ExitCode.SECRETS).decode(errors="replace")
