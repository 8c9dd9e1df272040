"""A service's set with the real Nix: byte for byte, and a part of the image."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from rave_cli.images import lock as locks
from rave_cli.images import locking
from rave_cli.images.lock import File, file_digest
from rave_cli.images.nix import Nix
from tests.integration.images.index import Wheel
from tests.unit.images.test_sealed import tarball

if TYPE_CHECKING:
    from pathlib import Path

    from rave_cli.images.manifest import Image

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(os.getuid() != 0, reason="the Debian base is built as root"),
]

# The second holds a module that no Python of today compiles, as real wheels do.
WHEELS = (
    Wheel("wiki", files={"wiki_pages/__init__.py": "import json\n"}),
    Wheel("paper", files={"paper_old.py": "print 'paper'\n"}),
)
ASKED = tuple(f"{wheel.name}=={wheel.version}" for wheel in WHEELS)
TOOL = "@team/tool@1.2.3"
PACKAGES = 'packages = [ "nats-server" ];'


@pytest.fixture(scope="module")
def image(
    built: tuple[Image, Nix, str], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Nix, str]:
    """The image of a checkout in which NATS has a set of its own, and the driver for it."""
    folder = tmp_path_factory.mktemp("with-set") / "flake"
    shutil.copytree(built[2].partition("#")[0], folder, symlinks=True)
    catalog = folder / "infra/catalog/services.nix"
    text = catalog.read_text()
    assert text.count(PACKAGES) == 1
    wheels = " ".join(f'"{wanted}"' for wanted in ASKED)
    more = f'wheels = [ {wheels} ]; tarballs = [ "{TOOL}" ];'
    catalog.write_text(text.replace(PACKAGES, f"{PACKAGES} {more}"))
    place = built[1].lock or locking.repository_lock(folder, "demo")
    lock = locks.parse(place.read_bytes(), place)
    paths = [wheel.write(folder.parent) for wheel in WHEELS]
    files = [
        File(kind="wheel", service="nats", name=wheel.name, version=wheel.version, file=path.name,
             sha256=file_digest(path))
        for wheel, path in zip(WHEELS, paths, strict=True)
    ]  # fmt: skip
    name, _, version = TOOL.rpartition("@")
    packed = tarball(folder.parent, {"package/package.json": "{}", "package/main.js": "1"})
    files.append(
        File(kind="npm", service="nats", name=name, version=version, file=packed.name,
             sha256=file_digest(packed))
    )  # fmt: skip
    sets = {"wheels": {"nats": ASKED}, "tarballs": {"nats": (TOOL,)}}
    request = lock.requested.model_copy(update=sets)
    changed = lock.model_copy(update={"requested": request, "files": (*lock.files, *files)})
    locking.repository_lock(folder, "demo").write_bytes(locks.render(changed))
    driver = Nix("debian", "safe")
    driver.add_files([*paths, packed])
    return driver, f"path:{folder}#demo-debian"


def nix(driver: Nix, *words: str, **extra: str) -> subprocess.CompletedProcess[str]:
    env = dict(os.environ) | driver.environment() | extra
    return subprocess.run(words, env=env, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def derivation(image: tuple[Nix, str]) -> str:
    """The derivation of the set, of which the image is made."""
    driver, what = image
    (shown,) = json.loads(nix(driver, "nix", "show-derivation", what).stdout).values()
    return next(
        str(path) for path in shown["inputDrvs"] if path.endswith("-rave-debian-set-nats.drv")
    )


def test_a_set_is_built_without_a_network_and_a_second_time_the_same(
    image: tuple[Nix, str], derivation: str, tmp_path: Path
) -> None:
    # Since Nix 2.15 `nix build` of a derivation is the derivation itself.
    alone = ("unshare", "--net", "nix-store", "--realise", derivation)
    for words in (alone, (*alone, "--check")):
        done = nix(image[0], *words, TMPDIR=str(tmp_path))
        assert done.returncode == 0, done.stderr[-2000:]
    (path,) = nix(image[0], "nix-store", "--query", "--outputs", derivation).stdout.split()
    listing = subprocess.run(
        ["tar", "--list", "--verbose", "--numeric-owner", "-f", f"{path}/set.tar"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    names = {line.split()[-1] for line in listing.splitlines()}
    assert {"nats/__main__.py", "nats/wiki_pages/__init__.py", "nats/paper_old.py"} <= names
    assert {"nats/node_modules/@team/tool/main.js"} <= names
    assert {line.split()[1] for line in listing.splitlines()} == {"0/0"}
    compiled = {name for name in names if name.endswith(".pyc")}
    assert len(compiled) == 4  # the launcher and three modules
