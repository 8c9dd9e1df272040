"""A certificate by ACME (RFC 8555), from whatever directory somebody names.

The challenge is http-01 (8.3): for each name the server asks for a token over plain HTTP, which is
answered from a port of this host for as long as the order lasts.
"""

from __future__ import annotations

import hashlib
import json
import ssl
import time
from base64 import urlsafe_b64encode
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import TYPE_CHECKING, Any

import httpx
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from rave_cli import paths
from rave_cli.errors import ExitCode, RaveError
from rave_cli.tls.authority import Issued
from rave_cli.tls.making import private_pem

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

# Seconds: for one answer, and for the server to make up its mind about an order.
ANSWERS, DECIDES = 30.0, 180.0
PATH = "/.well-known/acme-challenge/"
# A nonce may be refused at any time, and a new one comes with that (6.5).
TRIES = 10
BAD_NONCE = "urn:ietf:params:acme:error:badNonce"


def account_key(directory: str) -> ec.EllipticCurvePrivateKey:
    """Return the key of this login's account at a server, made on first use.

    Raises:
        RaveError: SECRETS if its file must not be trusted, or holds no such key; HOST if it cannot
            be read or written.
    """
    name = hashlib.sha256(directory.encode()).hexdigest()[:16]
    place = paths.private_dir(paths.config_dir() / "tls" / "accounts") / f"{name}.pem"
    if not place.exists() and not place.is_symlink():
        made = ec.generate_private_key(ec.SECP256R1())
        paths.atomic_write(place, private_pem(made).encode(), mode=0o600)
    try:
        key = load_pem_private_key(paths.read_private(place), None)
    except (ValueError, TypeError) as error:
        raise _no_account(place) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise _no_account(place)
    return key


@dataclass
class Client:
    """This login's account at a server.

    Args:
        http: asks it.
        directory: where it says where everything is.
        key: the account's.
    """

    http: httpx.Client
    directory: str
    key: ec.EllipticCurvePrivateKey = field(repr=False)
    known: dict[str, Any] = field(default_factory=dict)
    account: str = ""
    nonce: str = ""

    def open(self) -> None:
        """Make the account, or find it; its terms are agreed to.

        Raises:
            RaveError: as `ask`.
        """
        self.known = self._got(self.directory)
        made = self.ask(self.known["newAccount"], {"termsOfServiceAgreed": True})
        self.account = made.headers["location"]

    def ask(self, url: str, payload: Mapping[str, Any] | None) -> httpx.Response:
        """Send a signed request (6.2); None only asks for what is there.

        Raises:
            RaveError: HOST if nobody answers; VERIFICATION with the server's words if it refuses.
        """
        for left in reversed(range(TRIES)):
            answer = self._post(url, payload)
            self.nonce = answer.headers.get("replay-nonce", "")
            if answer.is_success:
                return answer
            problem = _problem(answer)
            if not left or problem.get("type") != BAD_NONCE:
                said = problem.get("detail") or f"status {answer.status_code}"
                raise _refused(self.directory, str(said))
        raise AssertionError

    def settled(self, url: str, wanted: str) -> dict[str, Any]:
        """Return an order or authorization once it is no longer pending.

        Raises:
            RaveError: VERIFICATION if it becomes anything but `wanted`, or takes too long.
        """
        until = time.monotonic() + DECIDES
        while time.monotonic() < until:
            answer = self.ask(url, None)
            found: dict[str, Any] = answer.json()
            if found["status"] == wanted:
                return found
            if found["status"] not in ("pending", "processing", "ready"):
                raise _refused(self.directory, _why(found))
            time.sleep(min(float(answer.headers.get("retry-after") or 1), 10.0))
        raise _refused(self.directory, f"it did not decide within {DECIDES:g} s")

    def thumbprint(self) -> str:
        """Return the digest of the account's key (RFC 7638)."""
        text = json.dumps(self._jwk(), sort_keys=True, separators=(",", ":"))
        return _encoded(hashlib.sha256(text.encode()).digest())

    def _post(self, url: str, payload: Mapping[str, Any] | None) -> httpx.Response:
        if not self.nonce:
            answer = _asking(self.directory, lambda: self.http.head(self.known["newNonce"]))
            self.nonce = answer.headers.get("replay-nonce", "")
        who = {"kid": self.account} if self.account else {"jwk": self._jwk()}
        head = {"alg": "ES256", "nonce": self.nonce, "url": url, **who}
        protected = _encoded(json.dumps(head).encode())
        body = "" if payload is None else _encoded(json.dumps(payload).encode())
        der = self.key.sign(f"{protected}.{body}".encode(), ec.ECDSA(hashes.SHA256()))
        signature = b"".join(number.to_bytes(32) for number in decode_dss_signature(der))
        document = {"protected": protected, "payload": body, "signature": _encoded(signature)}
        headers = {"content-type": "application/jose+json"}
        return _asking(
            self.directory,
            lambda: self.http.post(url, content=json.dumps(document), headers=headers),
        )

    def _got(self, url: str) -> dict[str, Any]:
        answer = _asking(self.directory, lambda: self.http.get(url))
        try:
            found = answer.raise_for_status().json()
        except (httpx.HTTPError, ValueError) as error:
            raise _refused(self.directory, f"it is no directory: {error}") from error
        if not isinstance(found, dict) or not {"newNonce", "newAccount", "newOrder"} <= set(found):
            raise _refused(self.directory, "it is no directory")
        return found

    def _jwk(self) -> dict[str, str]:
        numbers = self.key.public_key().public_numbers()
        return {
            "crv": "P-256",
            "kty": "EC",
            "x": _encoded(numbers.x.to_bytes(32)),
            "y": _encoded(numbers.y.to_bytes(32)),
        }


def obtain(
    directory: str, names: Sequence[str], listen: tuple[str, int], *, ca: Path | None = None
) -> Issued:
    """Return a certificate for names, with a new key, from the server of a directory.

    Args:
        directory: its URL.
        names: each must lead the server to `listen` over plain HTTP.
        listen: address and port of this host where the challenges are answered.
        ca: whom to trust for the server itself; None takes what this host trusts.

    Raises:
        RaveError: HOST if the server does not answer or the port is taken; VERIFICATION if it
            refuses; SECRETS if the account's key cannot be used.
    """
    trust = ssl.create_default_context(cafile=None if ca is None else str(ca))
    with httpx.Client(verify=trust, timeout=ANSWERS, trust_env=ca is None) as http:
        client = Client(http, directory, account_key(directory))
        client.open()
        wanted = {"identifiers": [{"type": "dns", "value": name} for name in names]}
        placed = client.ask(client.known["newOrder"], wanted)
        order = placed.json()
        tokens: dict[str, str] = {}
        with _answering(tokens, listen):
            for url in order["authorizations"]:
                _prove(client, url, tokens)
            key = ec.generate_private_key(ec.SECP256R1())
            client.ask(order["finalize"], {"csr": _encoded(_request(key, names))})
            done = client.settled(placed.headers["location"], "valid")
        chain = client.ask(done["certificate"], None).text
    return Issued(chain, private_pem(key))


def _prove(client: Client, url: str, tokens: dict[str, str]) -> None:
    """Prove that a name leads here."""
    found = client.ask(url, None).json()
    if found["status"] == "valid":
        return
    offered = [one for one in found["challenges"] if one["type"] == "http-01"]
    if not offered:
        raise _refused(client.directory, f"it offers no http-01 for {found['identifier']['value']}")
    tokens[offered[0]["token"]] = f"{offered[0]['token']}.{client.thumbprint()}"
    client.ask(offered[0]["url"], {})
    client.settled(url, "valid")


@contextmanager
def _answering(tokens: Mapping[str, str], listen: tuple[str, int]) -> Iterator[None]:
    """Answer challenges, and nothing else."""

    class Answers(BaseHTTPRequestHandler):
        timeout = 10

        def do_GET(self) -> None:
            text = tokens.get(self.path.removeprefix(PATH)) if PATH in self.path else None
            self.send_response(404 if text is None else 200)
            self.send_header("content-type", "application/octet-stream")
            self.end_headers()
            self.wfile.write((text or "").encode())

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as there
            """Say nothing."""

    try:
        server = ThreadingHTTPServer(listen, Answers)
    except OSError as error:
        raise RaveError(
            f"challenges cannot be answered at {listen[0]}:{listen[1]}: {error.strerror}",
            hint="rave tls install NAME --acme URL --acme-listen ADDRESS:PORT   (another one)",
            exit_code=ExitCode.HOST,
        ) from error
    with server:
        Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        try:
            yield
        finally:
            server.shutdown()


def _request(key: ec.EllipticCurvePrivateKey, names: Sequence[str]) -> bytes:
    alternatives = x509.SubjectAlternativeName([x509.DNSName(name) for name in names])
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    built = builder.add_extension(alternatives, critical=False).sign(key, hashes.SHA256())
    return built.public_bytes(Encoding.DER)


def _asking(directory: str, ask: Any) -> httpx.Response:  # noqa: ANN401 - a call of httpx
    try:
        answer: httpx.Response = ask()
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise RaveError(
            f"{directory} cannot be asked: {error}",
            hint=f"curl -v {directory}   (--acme-ca FILE names whom to trust for it)",
            exit_code=ExitCode.HOST,
        ) from error
    return answer


def _problem(answer: httpx.Response) -> dict[str, Any]:
    try:
        found = answer.json()
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _why(found: Mapping[str, Any]) -> str:
    """Return why an order or authorization came to nothing, in the server's words."""
    name = found.get("identifier", {}).get("value", "the order")
    problems = [one["error"] for one in found.get("challenges", []) if "error" in one]
    said = (problems or [found.get("error") or {}])[0].get("detail", found["status"])
    return f"{name}: {said}"


def _refused(directory: str, why: str) -> RaveError:
    return RaveError(
        f"{directory} issues no certificate: {why[:500]}",
        hint="does http://NAME/.well-known/acme-challenge/ lead from the server to --acme-listen?",
        exit_code=ExitCode.VERIFICATION,
    )


def _no_account(place: Path) -> RaveError:
    return RaveError(
        f"{place} holds no EC key in PEM",
        hint=f"put it back from a copy; or mv {place} ELSEWHERE, and rave opens a new account",
        exit_code=ExitCode.SECRETS,
    )


def _encoded(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()
