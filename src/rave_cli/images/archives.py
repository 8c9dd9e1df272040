"""Where the guest's packages come from: the lock's suites and keys, at an address of this host's.

Whom apt believes is the lock's business alone: exactly the named suites, signed by the named keys.
Only the address is taken from the host, so a host of any release builds the same guest, and no
other repository of the host can have a part in it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from rave_cli import paths
from rave_cli.errors import ExitCode, RaveError
from rave_cli.images.openpgp import MalformedKeyError, armor, read_keys

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from rave_cli.images.lock import Archive

HOST_SOURCES = Path("/etc/apt")
SECURITY = "debian-security"

# What Debian itself names where nobody says anything (https://www.debian.org/mirror/list).
DEFAULTS = {
    "debian": "http://ftp.debian.org/debian",
    SECURITY: "http://security.debian.org/debian-security",
}

# Priorities of apt's preferences: no version is taken; as of any other archive.
NEVER, AS_ANY_OTHER = -1, 500

_CODENAME = (
    r"(bullseye|bookworm|trixie|forky|duke|sid|stable|oldstable|oldoldstable|testing|unstable)"
)
_SUITES = {
    "debian": re.compile(rf"^{_CODENAME}(-updates|-backports|-proposed-updates)?/?$"),
    SECURITY: re.compile(rf"^{_CODENAME}-security/?$"),
}
_ONE_LINE = re.compile(
    r"^deb\s+(?:\[(?P<options>[^]]*)\]\s+)?(?P<uri>\S+)\s+(?P<suite>\S+)(?P<components>.*)$"
)


@dataclass(frozen=True)
class Sources:
    """What the operator says about package archives; empty means: as the distribution does.

    Attributes:
        mirror: address of a mirror, and after a space that of its security archive, which
            otherwise is expected beside it.
        snapshot: address of a dated archive, in which `debian/20261120T120000Z` lies.
        keyring: file with keys to trust beside the distribution's.
    """

    mirror: str = ""
    snapshot: str = ""
    keyring: str = ""


@dataclass(frozen=True)
class MirrorAddress:
    """Where an archive is read from, and who says so."""

    uri: str
    origin: str


@dataclass(frozen=True)
class HostSource:
    """A suite of one of the host's package sources. `keyring` is empty if it names none."""

    uri: str
    suite: str
    components: tuple[str, ...]
    keyring: str


def addresses(
    archives: Iterable[Archive], sources: Sources, host: Path | None = None
) -> dict[str, MirrorAddress]:
    """Return where each archive is read from: as the operator says, as the host does, or Debian's.

    Args:
        archives: of the lock.
        sources: what the operator says.
        host: the host's apt configuration; None means HOST_SOURCES.

    Raises:
        RaveError: USAGE if the operator's address is none.
    """
    entries = host_entries(host or HOST_SOURCES)
    return {
        archive.name: _own(archive) or _address(archive.name, sources, entries)
        for archive in archives
    }


def dated(archives: Iterable[Archive], snapshot: str, stamp: str) -> dict[str, MirrorAddress]:
    """Return where each archive lies as it was at a time, in the dated archive at `snapshot`; a
    maker's is where it always is.
    """
    base = _checked("RAVE_DEBIAN_SNAPSHOT", snapshot)
    return {
        archive.name: _own(archive)
        or MirrorAddress(f"{base}/{archive.name}/{stamp}", "RAVE_DEBIAN_SNAPSHOT")
        for archive in archives
    }


def stanzas(
    archives: Iterable[Archive],
    places: Mapping[str, MirrorAddress],
    keys: Mapping[str, bytes],
    trusted: Sequence[str] = (),
) -> str:
    """Return apt's sources (deb822) for the archives: nothing else is asked, nobody else believed.

    Args:
        archives: of the lock.
        places: where each is read from.
        keys: the keys at hand, by fingerprint.
        trusted: fingerprints of keys that count beside those of the distribution's archives.

    Raises:
        RaveError: HOST if a named key is not at hand.
    """  # fmt: skip
    return "\n".join(
        f"Types: deb\nURIs: {places[archive.name].uri}\nSuites: {' '.join(archive.suites)}\n"
        f"Components: {' '.join(archive.components)}\n"
        f"Signed-By:\n{_block(keys, archive.keys if archive.uri else (*archive.keys, *trusted))}"
        for archive in archives
    )  # fmt: skip


def preferences(archives: Iterable[Archive]) -> str:
    """Return apt's preferences (apt_preferences(5)): of an archive with `only`, those alone.

    Below zero a version is never taken; where apt is told of a package by its name, that counts.
    What a maker's archive says of itself is not gone by: it might say that it is the distribution.
    """
    return "\n".join(
        f"Package: {names}\nPin: {pin}\nPin-Priority: {priority}\n"
        for archive in archives
        if archive.only
        for pin in _pins(archive)
        for names, priority in (("*", NEVER), (" ".join(archive.only), AS_ANY_OTHER))
    )


def kept_apart(archives: Iterable[Archive], places: Mapping[str, MirrorAddress]) -> None:
    """Refuse a maker's archive that apt could not tell from another one: it goes by the host.

    Raises:
        RaveError: USAGE if two archives have one host, and one of them is a maker's.
    """
    hosts: dict[str | None, str] = {}
    for archive in sorted(archives, key=lambda archive: bool(archive.uri)):
        host = urlsplit(places[archive.name].uri).hostname
        other = hosts.setdefault(host, archive.name)
        if archive.uri and other != archive.name:
            raise RaveError(
                f"the archive of {archive.name} is on the same host as that of {other}"
                f" ({host}): apt could not keep them apart",
                hint="export RAVE_DEBIAN_MIRROR=…   names another mirror of Debian",
                exit_code=ExitCode.USAGE,
            )


def _pins(archive: Archive) -> tuple[str, ...]:
    if archive.uri:
        return (f'origin "{urlsplit(archive.uri).hostname}"',)
    return tuple(f"release n={suite}" for suite in archive.suites)


def load_keys(folder: Path, extra: str = "") -> tuple[dict[str, bytes], tuple[str, ...]]:
    """Return the keys of the repository and of the operator's keyring, and the latter's names.

    Raises:
        RaveError: HOST if a file cannot be read as keys, or somebody else may have written it.
    """
    keys: dict[str, bytes] = {}
    for path in sorted(folder.glob("*.asc")):
        keys |= _read(path)
    trusted = _read(Path(extra).expanduser()) if extra else {}
    return keys | trusted, tuple(sorted(trusted.keys() - keys.keys()))


def host_entries(host: Path) -> list[HostSource]:
    """Return the enabled binary sources of the host; what is not understood is left out."""
    found: list[HostSource] = []
    for path in (host / "sources.list", *sorted(host.glob("sources.list.d/*"))):
        if path.suffix not in {".list", ".sources"}:
            continue
        try:
            text = path.read_text(errors="replace")
        except OSError:
            continue
        found += _deb822(text) if path.suffix == ".sources" else _one_line(text)
    return found


def _own(archive: Archive) -> MirrorAddress | None:
    """Return where a maker's archive is; None for the distribution's."""
    return MirrorAddress(archive.uri.rstrip("/"), "its maker's") if archive.uri else None


def _address(name: str, sources: Sources, entries: Iterable[HostSource]) -> MirrorAddress:
    if sources.mirror:
        words = sources.mirror.split()
        main = _checked("RAVE_DEBIAN_MIRROR", words[0])
        beside = words[1] if len(words) > 1 else re.sub(r"debian$", "", main) + SECURITY
        security = _checked("RAVE_DEBIAN_MIRROR", beside)
        return MirrorAddress(security if name == SECURITY else main, "RAVE_DEBIAN_MIRROR")
    for entry in entries:
        if _is_debian(entry, name):
            return MirrorAddress(entry.uri.rstrip("/"), "this host's apt sources")
    return MirrorAddress(DEFAULTS[name], "Debian's default")


def _is_debian(entry: HostSource, name: str) -> bool:
    """Return whether a source looks like Debian's own archive.

    Others use Debian's words for their suites, but come with a keyring of their own. Being wrong
    here costs an error message: whoever is asked, only Debian's signature counts.
    """
    return (
        bool(_SUITES[name].match(entry.suite))
        and "main" in entry.components
        and (not entry.keyring or "debian-archive" in entry.keyring)
        and not entry.uri.startswith("cdrom:")
    )


def _one_line(text: str) -> Iterator[HostSource]:
    """Yield the entries of a file in the one-line style (sources.list(5))."""
    for line in text.splitlines():
        match = _ONE_LINE.match(line.partition("#")[0].strip())
        if match:
            options = dict(word.partition("=")[::2] for word in (match["options"] or "").split())
            keyring = options.get("signed-by", "")
            yield HostSource(
                match["uri"], match["suite"], tuple(match["components"].split()), keyring
            )


def _deb822(text: str) -> Iterator[HostSource]:
    """Yield the entries of a file in the deb822 style (sources.list(5))."""
    for stanza in re.split(r"\n\s*\n", text):
        fields: dict[str, str] = {}
        last = ""
        for line in stanza.splitlines():
            if line.startswith("#"):
                continue
            if line[:1].isspace() and last:
                fields[last] += f" {line.strip()}"
            elif ":" in line:
                name, _, value = line.partition(":")
                last = name.strip().lower()
                fields[last] = value.strip()
        if "deb" not in fields.get("types", "").split() or fields.get("enabled", "yes") == "no":
            continue
        for uri in fields.get("uris", "").split():
            for suite in fields.get("suites", "").split():
                components = tuple(fields.get("components", "").split())
                yield HostSource(uri, suite, components, fields.get("signed-by", ""))


def _block(keys: Mapping[str, bytes], names: Iterable[str]) -> str:
    """Return keys as the value of Signed-By: continuation lines, an empty one being a dot."""
    missing = [name for name in names if name not in keys]
    if missing:
        raise RaveError(
            f"the archive key {missing[0]}, which the lock names, is not at hand",
            hint="git status infra/debian/keys   (RAVE_DEBIAN_KEYRING can name a file that has it)",
            exit_code=ExitCode.HOST,
        )
    text = armor(b"".join(keys[name] for name in names))
    return "".join(f" {line or '.'}\n" for line in text.splitlines())


def _read(path: Path) -> dict[str, bytes]:
    try:
        return read_keys(paths.read_trusted(path))
    except MalformedKeyError as error:
        raise RaveError(
            f"{path} cannot be read as a keyring: {error}",
            hint="gpg --show-keys FILE   shows what a keyring holds",
            exit_code=ExitCode.HOST,
        ) from error


def _checked(name: str, address: str) -> str:
    """Return an address that apt can take as one word of its sources."""
    if not re.fullmatch(r"[a-z][a-z0-9+]*:[^\s\[\]]+", address):
        raise RaveError(
            f"{name} is not the address of a package archive: {address}",
            hint=f"export {name}=http://mirror.example/debian",
            exit_code=ExitCode.USAGE,
        )
    return address.rstrip("/")
