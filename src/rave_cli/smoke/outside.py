"""The view from outside, through the forwarded ports: SSH refusals, TLS, pages.

Every refusal is provoked for real. Logins that must fail are few and go over as few connections as
possible: to the guest all of them come from one address, its gateway.
"""

from __future__ import annotations

import socket
import ssl
import statistics
import time
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from rave_cli.smoke.model import Question, Verdict, judge

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import httpx
    import paramiko
    from cryptography import x509

    from rave_cli.smoke.scene import Scene

SSH_PORT = 22
LOOPBACK = "127.0.0.1"
# A certificate that ends sooner is worth a warning.
SOON_DAYS = 14
PAGE_TRIES, PAGE_LIMIT = 5, 1.0


@contextmanager
def transport(scene: Scene, timeout: float) -> Iterator[paramiko.Transport]:
    """Open an SSH transport that has seen the pinned host key, and is not logged in."""
    import paramiko

    pinned = paramiko.HostKeys(str(scene.machine.known_hosts)).lookup(scene.machine.alias)
    plain = socket.create_connection((LOOPBACK, scene.ports[SSH_PORT]), timeout)
    opened = paramiko.Transport(plain)
    try:
        security = opened.get_security_options()
        security.kex = ("curve25519-sha256@libssh.org",)
        security.key_types = ("ssh-ed25519",)
        opened.start_client(timeout=timeout)
        key = opened.get_remote_server_key()
        if pinned is None or pinned.get(key.get_name()) != key:
            raise paramiko.SSHException("the host key is not the pinned one")
        yield opened
    finally:
        opened.close()
        plain.close()


def ssh_refusals(scene: Scene, timeout: float) -> dict[str, Verdict]:
    """Try to log in as the operator without a key, with a password and with a key of a stranger."""
    import paramiko

    user = "rave"
    with transport(scene, timeout) as opened:
        offered = _refused(lambda: opened.auth_none(user))
        password = _refused(lambda: opened.auth_password(user, "rave-smoke", fallback=False))
        stranger = _refused(lambda: opened.auth_publickey(user, new_key()))
        methods = (
            offered.allowed_types if isinstance(offered, paramiko.BadAuthenticationType) else []
        )
    return {
        "security.ssh-password": judge_password(methods, refused=password is not None),
        "security.ssh-stranger": judge(
            [] if stranger is not None else ["a key made just now was accepted"],
            "a key made just now is refused",
        ),
    }


def judge_password(methods: list[str], *, refused: bool) -> Verdict:
    """Read the methods the server offers, and whether it refused the password really sent."""
    problems = [f"the server offers {m}" for m in methods if m != "publickey"]
    if not refused:
        problems.append("a password was accepted")
    if not methods:
        problems.append("a login without any proof was not refused in the way it should be")
    return judge(problems, "the server offers publickey alone and refuses a password")


def ssh_root(scene: Scene, timeout: float) -> Verdict:
    """Try to log in as root with the key that opens the operator's account."""
    import paramiko

    key = paramiko.Ed25519Key.from_private_key_file(str(scene.machine.login_key))
    with transport(scene, timeout) as opened:
        refused = _refused(lambda: opened.auth_publickey("root", key))
    problems = [] if refused is not None else ["root got in with the operator's key"]
    return judge(problems, "root is refused with the operator's key")


def _refused(attempt: Callable[[], object]) -> Exception | None:
    import paramiko

    try:
        attempt()
    except paramiko.AuthenticationException as error:
        return error
    return None


def new_key() -> paramiko.PKey:
    """Return an Ed25519 key that nobody knows."""
    import io

    import paramiko
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    text = Ed25519PrivateKey.generate().private_bytes(
        Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()
    )
    return paramiko.Ed25519Key.from_private_key(io.StringIO(text.decode()))


def tls(scene: Scene, timeout: float) -> tuple[dict[str, Verdict], bytes | None]:
    """Negotiate TLS 1.3, then try TLS 1.2; also return the certificate that was shown (DER)."""
    newest, shown = _handshake(scene, ssl.TLSVersion.TLSv1_3, timeout)
    older, _ = _handshake(scene, ssl.TLSVersion.TLSv1_2, timeout)
    problems = [] if newest == "TLSv1.3" else [f"negotiated {newest}"]
    return {
        "security.tls-1.3": judge(problems, "TLSv1.3 negotiated"),
        "security.tls-1.2": judge_older(older),
    }, shown


def judge_older(outcome: str) -> Verdict:
    """Read what came of offering TLS 1.2 alone. Only the server's own alert counts as a refusal: a
    local failure would prove nothing.
    """
    if outcome == "TLSV1_ALERT_PROTOCOL_VERSION":
        return Verdict("pass", "the server answers an offer of TLS 1.2 with protocol_version")
    if outcome.startswith("TLSv1"):
        return Verdict("fail", f"{outcome} was accepted")
    return Verdict("error", f"TLS 1.2 could not be tried: {outcome}")


def _status(scene: Scene) -> int:
    """Return the port of 127.0.0.1 that leads to the status page."""
    return scene.ports[scene.plan.status_port or 0]


def _handshake(scene: Scene, version: ssl.TLSVersion, timeout: float) -> tuple[str, bytes | None]:
    """Shake hands with one version only; return what was negotiated or refused, and the DER."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # Trust is judged by comparing the certificate, so that this answers about versions alone.
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = version
    try:
        with (
            socket.create_connection((LOOPBACK, _status(scene)), timeout) as plain,
            context.wrap_socket(plain, server_hostname="rave") as secured,
        ):
            return str(secured.version()), secured.getpeercert(binary_form=True)
    except ssl.SSLError as error:
        return error.reason or str(error), None


def certificate(shown: bytes | None, scene: Scene, inside: bytes | None) -> Verdict:
    """Compare the certificate shown outside with the operator's, or else with the one that the
    pinned SSH connection brought from inside.
    """
    from cryptography import x509

    if shown is None:
        return Verdict("fail", "no certificate was shown")
    found = x509.load_der_x509_certificate(shown)
    text = scene.operator.values.get("tls/certificate")
    known = ssl.PEM_cert_to_DER_cert(text.strip()) if text else inside
    origin = "the operator's" if text else "the one inside the machine"
    if known is None:
        return Verdict("error", "there is nothing to compare it with")
    return judge_certificate(found, same=shown == known, origin=origin, now=datetime.now(UTC))


def judge_certificate(
    found: x509.Certificate, *, same: bool, origin: str, now: datetime
) -> Verdict:
    """Read a certificate: the expected one, for this address, valid now and for a while."""
    from cryptography import x509
    from cryptography.x509 import ExtensionNotFound, SubjectAlternativeName

    problems = [] if same else [f"it is not {origin}"]
    try:
        names = found.extensions.get_extension_for_class(SubjectAlternativeName).value
        addresses = {str(address) for address in names.get_values_for_type(x509.IPAddress)}
        if LOOPBACK not in addresses:
            problems.append(f"it does not name {LOOPBACK}")
    except ExtensionNotFound:
        problems.append("it names no host")
    if now < found.not_valid_before_utc:
        problems.append("it is not valid yet")
    if now > found.not_valid_after_utc:
        problems.append("it has expired")
    days = (found.not_valid_after_utc - now).days
    if not problems and days < SOON_DAYS:
        return Verdict("warn", f"{origin}, valid for {days} days only", {"days": days})
    return judge(problems, f"{origin}, names {LOOPBACK}, valid for {days} days", days=days)


def page(scene: Scene, shown: bytes | None, question: Question) -> Verdict:
    """Fetch a page of the catalog through the forward, trusting only the certificate shown before,
    which `security.certificate` judges.
    """
    import httpx

    arguments = question.arguments
    with _client(shown, question.timeout) as client:
        try:
            answer = client.get(_outer(scene, str(arguments["url"])))
        except httpx.HTTPError as error:
            return Verdict("fail", f"{type(error).__name__}: {error}")
    problems = []
    if answer.status_code != arguments["status"]:
        problems.append(f"status {answer.status_code} instead of {arguments['status']}")
    if arguments["contains"] and arguments["contains"] not in answer.text:
        problems.append(f"the answer does not contain {arguments['contains']!r}")
    return judge(problems, f"status {answer.status_code}, {len(answer.content)} bytes")


def page_time(scene: Scene, shown: bytes | None, timeout: float) -> Verdict:
    """Fetch the status page several times over one connection."""
    import httpx

    times = []
    with _client(shown, timeout) as client:
        for _ in range(PAGE_TRIES):
            began = time.monotonic()
            try:
                client.get(f"https://{LOOPBACK}:{_status(scene)}/").raise_for_status()
            except httpx.HTTPError as error:
                return Verdict("fail", f"{type(error).__name__}: {error}")
            times.append(time.monotonic() - began)
    return judge_times(times)


def judge_times(times: list[float]) -> Verdict:
    """Read seconds per request."""
    middle, worst = statistics.median(times), max(times)
    problems = [f"p95 is {worst:.2f} s"] if worst > PAGE_LIMIT else []
    figures = {"p50_seconds": round(middle, 4), "p95_seconds": round(worst, 4)}
    return judge(problems, f"p50 {middle * 1000:.0f} ms, p95 {worst * 1000:.0f} ms", **figures)


@contextmanager
def _client(shown: bytes | None, timeout: float) -> Iterator[httpx.Client]:
    import httpx

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    if shown is not None:
        context.load_verify_locations(cadata=ssl.DER_cert_to_PEM_cert(shown))
    with httpx.Client(verify=context, timeout=timeout, trust_env=False) as client:
        yield client


def _outer(scene: Scene, url: str) -> str:
    """Return a URL of the guest as it is reached from the host."""
    from urllib.parse import urlsplit

    parts = urlsplit(url)
    inner = parts.port or (443 if parts.scheme == "https" else 80)
    return f"{parts.scheme}://{LOOPBACK}:{scene.ports[inner]}{parts.path}"
