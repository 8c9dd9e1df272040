"""Archives of a service's maker: the real apt against one made for the test, over HTTP."""

from __future__ import annotations

import http.server
import shutil
import threading
from functools import partial
from typing import TYPE_CHECKING

import pytest

from rave_cli.errors import ExitCode, RaveError
from rave_cli.images import closure
from rave_cli.images.archives import Sources
from rave_cli.images.closure import Supply
from rave_cli.images.events import ignore
from rave_cli.images.lock import Archive, PackageRequest
from tests.integration.images.repository import WORLD, Repository, Signer, signer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.integration

DISTRIBUTION = {name: "1.0" for name in WORLD if name != "tcc"}
# It also offers what is none of its business, and says that it is Debian.
MAKERS = {"tcc": "2.0", "nginx-common": "9.9"}


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Files, without a line for each."""

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def served(tmp_path: Path) -> Iterator[str]:
    """The address under which tmp_path is served."""
    handler = partial(Quiet, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="module")
def debian() -> Iterator[Signer]:
    with signer("The distribution's archive key") as key:
        yield key


@pytest.fixture(scope="module")
def maker() -> Iterator[Signer]:
    with signer("Its maker's key") as key:
        yield key


@pytest.fixture
def request_(served: str, tmp_path: Path, debian: Signer, maker: Signer) -> PackageRequest:
    """What is asked of both; the keys of both are in the checkout."""
    Repository(tmp_path / "debian", debian).publish("bookworm", DISTRIBUTION)
    Repository(tmp_path / "apt", maker).publish("bookworm", MAKERS)
    (tmp_path / "keys").mkdir()
    debian.export(tmp_path / "keys/archive.asc")
    maker.export(tmp_path / "keys/maker.asc")
    archives = (
        Archive(name="debian", suites=("bookworm",), keys=(debian.fingerprint,)),
        Archive(
            name="compiler", suites=("bookworm",), keys=(maker.fingerprint,), only=("tcc",),
            uri=f"{served}/apt",
        ),
    )  # fmt: skip
    return PackageRequest(
        archives=archives, guest=("nginx-light",), kernel="linux-image-cloud-amd64", tools=("tcc",)
    )


@pytest.fixture
def supply(home: Path, tmp_path: Path) -> Supply:
    return Supply(tmp_path / "keys", Sources(mirror=f"file:{tmp_path}/debian"))


def test_what_is_named_comes_from_there_and_nothing_else_does(
    request_: PackageRequest, supply: Supply
) -> None:
    lock = closure.resolve(request_, supply, ignore)
    found = {package.name: package.version for package in lock.packages}
    # The kernel comes through its metapackage, which is not kept.
    assert found.items() < (DISTRIBUTION | {"tcc": "2.0"}).items()
    assert {"tcc", "nginx-common", "nginx-light"} < found.keys()
    shutil.rmtree(closure.pool())
    names = [path.name for path in closure.fetch(lock, supply, ignore)]
    assert "tcc_2.0_amd64.deb" in names


def test_a_key_that_the_checkout_does_not_have_is_refused(
    request_: PackageRequest, supply: Supply, tmp_path: Path
) -> None:
    (tmp_path / "keys/maker.asc").unlink()
    with pytest.raises(RaveError, match="which the lock names, is not at hand") as caught:
        closure.resolve(request_, supply, ignore)
    assert caught.value.exit_code == ExitCode.HOST


def test_another_key_than_the_named_one_is_refused(
    request_: PackageRequest, supply: Supply, debian: Signer
) -> None:
    """The distribution's own, which the checkout has: it is not that of this archive."""
    main, makers = request_.archives
    other = makers.model_copy(update={"keys": (debian.fingerprint,)})
    wrong = request_.model_copy(update={"archives": (main, other)})
    with pytest.raises(RaveError, match="not signed by the keys that the lock names") as caught:
        closure.resolve(wrong, supply, ignore)
    assert caught.value.exit_code == ExitCode.HOST


def test_a_key_of_the_operators_does_not_count_for_it(
    request_: PackageRequest, supply: Supply, tmp_path: Path, debian: Signer
) -> None:
    """What vouches for a mirror of the distribution vouches for nobody else's packages."""
    with signer("A company's mirror") as company:
        Repository(tmp_path / "apt", company).publish("bookworm", MAKERS)
        company.export(tmp_path / "company.asc")
        trusting = Supply(
            supply.keys, Sources(supply.sources.mirror, keyring=str(tmp_path / "company.asc"))
        )
        with pytest.raises(RaveError, match="not signed by the keys that the lock names"):
            closure.resolve(request_, trusting, ignore)


def test_an_archive_on_the_mirrors_own_host_is_refused(
    request_: PackageRequest, supply: Supply, served: str
) -> None:
    """apt tells archives of others apart by their hosts."""
    beside = Supply(supply.keys, Sources(mirror=f"{served}/debian"))
    with pytest.raises(RaveError, match="same host as that of debian") as caught:
        closure.resolve(request_, beside, ignore)
    assert caught.value.exit_code == ExitCode.USAGE


def test_one_that_is_away_is_named(
    request_: PackageRequest, supply: Supply, tmp_path: Path
) -> None:
    shutil.rmtree(tmp_path / "apt")
    with pytest.raises(RaveError) as caught:
        closure.resolve(request_, supply, ignore)
    assert caught.value.exit_code == ExitCode.HOST
    assert "its maker's" in " ".join(caught.value.detail)
