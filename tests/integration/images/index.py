"""An index of Python's packages made for a test: wheels of a few bytes, served over real HTTP."""

from __future__ import annotations

import base64
import hashlib
import http.server
import shutil
import threading
import zipfile
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

FIXED = (2020, 2, 2, 0, 0, 0)  # what zip has for a time stamp; nobody's clock


@dataclass(frozen=True)
class Wheel:
    """A wheel to make. `files` are added to its own module, `executable` names those to run."""

    name: str
    version: str = "1.0"
    requires: tuple[str, ...] = ()
    licence: str = "License-Expression: MIT"
    tag: str = "py3-none-any"
    files: Mapping[str, str] = field(default_factory=dict)
    executable: frozenset[str] = frozenset()

    @property
    def file(self) -> str:
        """Its file's name."""
        return f"{self.name.replace('-', '_')}-{self.version}-{self.tag}.whl"

    def write(self, folder: Path) -> Path:
        """Write it into a folder and return where."""
        info = f"{self.name.replace('-', '_')}-{self.version}.dist-info"
        requires = "".join(f"Requires-Dist: {line}\n" for line in self.requires)
        content = {
            f"{self.name.replace('-', '_')}.py": f"VERSION = {self.version!r}\n",
            **self.files,
            f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {self.name}\n"
            f"Version: {self.version}\n{self.licence}\n{requires}",
            f"{info}/WHEEL": f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {self.tag}\n",
        }
        content[f"{info}/RECORD"] = "".join(f"{n},{_hash(t)},\n" for n, t in content.items())
        path = folder / self.file
        with zipfile.ZipFile(path, "w") as archive:
            for name, text in content.items():
                entry = zipfile.ZipInfo(name, FIXED)
                entry.external_attr = (0o755 if name in self.executable else 0o644) << 16
                archive.writestr(entry, text)
        return path


def _hash(text: str) -> str:
    return "sha256=" + base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode()


@dataclass
class Index:
    """An index in a folder, at an address. `publish` replaces what it offers."""

    place: Path
    address: str = ""

    def publish(self, *wheels: Wheel) -> None:
        """Offer these wheels alone (PEP 503)."""
        shutil.rmtree(self.place, ignore_errors=True)
        for wheel in wheels:
            folder = self.place / wheel.name
            folder.mkdir(parents=True, exist_ok=True)
            path = wheel.write(folder)
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            with (folder / "index.html").open("a") as page:
                page.write(f'<a href="{path.name}#sha256={digest}">{path.name}</a>\n')


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves files without telling."""

    def log_message(self, *_words: object) -> None:
        """Say nothing."""


@contextmanager
def serve(index: Index) -> Iterator[Index]:
    """Serve an index on the loopback interface."""
    handler = partial(Quiet, directory=str(index.place))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        index.address = f"http://127.0.0.1:{server.server_port}/"
        yield index
        server.shutdown()
