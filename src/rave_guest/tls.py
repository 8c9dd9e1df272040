"""The certificate of this machine's pages, which its host makes: put in its place, and shown.

It comes with the boot (infra/debian/services/nginx), with what makes a copy of a template itself
(held.py), and by the verb certificate while the machine runs: then nginx takes it up at once.
"""

from __future__ import annotations

import os

from rave_guest.refusal import Refused
from rave_guest.system import run

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

PLACE = "/run/rave/tls"
KEY, CHAIN = "machine.key", "machine.crt"
# What nginx is told to show.
LINKS = {"current.key": KEY, "current.crt": CHAIN}
UNIT = "nginx.service"

LONGEST = 64 << 10  # characters; a long chain of RSA keys has a tenth of that
TIMEOUT = 30.0  # seconds for nginx to take it up


def verb(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Show another certificate from now on; tells whether it is another one.

    Raises:
        Refused: it is none, or nginx does not take it up; the one of before stays then.
    """
    key, chain = asked(arguments)
    if not os.path.isdir(PLACE):
        raise Refused("request", "this guest has no pages to show it on")
    refuse_misfit(key, chain)
    before = _read(KEY), _read(CHAIN)
    if before == (key, chain) and _shows():
        return {"changed": False}
    put(key, chain)
    try:
        _reload()
    except Refused:
        if all(before):
            put(*before)
        raise
    return {"changed": True}


def asked(found: object) -> tuple[str, str]:
    """Return a key and the chain of its certificate.

    Raises:
        Refused: it is something else.
    """
    if not isinstance(found, dict) or set(found) != {"key", "chain"}:
        raise Refused("request", "a certificate is a key and a chain")
    key, chain = found["key"], found["chain"]
    for text, begins in ((key, "-----BEGIN "), (chain, "-----BEGIN CERTIFICATE-----")):
        fits = isinstance(text, str) and text.isascii() and len(text) <= LONGEST
        if not fits or not text.startswith(begins):
            raise Refused("request", "a key and a chain are text in PEM")
    return key, chain


def refuse_misfit(key: str, chain: str) -> None:
    """Refuse what nginx could not show.

    Raises:
        Refused: the key is not the one of the certificate, or one of them is none.
    """
    import ssl

    fd = os.memfd_create("certificate", os.MFD_CLOEXEC)
    try:
        os.write(fd, (key + chain).encode())
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(f"/proc/self/fd/{fd}")
    except ssl.SSLError as error:
        raise Refused("certificate", f"key and certificate do not fit: {error.reason}") from error
    finally:
        os.close(fd)


def put(key: str, chain: str) -> None:
    """Put a certificate in its place; nginx shows it at its next start or reload."""
    # On some bases nginx starts without privileges.
    try:
        owner = os.stat(f"{PLACE}/current.key")
        uid, gid = owner.st_uid, owner.st_gid
    except FileNotFoundError:
        uid, gid = os.getuid(), os.getgid()
    for name, text, mode in ((KEY, key, 0o600), (CHAIN, chain, 0o644)):
        path = f"{PLACE}/{name}"
        _remove(f"{path}.new")
        fd = os.open(f"{path}.new", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        try:
            os.fchown(fd, uid, gid)
            os.write(fd, text.encode())
        finally:
            os.close(fd)
        os.rename(f"{path}.new", path)
    for link, name in LINKS.items():
        if not os.path.islink(f"{PLACE}/{link}") or os.readlink(f"{PLACE}/{link}") != name:
            _remove(f"{PLACE}/{link}")
            os.symlink(name, f"{PLACE}/{link}")


def clear() -> None:
    """Remove every certificate, as of another machine."""
    for name in os.listdir(PLACE):
        _remove(f"{PLACE}/{name}")


def _shows() -> bool:
    return all(
        os.path.islink(f"{PLACE}/{link}") and os.readlink(f"{PLACE}/{link}") == name
        for link, name in LINKS.items()
    )


def _read(name: str) -> str:
    try:
        with open(f"{PLACE}/{name}", encoding="ascii") as stream:
            return stream.read()
    except OSError:
        return ""


def _reload() -> None:
    try:
        done = run(["systemctl", "reload", UNIT], TIMEOUT)
    except TimeoutError as error:
        raise Refused("reload", f"nginx did not take it up within {TIMEOUT:g} s") from error
    if done.returncode:
        said = done.stderr.strip().splitlines() or ["it does not say why"]
        raise Refused("reload", f"nginx does not take it up: {said[-1][:200]}")


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        return
