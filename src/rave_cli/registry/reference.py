"""Names of what lies in a registry: `oci://REGISTRY[:PORT]/REPOSITORY[:TAG][@sha256:DIGEST]`.

The grammar is that of distribution's references, with the registry always said: a name without one
would mean another's in another program.

Source: github.com/distribution/reference, regexp.go; OCI distribution spec 1.1, "Pull".
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, replace

from rave_cli.errors import ExitCode, RaveError
from rave_cli.text import cell

SCHEME = "oci://"
LATEST = "latest"
# Characters of a repository's name, its registry included.
LONGEST = 255

_LABEL = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_HOST = rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9a-fA-F:]+\])"
_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REFERENCE = re.compile(
    rf"(?P<registry>{_HOST}(?::[0-9]+)?)/(?P<repository>{_PART}(?:/{_PART})*)"
    r"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}))?"
    r"(?:@(?P<digest>sha256:[0-9a-f]{64}))?"
)
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")

# Whose API answers under another name than what it keeps is called by.
_API = {"docker.io": "registry-1.docker.io"}


@dataclass(frozen=True)
class Reference:
    """A place in a registry.

    Attributes:
        registry: host and port.
        repository: what holds the manifests.
        tag: a name in it, which anybody who may push can give to something else.
        digest: of a manifest, as `sha256:HEX`; what it names cannot change.
    """

    registry: str
    repository: str
    tag: str | None = None
    digest: str | None = None

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return f"{SCHEME}{self.registry}/{self.repository}{tag}{digest}"

    @property
    def api(self) -> str:
        """Host and port of its API."""
        return _API.get(self.registry, self.registry)

    @property
    def wanted(self) -> str:
        """What to ask the registry for: the digest if there is one."""
        return self.digest or self.tag or LATEST

    @property
    def loopback(self) -> bool:
        """Whether it is on this host."""
        host = self.registry.rpartition(":")[0] if _port(self.registry) else self.registry
        if host == "localhost":
            return True
        try:
            return ipaddress.ip_address(host.strip("[]")).is_loopback
        except ValueError:
            return False

    def at(self, digest: str) -> Reference:
        """Return it with a digest."""
        return replace(self, digest=digest)


def parse(text: str) -> Reference:
    """Return the reference that a text is.

    Raises:
        RaveError: USAGE if it is none.
    """
    found = _REFERENCE.fullmatch(text.removeprefix(SCHEME)) if text.startswith(SCHEME) else None
    if found is None or not _sound(found):
        raise RaveError(
            f"{cell(text)[:LONGEST]!r} names nothing in a registry",
            hint="oci://REGISTRY[:PORT]/REPOSITORY[:TAG], in small letters; as"
            " oci://registry.example.org/team/app:1.0",
            exit_code=ExitCode.USAGE,
        )
    return Reference(**found.groupdict())


def _sound(found: re.Match[str]) -> bool:
    """Return whether what the grammar lets through can be asked: a port that there is, an address
    that is one.
    """
    registry = found["registry"]
    if len(registry) + 1 + len(found["repository"]) > LONGEST:
        return False
    port = _port(registry)
    if port and not 0 < int(port) < 1 << 16:
        return False
    if registry.startswith("["):
        try:
            ipaddress.IPv6Address(registry[1 : registry.index("]")])
        except ValueError:
            return False
    return True


def _port(registry: str) -> str:
    _, there, port = registry.rpartition(":")
    return port if there and not port.endswith("]") else ""
