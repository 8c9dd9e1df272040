"""A real registry for all tests of this folder, and what is pushed to it."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import bcrypt
import pytest

from rave_cli.images import carried
from rave_cli.images.build import ImagePlace, read_boot
from rave_cli.images.lock import digest
from rave_cli.images.manifest import Image, save_image
from rave_cli.profiles.catalog import Catalog, parse
from rave_cli.profiles.names import BAKED
from rave_cli.registry.reference import parse as parse_reference
from rave_cli.registry.repository import Repository
from rave_cli.registry.session import opened
from rave_cli.tls import authority
from tests.registries import RealRegistry, real_registry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rave_cli.registry.credentials import Credentials

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealRegistry]:
    """One without TLS, to which anybody may push."""
    with real_registry(tmp_path_factory.mktemp("registry")) as found:
        yield found


@pytest.fixture(scope="session")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RealRegistry, str]]:
    """One with TLS and a password, and the certificate of who issued its."""
    place = tmp_path_factory.mktemp("secured")
    now = datetime.now(UTC)
    issuer = authority.make("localhost", now=now)
    issued = authority.issue(issuer, "localhost", now=now)
    (place / "cert.pem").write_text(issued.chain)
    (place / "key.pem").write_text(issued.key)
    hashed = bcrypt.hashpw(b"pass:word", bcrypt.gensalt(4)).decode()
    (place / "htpasswd").write_text(f"me:{hashed}\n")
    tls = f", tls: {{certificate: {place}/cert.pem, key: {place}/key.pem}}"
    auth = f"auth: {{htpasswd: {{realm: here, path: {place}/htpasswd}}}}"
    with real_registry(place / "registry", http=tls, more=auth) as found:
        yield found, issuer.pem


@dataclass
class Reach:
    """Opens repositories and closes them at the end; nobody waits in between."""

    closing: list[object]

    def __call__(
        self,
        text: str,
        credentials: Credentials | None = None,
        *,
        ca: str | None = None,
        plain: bool = True,
        chunk: int = 1 << 20,
    ) -> Repository:
        context = opened(
            parse_reference(text), lambda: credentials, writes=True, ca=ca, plain=plain
        )
        session = context.__enter__()
        self.closing.append(context)
        self.waited: list[float] = []
        session.sleep = self.waited.append
        return Repository(session, chunk)


@pytest.fixture
def reach() -> Iterator[Reach]:
    found = Reach([])
    yield found
    for context in found.closing:
        context.__exit__(None, None, None)  # type: ignore[attr-defined]


@pytest.fixture(scope="session")
def catalog() -> Catalog:
    return parse(BAKED.read_bytes())


@pytest.fixture
def make_image(home: Path, tmp_path: Path, catalog: Catalog) -> Callable[..., Image]:
    """Makes an image that rave knows to have built, with a disk of so many bytes, and a lock of
    which a bill of materials is made, which takes a while.
    """

    def make(size: int = 3 << 20, *, lock: bool = False) -> Image:
        plan = catalog.plan("demo", "debian")
        output = tmp_path / "output"
        output.mkdir()
        disk = output / plan.qcow
        seed = hashlib.sha256(str(size).encode()).digest()
        disk.write_bytes((seed * (size // 32 + 1))[:size])
        (output / "vmlinuz").write_bytes(b"kernel" * 1000)
        (output / "initrd").write_bytes(b"initrd" * 999)
        (output / "data.qcow2").write_bytes(b"data" * 99)
        (output / "boot.json").write_text('{"kind": "kernel", "cmdline": "root=/dev/vda"}')
        if lock:
            shutil.copy(ROOT / "infra/debian/locks/demo.json", output / "lock.json")
        carried.write(output / carried.NAME, carried.Carried(door=2, plan=plan))
        image = Image(
            profile="demo",
            base="debian",
            qcow2=disk,
            sha256=hashlib.sha256(disk.read_bytes()).hexdigest(),
            size=size,
            data=output / "data.qcow2",
            store_path=str(output),
            nar_hash="sha256-" + "A" * 43 + "=",
            boot=read_boot(output),
            plan=output / carried.NAME,
            door=2,
            lock_sha256=digest((output / "lock.json").read_bytes()) if lock else None,
        )
        place = ImagePlace(plan.attr)
        save_image(image, place.manifest)
        place.out_link.symlink_to(output)
        return image

    return make
