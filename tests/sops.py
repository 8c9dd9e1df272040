"""What several secrets tests use: a small catalog, and a SOPS file that needs no sops to make."""

from __future__ import annotations

import base64
import os
from typing import TYPE_CHECKING, Any

from rave_cli import age
from rave_cli.profiles.catalog import Secret

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


def secret(owner: str = "root", **rule: Any) -> Secret:
    """Return a record of the catalog."""
    return Secret(
        description="for a test", owner=owner, mode="0400", generate=rule, refresh=(), path=None
    )


# One of each kind that is quick to make.
CATALOG = {
    "redis/password": secret(owner="redis", kind="password", length=32),
    "grafana/secret-key": secret(owner="grafana", kind="hex", bytes=32),
    "tls/certificate": secret(kind="tls-certificate", key="tls/key"),
    "tls/key": secret(kind="tls-key"),
}

RECIPIENT = age.generate().recipient


def ciphertext() -> str:
    """Return a value as sops writes an encrypted one; nothing can decrypt it."""
    data, iv, tag = (base64.b64encode(os.urandom(n)).decode() for n in (20, 32, 16))
    return f"ENC[AES256_GCM,data:{data},iv:{iv},tag:{tag},type:str]"


def stanza() -> str:
    """Return an armoured age file whose header looks right."""
    body = b"age-encryption.org/v1\n-> X25519 " + base64.b64encode(os.urandom(32)) + b"\n"
    body += base64.b64encode(os.urandom(32)) + b"\n--- " + base64.b64encode(os.urandom(32)) + b"\n"
    body += os.urandom(48)
    lines = base64.encodebytes(body).decode().replace("\n", "\n            ").rstrip()
    return (
        "-----BEGIN AGE ENCRYPTED FILE-----\n            "
        f"{lines}\n            -----END AGE ENCRYPTED FILE-----"
    )


def sops_file(
    names: Iterable[str] = CATALOG, recipients: Sequence[str] = (RECIPIENT,), extra: str = ""
) -> str:
    """Return the text of a SOPS file of the right form."""
    maps: dict[str, list[str]] = {}
    for name in names:
        first, _, rest = name.partition("/")
        maps.setdefault(first, []).append(f"    {rest}: {ciphertext()}\n")
    body = "".join(f"{first}:\n{''.join(lines)}" for first, lines in maps.items())
    keys = "".join(
        f"        - recipient: {recipient}\n          enc: |\n            {stanza()}\n"
        for recipient in recipients
    )
    return (
        f"{body}sops:\n    age:\n{keys}"
        '    lastmodified: "2026-11-20T12:00:00Z"\n'
        f"    mac: {ciphertext()}\n{extra}"
        "    unencrypted_suffix: _unencrypted\n    version: 3.11.0\n"
    )
