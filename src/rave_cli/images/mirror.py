"""Locked packages straight from a mirror, for a host that has no apt.

A lock names each file's sha256, so nobody needs to be believed: the mirror's lists are read only to
learn where a file lies, and whoever keeps the files compares their content with the lock. Choosing
packages means believing lists, and stays apt's business.
"""

from __future__ import annotations

import http.client
import lzma
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rave_cli import paths
from rave_cli.errors import ExitCode, RaveError
from rave_cli.images.apt import file_name
from rave_cli.images.events import BuildEvent

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from rave_cli.images.events import OnEvent
    from rave_cli.images.lock import Package

# Most bytes of a package, and of a list, packed or not. No signature is checked before they are
# read: the lock's sha256 are what counts.
MOST = 512 << 20

TIMEOUT = 60.0  # seconds without an answer
SCHEMES = ("http:", "https:", "file:")


@dataclass(frozen=True)
class Mirror:
    """Archives read without apt.

    Attributes:
        suites: each suite's archive address and name, and a component of it.
        where: the addresses with who named them, for messages.
    """

    suites: tuple[tuple[str, str, str], ...]
    where: str

    def download(
        self, wanted: Sequence[Package], target: Path, on_event: OnEvent
    ) -> tuple[str, ...]:
        """Download packages into `target`, under the names that apt gives them.

        Their content is not checked here. Returns the names of those that no list has any more; if
        there are any, nothing was downloaded.

        Raises:
            RaveError: HOST if a list or a file cannot be had.
        """
        on_event(BuildEvent("reading package lists"))
        places = self._locate({package.sha256 for package in wanted})
        departed = tuple(package.name for package in wanted if package.sha256 not in places)
        if departed:
            return departed
        for number, package in enumerate(wanted, start=1):
            path = target / file_name(package.name, package.version, package.architecture)
            with paths.refusing(path):
                path.write_bytes(self._fetch(places[package.sha256]))
            on_event(BuildEvent("downloading packages", number, len(wanted)))
        return ()

    def _locate(self, digests: set[str]) -> dict[str, str]:
        """Return the address of each file that a list names by one of these sha256."""
        found: dict[str, str] = {}
        for uri, suite, component in self.suites:
            if digests <= found.keys():
                break
            address = f"{uri}/dists/{suite}/{component}/binary-amd64/Packages.xz"
            try:
                text = unpacked(self._fetch(address)).decode()
            except (lzma.LZMAError, ValueError) as error:
                raise self._fault(address, f"it is no list ({error})") from error
            places = read_index(text.splitlines())
            found |= {sha256: f"{uri}/{path}" for sha256, path in places if sha256 in digests}
        return found

    def _fetch(self, address: str) -> bytes:
        if not address.startswith(SCHEMES):
            raise self._fault(address, "only http, https and file are read without apt")
        try:
            with urllib.request.urlopen(address, timeout=TIMEOUT) as answer:  # noqa: S310 - its scheme is one of SCHEMES
                data = bytes(answer.read(MOST + 1))
        except urllib.error.HTTPError as error:
            error.close()
            raise self._fault(address, str(error)) from error
        except (OSError, http.client.HTTPException) as error:
            raise self._fault(address, str(error)) from error
        if len(data) > MOST:
            raise self._fault(address, f"it is longer than {MOST >> 20} MiB")
        return data

    def _fault(self, address: str, why: str) -> RaveError:
        return RaveError(
            f"{address} could not be fetched: {why}",
            hint="set RAVE_DEBIAN_MIRROR to another mirror of Debian, or try again",
            exit_code=ExitCode.HOST,
            detail=(f"asked: {self.where}",),
        )


def unpacked(data: bytes) -> bytes:
    """Return what xz has packed.

    Raises:
        lzma.LZMAError: it is not xz.
        ValueError: it is cut short, or longer than MOST.
    """
    unpacker = lzma.LZMADecompressor()
    text = unpacker.decompress(data, MOST)
    if not unpacker.eof:
        raise ValueError(f"it is cut short, or longer than {MOST >> 20} MiB")
    return text


def read_index(lines: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield sha256 and path of each package of a list (Packages, deb822)."""
    path = sha256 = ""
    for line in (*lines, ""):
        if line.startswith("Filename: "):
            path = line[10:]
        elif line.startswith("SHA256: "):
            sha256 = line[8:]
        elif not line:
            if path and sha256:
                yield sha256, path
            path = sha256 = ""
