"""However credentials are given, a registry with TLS and a password is shown them, and nothing else
has them afterwards.
"""

from __future__ import annotations

import base64
import json
import socket
import threading
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner, Result

from rave_cli import app
from rave_cli.errors import ExitCode, RaveError
from rave_cli.registry.reference import parse
from rave_cli.registry.session import opened
from rave_cli.secrets import init, policy, store
from rave_cli.secrets.identity import load
from tests.sops import CATALOG

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from rave_cli.images.manifest import Image
    from tests.registries import RealRegistry

pytestmark = pytest.mark.integration


@pytest.fixture
def push(
    secured: tuple[RealRegistry, str], make_image: Callable[..., Image], tmp_path: Path
) -> Callable[..., Result]:
    registry, ca = secured
    make_image(1000)
    trusted = tmp_path / "ca.pem"
    trusted.write_text(ca)

    def call(*words: str, given: str | None = None) -> Result:
        dest = registry.at("told/app")
        command = ["image", "push", dest, "--base", "debian", "--ca", str(trusted), *words]
        return CliRunner().invoke(app.cli, command, input=given)

    return call


def fault(done: Result) -> RaveError:
    assert isinstance(done.exception, RaveError), done
    return done.exception


def holding(home: Path, words: bytes) -> list[Path]:
    """Return the files of a home that hold something."""
    files = [path for path in home.rglob("*") if path.is_file() and not path.is_symlink()]
    return [path for path in files if words in path.read_bytes()]


def test_without_any_it_is_refused(push: Callable[..., Result]) -> None:
    assert fault(push()).exit_code is ExitCode.SECRETS


def test_dockers_file_is_read_where_it_lies(push: Callable[..., Result], home: Path) -> None:
    place = home / ".docker/config.json"
    place.parent.mkdir()
    known = base64.b64encode(b"me:pass:word").decode()
    place.write_text(json.dumps({"auths": {}}))
    place.chmod(0o600)
    assert fault(push()).exit_code is ExitCode.SECRETS
    host = fault(push()).message.split()[0]
    place.write_text(json.dumps({"auths": {host: {"auth": known}}}))
    before = place.stat()
    assert push().exit_code == 0
    assert place.stat().st_mtime_ns == before.st_mtime_ns
    assert holding(home, known.encode()) == [place]


def test_they_come_on_standard_input(push: Callable[..., Result], home: Path) -> None:
    assert push("--auth-stdin", given="me:pass:word\n").exit_code == 0
    assert holding(home, b"pass:word") == []
    assert fault(push("--auth-stdin", given="nonsense")).exit_code is ExitCode.SECRETS
    assert push("--auth-stdin", "--auth-secret", "x", given="").exit_code == ExitCode.USAGE


def test_they_are_a_secret_of_the_operators(push: Callable[..., Result], home: Path) -> None:
    file = store.default_file()
    init.init(file, CATALOG)
    keys = load()
    values = {**store.open_values(store.read(file), keys).values, "registry/token": "me:pass:word"}
    allowed = policy.load(file)
    store.replace(file, store.seal(values, allowed, keys), allowed, new=())
    assert push("--auth-secret", "registry/token").exit_code == 0
    assert holding(home, b"pass:word") == []
    other = fault(push("--auth-secret", "redis/password"))
    assert other.message == "the secret redis/password is not USER:PASSWORD"
    assert fault(push("--auth-secret", "registry/none")).exit_code is ExitCode.SECRETS


def test_the_proxy_of_the_environment_is_asked_for_the_registry(
    monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    # What httpx's own users may have in ~/.netrc is not for a registry.
    (home / ".netrc").write_text("machine registry.example.org login me password hunter2\n")
    heard: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as proxy:

        def serve() -> None:
            client, _ = proxy.accept()
            with client:
                heard.append(client.recv(4096))
                client.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")

        thread = threading.Thread(target=serve)
        thread.start()
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.getsockname()[1]}")
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
        reference = parse("oci://registry.example.org/app")
        with opened(reference, lambda: None) as session:
            monkeypatch.setattr("rave_cli.registry.session.TRIES", 1)
            with pytest.raises(RaveError, match="does not answer: 403 Forbidden"):
                session.ask("GET", "manifests/latest")
        thread.join()
    assert heard[0].startswith(b"CONNECT registry.example.org:443 ")
    assert b"hunter2" not in heard[0]
