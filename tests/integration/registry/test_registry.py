"""The client before a real docker-registry: what is pushed is there, whatever happens meanwhile."""

from __future__ import annotations

import base64
import json
import os
import threading
import time
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import jwt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from rave_cli.errors import ExitCode, RaveError
from rave_cli.registry.content import Content, Descriptor, of_bytes
from rave_cli.registry.credentials import Credentials
from rave_cli.registry.manifest import EMPTY, EMPTY_DATA, Manifest
from rave_cli.tls.making import private_pem
from tests.registries import Cutter, real_registry

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from rave_cli.registry.repository import Repository
    from tests.registries import RealRegistry

    from .conftest import Reach

pytestmark = pytest.mark.integration

FILE = "application/octet-stream"
ARTIFACT = "application/vnd.example.thing"


def content(size: int) -> tuple[Content, Descriptor]:
    """Return something that nobody has pushed before."""
    found = of_bytes(os.urandom(size))
    return found, found.described(FILE)


def quiet(_there: int) -> None:
    pass


def pulled(repository: Repository, descriptor: Descriptor) -> bytes:
    found = bytearray()
    repository.pull(descriptor, found.extend)
    return bytes(found)


def data(found: Content) -> bytes:
    return b"".join(found.pieces())


def thing(*layers: Descriptor, subject: Descriptor | None = None) -> Manifest:
    config = of_bytes(EMPTY_DATA).described(EMPTY)
    return Manifest(config, layers, ARTIFACT, subject)


def test_what_is_pushed_in_one_piece_or_several_comes_out_again(
    registry: RealRegistry, reach: Reach
) -> None:
    repository = reach(registry.at("pieces"))
    for size in (0, 1, 1 << 20, (3 << 20) + 17):
        given, descriptor = content(size)
        there: list[int] = []
        assert repository.push(given, descriptor, there.append)
        assert there == sorted(there)
        assert pulled(repository, descriptor) == data(given)


def test_what_is_there_is_not_sent_again(registry: RealRegistry, reach: Reach) -> None:
    repository = reach(registry.at("again"))
    given, descriptor = content(100)
    assert [repository.push(given, descriptor, quiet) for _ in range(2)] == [True, False]


def test_an_upload_that_is_cut_ends_whole(registry: RealRegistry, reach: Reach) -> None:
    # In the first piece, between two, and where the registry's answer is on its way.
    with Cutter(registry.port, up=(300_000, 1_700_000), down=(1000,)) as cutter:
        repository = reach(f"oci://127.0.0.1:{cutter.port}/cut")
        given, descriptor = content(5 << 20)
        assert repository.push(given, descriptor, quiet)
        assert cutter.cuts == 3
        assert pulled(reach(registry.at("cut")), descriptor) == data(given)


def test_a_download_that_is_cut_goes_on_where_it_was(registry: RealRegistry, reach: Reach) -> None:
    given, descriptor = content(3 << 20)
    reach(registry.at("down")).push(given, descriptor, quiet)
    with Cutter(registry.port, down=(1_000_000, 1_500_000)) as cutter:
        repository = reach(f"oci://127.0.0.1:{cutter.port}/down")
        assert pulled(repository, descriptor) == data(given)
        assert cutter.cuts == 2


def test_a_connection_that_is_cut_each_time_is_a_fault_that_says_so(
    registry: RealRegistry, reach: Reach
) -> None:
    with Cutter(registry.port, up=(10_000,) * 50) as cutter:
        repository = reach(f"oci://127.0.0.1:{cutter.port}/never")
        with pytest.raises(RaveError, match="does not answer") as caught:
            repository.push(*content(2 << 20), quiet)
        assert caught.value.exit_code is ExitCode.NOT_READY


def test_a_tag_names_what_was_tagged_last_and_a_digest_always_the_same(
    registry: RealRegistry, reach: Reach
) -> None:
    repository = reach(registry.at("tags:one"))
    digests = []
    for _ in range(2):
        given, layer = content(10)
        repository.push(given, layer, quiet)
        manifest = thing(layer)
        repository.push_empty(manifest.config)
        digests.append(repository.put(manifest).digest)
        repository.tag(manifest, "one")
    assert repository.manifest()[1].digest == digests[1]
    assert repository.manifest(digests[0])[1].digest == digests[0]


def test_what_says_something_about_a_manifest_is_found_by_its_type(
    registry: RealRegistry, reach: Reach
) -> None:
    """docker-registry 2.8 has no API for it: the list lies under a tag."""
    repository = reach(registry.at("referrers"))
    given, layer = content(10)
    repository.push(given, layer, quiet)
    repository.push_empty(thing().config)
    subject = repository.put(thing(layer))
    assert repository.referrers(subject.digest, ARTIFACT) == []
    said = [
        repository.attach(thing(layer, subject=subject), (given,))
        for given, layer in (content(5), content(6))
    ]
    found = repository.referrers(subject.digest, ARTIFACT)
    assert [entry.digest for entry in found] == [entry.digest for entry in said]
    assert repository.referrers(subject.digest, "application/vnd.other") == []
    # Once more adds nothing.
    repository.put(repository.manifest(said[0].digest)[0])
    assert len(repository.referrers(subject.digest, ARTIFACT)) == 2


def test_what_is_not_there_is_said_so(registry: RealRegistry, reach: Reach) -> None:
    with pytest.raises(RaveError, match="has no oci://") as caught:
        reach(registry.at("nothing:here")).manifest()
    assert caught.value.exit_code is ExitCode.USAGE


def test_a_registry_that_is_down_is_said_so(reach: Reach) -> None:
    repository = reach("oci://127.0.0.1:1/down")
    with pytest.raises(RaveError, match="does not answer") as caught:
        repository.push(*content(1), quiet)
    assert caught.value.exit_code is ExitCode.NOT_READY
    assert len(reach.waited) == 4


def test_a_registry_whose_disk_is_full_is_said_so(tmp_path: Path, reach: Reach) -> None:
    with real_registry(tmp_path / "full", most_file=1 << 20) as full:
        repository = reach(full.at("full"))
        with pytest.raises(RaveError, match="answers 500") as caught:
            repository.push(*content(3 << 20), quiet)
        assert caught.value.exit_code is ExitCode.NOT_READY
        given, small = content(1000)
        assert repository.push(given, small, quiet)


# --- who may -------------------------------------------------------------------------------------


def test_a_password_is_shown_over_tls(secured: tuple[RealRegistry, str], reach: Reach) -> None:
    registry, ca = secured
    repository = reach(registry.at("mine"), Credentials("me", "pass:word"), ca=ca, plain=False)
    given, descriptor = content(10)
    assert repository.push(given, descriptor, quiet)
    assert pulled(repository, descriptor) == data(given)


@pytest.mark.parametrize("shown", [None, Credentials("me", "other")], ids=["nothing", "another"])
def test_another_password_or_none_is_refused(
    secured: tuple[RealRegistry, str], reach: Reach, shown: Credentials | None
) -> None:
    registry, ca = secured
    repository = reach(registry.at("mine"), shown, ca=ca, plain=False)
    with pytest.raises(RaveError, match="wants other credentials for mine") as caught:
        repository.push(*content(1), quiet)
    assert caught.value.exit_code is ExitCode.SECRETS


def test_a_certificate_that_nobody_vouches_for_is_refused(
    secured: tuple[RealRegistry, str], reach: Reach
) -> None:
    repository = reach(secured[0].at("mine"), Credentials("me", "pass:word"), plain=False)
    with pytest.raises(RaveError, match="is not trusted") as caught:
        repository.push(*content(1), quiet)
    assert caught.value.exit_code is ExitCode.VERIFICATION
    assert reach.waited == []


@contextmanager
def tokens(place: Path) -> Iterator[Any]:
    """Give out tokens as distribution's specification says; what was asked is in `asked`."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tokens")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name)
        .public_key(key.public_key()).serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1)).not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    (place / "tokens.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    chain = base64.b64encode(certificate.public_bytes(Encoding.DER)).decode()

    class Issuer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            query = parse_qs(urlsplit(self.path).query)
            server.asked.append((query, self.headers["Authorization"]))  # type: ignore[attr-defined]
            kind, name, actions = query["scope"][0].split(":")
            known = self.headers["Authorization"] == "Basic " + base64.b64encode(b"me:pw").decode()
            access = actions.split(",") if known else ["pull"]
            claims = {
                "iss": "here", "sub": "me", "aud": query["service"][0], "jti": os.urandom(8).hex(),
                "iat": int(time.time()) - 5, "nbf": int(time.time()) - 5,
                "exp": int(time.time()) + server.lasts,  # type: ignore[attr-defined]
                "access": [{"type": kind, "name": name, "actions": access}],
            }  # fmt: skip
            token = jwt.encode(claims, private_pem(key), "ES256", headers={"x5c": [chain]})
            said = json.dumps({"token": token}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)

        def log_message(self, *_words: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Issuer) as server:
        server.asked, server.lasts = [], 300  # type: ignore[attr-defined]
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def test_a_token_is_asked_for_with_the_password_and_shown(tmp_path: Path, reach: Reach) -> None:
    with tokens(tmp_path) as issuer:
        port = issuer.server_address[1]
        auth = (
            f"auth: {{token: {{realm: 'http://127.0.0.1:{port}/token', service: registry,"
            f" issuer: here, rootcertbundle: {tmp_path}/tokens.pem}}}}"
        )
        with real_registry(tmp_path / "registry", more=auth) as registry:
            mine = reach(registry.at("team/app"), Credentials("me", "pw"))
            given, descriptor = content(10)
            assert mine.push(given, descriptor, quiet)
            query, shown = issuer.asked[0]
            assert query["scope"] == ["repository:team/app:pull,push"]
            assert query["service"] == ["registry"]
            assert shown is not None
            assert len(issuer.asked) == 1

            # Anybody may pull there, and nobody else push.
            anybody = reach(registry.at("team/app"))
            assert pulled(anybody, descriptor) == data(given)
            with pytest.raises(RaveError, match="wants other credentials"):
                anybody.push(*content(1), quiet)

            # A token that has ended is asked for anew.
            issuer.lasts = -120
            mine = reach(registry.at("team/app"), Credentials("me", "pw"))
            with pytest.raises(RaveError, match="wants other credentials"):
                mine.has(descriptor.digest)
            issuer.lasts = 300
            assert mine.has(descriptor.digest)
