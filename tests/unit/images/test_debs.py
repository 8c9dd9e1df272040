"""What a Debian package says of itself, read from packages made for the test."""

from __future__ import annotations

import gzip
import io
import lzma
import tarfile
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rave_cli.errors import ExitCode, RaveError
from rave_cli.images import debs
from rave_cli.images.debs import Description
from rave_cli.images.events import ignore
from rave_cli.images.lock import Package, file_digest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

MACHINE_READABLE = """\
Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Files: *
License: GPL-2+ and   BSD-3-clause

Files: debian/*
License: Expat
 Permission is hereby granted.

License: GPL-2+ and BSD-3-clause
"""
PROSE = """\
It is free software; see /usr/share/common-licenses/GPL-2, or, for the library,
/usr/share/common-licenses/LGPL-2.1. License: nothing
"""


def tar(files: Mapping[str, str | None], *, links: Mapping[str, str] = {}) -> bytes:
    """Return a tar; a file without text is a directory."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, text in files.items():
            entry = tarfile.TarInfo(f"./{name}")
            entry.type = tarfile.DIRTYPE if text is None else tarfile.REGTYPE
            data = (text or "").encode()
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
        for name, goal in links.items():
            entry = tarfile.TarInfo(f"./{name}")
            entry.type, entry.linkname = tarfile.SYMTYPE, goal
            archive.addfile(entry)
    return buffer.getvalue()


def deb(
    place: Path, control: str, data: bytes, pack: Callable[[bytes], bytes], ending: str
) -> Path:
    members = {
        "debian-binary": b"2.0\n",
        f"control.tar{ending}": pack(tar({"control": control})),
        f"data.tar{ending}": pack(data),
    }
    body = b"!<arch>\n"
    for name, content in members.items():
        body += f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(content):<10}`\n".encode()
        body += content + b"\n" * (len(content) % 2)
    place.write_bytes(body)
    return place


@pytest.mark.parametrize(
    ("pack", "ending"), [(lzma.compress, ".xz"), (gzip.compress, ".gz"), (bytes, "")]
)
@pytest.mark.parametrize(
    ("text", "licence"),
    [
        (MACHINE_READABLE, "Expat, GPL-2+ and BSD-3-clause"),
        (PROSE, "common-licenses/GPL-2, common-licenses/LGPL-2.1"),
        ("All rights reversed", ""),
    ],
)
def test_a_package_names_its_source_and_its_licences(
    tmp_path: Path, pack: Callable[[bytes], bytes], ending: str, text: str, licence: str
) -> None:
    doc = "usr/share/doc/libtool1"
    content = tar({"usr/bin/tool": "x" * 99, doc: None, f"{doc}/copyright": text})
    path = deb(tmp_path / "a.deb", "Package: libtool1\nSource: tool (1.0)\n", content, pack, ending)
    assert debs.describe(path, "libtool1") == Description("tool", licence)
    own = deb(tmp_path / "b.deb", "Package: libtool1\n", content, pack, ending)
    assert debs.describe(own, "libtool1").source == ""


@pytest.mark.parametrize(
    "links",
    [
        {"usr/share/doc/tool": "tool-common"},
        {"usr/share/doc/tool/copyright": "../tool-common/copyright"},
    ],
)
def test_a_package_may_share_the_copyright_file_of_another(
    tmp_path: Path, links: Mapping[str, str]
) -> None:
    common = tar({"usr/share/doc/tool-common/copyright": MACHINE_READABLE})
    packages = [
        Package(name=name, version="1", architecture="amd64", file=f"{name}.deb", role="guest",
                sha256=file_digest(deb(tmp_path / f"{name}.deb", "", data, bytes, "")))
        for name, data in {"tool": tar({}, links=links), "tool-common": common}.items()
    ]  # fmt: skip
    found = debs.with_descriptions(packages, (), tmp_path, ignore)
    assert {package.licence for package in found} == {"Expat, GPL-2+ and BSD-3-clause"}
    # What an older lock says of the same files is not read again.
    (tmp_path / "tool.deb").unlink()
    (tmp_path / "tool-common.deb").unlink()
    assert debs.with_descriptions(packages, found, tmp_path, ignore) == found


def test_what_is_packed_in_an_unknown_way_is_told(tmp_path: Path) -> None:
    path = deb(tmp_path / "a.deb", "", b"", bytes, ".lz9")
    with pytest.raises(RaveError, match="packed in an unknown way") as caught:
        debs.describe(path, "a")
    assert caught.value.exit_code == ExitCode.BUILD


@given(st.binary(max_size=300))
def test_any_bytes_are_a_package_or_told(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    path = tmp_path_factory.mktemp("deb") / "a.deb"
    path.write_bytes(b"!<arch>\n" + data)
    with suppress(RaveError):
        debs.describe(path, "a")


@given(st.text(max_size=300))
def test_any_text_names_licences_or_none(text: str) -> None:
    assert "\n" not in debs.licences(f"Format: copyright-format/1.0\n{text}")
