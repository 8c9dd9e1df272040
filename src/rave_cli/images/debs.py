"""What a Debian package says of itself: its source package, and its licences.

Read from the file, so that a lock's words are those of the bytes that it names.
"""

from __future__ import annotations

import lzma
import re
import tarfile
import zlib
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

from rave_cli.errors import ExitCode, RaveError
from rave_cli.images.events import BuildEvent

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from rave_cli.images.events import OnEvent
    from rave_cli.images.lock import Package

GLOBAL_HEADER = 8  # "!<arch>\n" (deb(5), ar(5))
MEMBER_HEADER = 60
MOST_TEXT = 4 << 20  # bytes of a control or a copyright file

# What reading an archive of any kind may raise.
_UNREADABLE = (OSError, EOFError, ValueError, lzma.LZMAError, zlib.error, tarfile.TarError)

# Machine-readable: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
_FORMAT = re.compile(r"^Format(-Specification)?:\s*\S*(copyright-format|dep5|DEP-5)", re.MULTILINE)
_LICENCE = re.compile(r"^License:[ \t]*(\S.*)$", re.MULTILINE)
# Where prose points to the licences that every Debian system has (Debian Policy, 12.5).
_COMMON = re.compile(r"/usr/share/common-licenses/([A-Za-z]+(?:-[0-9]+(?:\.[0-9]+)*)?)")


@dataclass(frozen=True)
class Description:
    """What a package says of itself.

    Attributes:
        source: name of the source package it was built from; empty if it is its own.
        licence: names of licences as its copyright file has them, sorted; empty if it has none.
        like: another package of the same source that has the copyright file instead.
    """

    source: str
    licence: str
    like: str = ""


def with_descriptions(
    packages: Sequence[Package], known: Iterable[Package], pool: Path, on_event: OnEvent
) -> tuple[Package, ...]:
    """Return packages with their source and licence.

    Args:
        packages: of a new lock; their files are in the pool.
        known: of an older lock: what is said there of the same files is not read again.
        pool: directory of locked files.
        on_event: hears what happens.

    Raises:
        RaveError: BUILD if one cannot be read as a Debian package.
    """
    before = {package.sha256: package for package in known if package.licence}
    found: dict[str, Description] = {}
    for number, package in enumerate(packages, start=1):
        if same := before.get(package.sha256):
            found[package.name] = Description(same.source, same.licence)
        else:
            found[package.name] = describe(pool / package.file, package.name)
            on_event(BuildEvent("reading licences", number, len(packages)))
    return tuple(
        package.model_copy(
            update={
                "source": said.source,
                "licence": said.licence or (found[said.like].licence if said.like in found else ""),
            }
        )
        for package in packages
        for said in (found[package.name],)
    )


def describe(deb: Path, name: str) -> Description:
    """Return what a package's control and copyright files say.

    Args:
        deb: the package.
        name: its name.

    Raises:
        RaveError: BUILD if it cannot be read as a Debian package.
    """
    source, text, like = "", "", ""
    try:
        with deb.open("rb") as stream:
            for member in _members(stream):
                if member.startswith("control.tar"):
                    source = _source(_find(stream, member, ("control",))[0])
                elif member.startswith("data.tar"):
                    place = f"usr/share/doc/{name}"
                    text, like = _find(stream, member, (f"{place}/copyright", place))
    except _UNREADABLE as error:
        raise RaveError(
            f"{deb.name} cannot be read as a Debian package ({error})",
            hint=f"rm {deb}",
            exit_code=ExitCode.BUILD,
        ) from error
    return Description(source, licences(text), like)


def licences(text: str) -> str:
    """Return the names of licences in a copyright file, each once; empty if it names none."""
    found = (
        _LICENCE.findall(text)
        if _FORMAT.search(text)
        else [f"common-licenses/{name}" for name in _COMMON.findall(text)]
    )
    return ", ".join(sorted({re.sub(r"\s+", " ", name).strip(" ,") for name in found}))


def _members(stream: IO[bytes]) -> Iterator[str]:
    """Yield the names of an ar archive's members; the stream stands at the content of each."""
    place = GLOBAL_HEADER
    stream.seek(place)
    while len(head := stream.read(MEMBER_HEADER)) == MEMBER_HEADER:
        place += MEMBER_HEADER
        yield head[:16].decode("ascii").strip().rstrip("/")
        size = int(head[48:58])
        place += size + size % 2
        stream.seek(place)


def _find(stream: IO[bytes], member: str, names: tuple[str, ...]) -> tuple[str, str]:
    """Return the text of the first of these files in a tar, and where a link of that name leads."""
    packed = member.removeprefix("control.tar").removeprefix("data.tar")
    if packed not in {"", ".xz", ".gz"}:
        raise ValueError(f"{member} is packed in an unknown way")
    content: IO[bytes] = stream
    if packed == ".xz":
        content = lzma.LZMAFile(stream)  # noqa: SIM115 - the caller closes what it reads
    with tarfile.open(fileobj=content, mode="r|gz" if packed == ".gz" else "r|") as archive:
        for entry in archive:
            if entry.name.removeprefix("./") in names:
                if entry.issym():
                    return "", entry.linkname.removesuffix("/copyright").rpartition("/")[2]
                if (file := archive.extractfile(entry)) is not None:
                    return file.read(MOST_TEXT).decode(errors="replace"), ""
    return "", ""


def _source(control: str) -> str:
    found = re.search(r"^Source: (\S+)", control, re.MULTILINE)
    return found[1] if found else ""
