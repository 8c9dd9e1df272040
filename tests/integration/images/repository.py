"""Package archives made for a test: a few tiny packages, real signatures, and the word Debian."""

from __future__ import annotations

import gzip
import hashlib
import lzma
import os
import shutil
import subprocess
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

# One of each role that a lock knows; the kernel comes through its metapackage.
KERNEL = "linux-image-6.1.0-1-cloud-amd64"
WORLD = {
    "base": "Essential: yes\n",
    "usr-is-merged": "",
    "nginx-light": "Depends: nginx-common\n",
    "nginx-common": "",
    "linux-image-cloud-amd64": f"Depends: {KERNEL}\n",
    KERNEL: "",
    "tcc": "",
}


@dataclass(frozen=True)
class Signer:
    """An OpenPGP key of its own."""

    home: Path
    fingerprint: str

    def sign(self, release: Path) -> None:
        """Write the InRelease beside a Release."""
        self._gpg("--clearsign", "--output", str(release.with_name("InRelease")), str(release))

    def export(self, target: Path) -> None:
        """Write the public key, armored."""
        target.write_bytes(self._gpg("--armor", "--export", self.fingerprint))

    def _gpg(self, *words: str) -> bytes:
        return gpg(self.home, *words)


def gpg(home: Path, *words: str) -> bytes:
    done = subprocess.run(
        ["gpg", "--batch", "--yes", "--quiet", "--pinentry-mode=loopback", "--passphrase=", *words],
        env=os.environ | {"GNUPGHOME": str(home)}, capture_output=True, check=True,
    )  # fmt: skip
    return done.stdout


@contextmanager
def signer(name: str) -> Iterator[Signer]:
    """Provide a fresh key. Its directory has a short path, for the agent's socket lies in it."""
    home = Path(tempfile.mkdtemp(prefix="rv-gpg-", dir="/tmp"))
    try:
        gpg(home, "--quick-generate-key", name, "ed25519", "sign", "never")
        listing = gpg(home, "--with-colons", "--list-keys").decode().splitlines()
        (line,) = [row for row in listing if row.startswith("fpr:")]
        yield Signer(home, line.split(":")[9])
    finally:
        env = os.environ | {"GNUPGHOME": str(home)}
        subprocess.run(["gpgconf", "--kill", "gpg-agent"], env=env, check=False)
        shutil.rmtree(home, ignore_errors=True)


@dataclass(frozen=True)
class Repository:
    """A package archive in a directory. `publish` replaces what it offers, as a mirror does."""

    place: Path
    signer: Signer
    label: str = "Debian"
    fields: Mapping[str, str] = field(default_factory=dict)

    @property
    def uri(self) -> str:
        """Its address."""
        return f"file:{self.place}"

    def publish(
        self, suite: str, versions: Mapping[str, str], *, says: str = "", pool: str = "pool"
    ) -> None:
        """Offer these packages alone in a suite. `says` makes other content of the same version;
        `pool` keeps files apart from those of another suite.
        """
        files = self.place / pool
        shutil.rmtree(files, ignore_errors=True)
        files.mkdir(parents=True)
        index = "".join(self._package(files, *item, says) for item in versions.items())
        folder = self.place / "dists" / suite
        packages = folder / "main/binary-amd64"
        packages.mkdir(parents=True, exist_ok=True)
        (packages / "Packages").write_text(index)
        (packages / "Packages.gz").write_bytes(gzip.compress(index.encode(), mtime=0))
        (packages / "Packages.xz").write_bytes(lzma.compress(index.encode()))
        (folder / "Release").write_text(self._release(suite, packages))
        self.signer.sign(folder / "Release")

    def copy(self, target: Path) -> None:
        """Keep it as it is now, as a dated archive does."""
        shutil.copytree(self.place, target)

    def _package(self, pool: Path, name: str, version: str, says: str) -> str:
        control = (
            f"Package: {name}\nVersion: {version}\nArchitecture: amd64\nMaintainer: a test\n"
            f"{WORLD[name]}Description: of a test {says}\n"
        )
        tree = pool / f"{name}.tree"
        (tree / "DEBIAN").mkdir(parents=True)
        (tree / "DEBIAN/control").write_text(control)
        path = pool / f"{name}_{version}_amd64.deb"
        env = os.environ | {"SOURCE_DATE_EPOCH": "1700000000"}
        subprocess.run(
            ["dpkg-deb", "--root-owner-group", "-Znone", "--build", tree, path],
            env=env, stdout=subprocess.DEVNULL, check=True,
        )  # fmt: skip
        shutil.rmtree(tree)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        size = path.stat().st_size
        return f"{control}Filename: {pool.name}/{path.name}\nSize: {size}\nSHA256: {digest}\n\n"

    def _release(self, suite: str, packages: Path) -> str:
        lines = [
            f" {hashlib.sha256(path.read_bytes()).hexdigest()} {path.stat().st_size}"
            f" main/binary-amd64/{path.name}"
            for path in sorted(packages.iterdir())
        ]
        head = {
            "Origin": "Debian", "Label": self.label, "Suite": suite, "Codename": suite,
            "Date": formatdate(usegmt=True).replace("GMT", "UTC"), "Architectures": "amd64",
            "Components": "main", **self.fields,
        }  # fmt: skip
        text = "".join(f"{name}: {value}\n" for name, value in head.items())
        return f"{text}SHA256:\n" + "\n".join(lines) + "\n"
