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

from rave_cli import signals
from rave_cli.machines.certificate import SOON_DAYS
from rave_cli.machines.spec import SSH_PORT
from rave_cli.smoke.declarations import check
from rave_cli.smoke.knocks import LOOPBACK, knock
from rave_cli.smoke.model import Verdict, judge

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import httpx
    import paramiko
    from cryptography import x509

    from rave_cli.machines.certificate import MachineCertificate
    from rave_cli.machines.guest.session import Session
    from rave_cli.smoke.context import CheckContext

PAGE_TRIES, PAGE_LIMIT = 5, 1.0
# So often the page is measured at most, with a pause before each time but the first, in seconds.
PAGE_ROUNDS, PAGE_PAUSE = 4, 0.5
# Seconds. The reference of the guest has whole ones (rave_guest/clock.py), and drops a part of one.
CLOCK_TOLERANCE = 3.0


@contextmanager
def transport(context: CheckContext, timeout: float) -> Iterator[paramiko.Transport]:
    """Lend an SSH connection that has seen the pinned host key, and is not logged in: one that was
    made ahead, or else a new one. It is closed afterwards.
    """
    with signals.held():
        waiting = context.knocks.take()
    port = context.ports[SSH_PORT]
    opened = waiting or signals.apart(lambda: knock(context.machine, port, timeout))
    try:
        yield opened
    finally:
        with signals.held():
            opened.close()


@check("boot.ssh", phase="boot", viewpoint="outside", step="login",
       title="the login works, with the host key that was pinned before boot")  # fmt: skip
def log_in(context: CheckContext) -> Verdict:
    """Open the one connection that everything inside is asked over, unless it is open already."""
    from rave_cli.machines.guest import ssh

    if context.session is not None:
        # A program that says something: a second one takes an emulated guest a tenth of a second.
        context.told = ask_clock(context.session, context.within(20.0))
        return Verdict("pass", "logged in before the run, with the host key pinned before the boot")
    connection = ssh.connect(
        context.machine, port=context.ports[SSH_PORT], timeout=context.within(60.0)
    )
    context.session = context.stack.enter_context(connection)
    return Verdict("pass", "key accepted, host key as pinned before the first boot")


@check("boot.clock", phase="boot", viewpoint="outside", step="early", needs=("boot.ssh",),
       title="the guest's clock is the host's",
       figures={"error_seconds": "clock_error_seconds"})  # fmt: skip
def clock(context: CheckContext, timeout: float = 20.0) -> Verdict:
    """Ask the guest for the time, and compare it with the host's before and after."""
    if context.session is None:
        return Verdict("error", "there is no connection to the guest")
    return judge_clock(*(context.told or ask_clock(context.session, timeout)))


def ask_clock(session: Session, timeout: float) -> tuple[float, float, float]:
    """Return the host's time, the guest's, and the host's again, in seconds since 1970.

    Raises:
        RaveError: as `Session.run` does.
        ValueError: the guest says no time.
    """
    began = time.time()
    done = session.run(["date", "+%s.%N"], timeout=timeout)
    return began, float(done.text), time.time()


def judge_clock(began: float, said: float, ended: float) -> Verdict:
    """Read the guest's time and the host's before and after; what lies between proves nothing."""
    offset = min(0.0, said - began) + max(0.0, said - ended)
    problems = [f"it is {offset:+.1f} s off"] if abs(offset) > CLOCK_TOLERANCE else []
    return judge(problems, f"within {CLOCK_TOLERANCE:g} s", error_seconds=round(abs(offset), 2))


@check("security.ssh-password", phase="security", viewpoint="outside", step="logins",
       title="a login with a password is refused")  # fmt: skip
@check("security.ssh-stranger", phase="security", viewpoint="outside", step="logins",
       title="a login with another key is refused")  # fmt: skip
def ssh_refusals(context: CheckContext, timeout: float = 30.0) -> dict[str, Verdict]:
    """Try to log in as the operator without a key, with a password and with a key of a stranger."""
    import paramiko

    user = context.plan.facts.operator
    with transport(context, timeout) as opened:
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


@check("security.ssh-root", phase="security", viewpoint="outside", step="logins",
       title="root's login is refused, even with the right key")  # fmt: skip
def ssh_root(context: CheckContext, timeout: float = 30.0) -> Verdict:
    """Try to log in as root with the key that opens the operator's account."""
    from rave_cli.machines.guest import ssh

    key = ssh.login_key(context.machine)
    with transport(context, timeout) as opened:
        refused = _refused(lambda: opened.auth_publickey("root", key))
    problems = [] if refused is not None else ["root got in with the operator's key"]
    return judge(problems, "root is refused with the operator's key")


def _refused(attempt: Callable[[], object]) -> Exception | None:
    import paramiko

    try:
        signals.apart(attempt)
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


@check("security.tls-1.3", phase="security", viewpoint="outside", service="nginx",
       title="TLS 1.3 is spoken")  # fmt: skip
@check("security.tls-1.2", phase="security", viewpoint="outside", service="nginx",
       title="TLS 1.2 and older are refused")  # fmt: skip
def tls(context: CheckContext, timeout: float = 20.0) -> dict[str, Verdict]:
    """Negotiate TLS 1.3, then try TLS 1.2."""
    newest, _ = greeting(context, timeout)
    older, _ = _handshake(context, ssl.TLSVersion.TLSv1_2, timeout)
    problems = [] if newest == "TLSv1.3" else [f"negotiated {newest}"]
    return {
        "security.tls-1.3": judge(problems, "TLSv1.3 negotiated"),
        "security.tls-1.2": judge_older(older),
    }


def greeting(context: CheckContext, timeout: float) -> tuple[str, bytes | None]:
    """Offer TLS 1.3, once in a run; return what was negotiated or refused, and the certificate that
    was shown (DER), with which the pages are asked.
    """
    if context.greeting is None:
        context.greeting = _handshake(context, ssl.TLSVersion.TLSv1_3, timeout)
    return context.greeting


def judge_older(outcome: str) -> Verdict:
    """Read what came of offering TLS 1.2 alone. Only the server's own alert counts as a refusal: a
    local failure would prove nothing.
    """
    if outcome == "TLSV1_ALERT_PROTOCOL_VERSION":
        return Verdict("pass", "the server answers an offer of TLS 1.2 with protocol_version")
    if outcome.startswith("TLSv1"):
        return Verdict("fail", f"{outcome} was accepted")
    return Verdict("error", f"TLS 1.2 could not be tried: {outcome}")


def status_port(context: CheckContext) -> int:
    """Return the port of 127.0.0.1 that leads to nginx."""
    return context.ports[context.plan.status_port or 0]


def _handshake(
    context: CheckContext, version: ssl.TLSVersion, timeout: float
) -> tuple[str, bytes | None]:
    """Shake hands with one version only; return what was negotiated or refused, and the DER."""
    offer = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # Trust is judged by comparing the certificate, so that this answers about versions alone.
    offer.check_hostname = False
    offer.verify_mode = ssl.CERT_NONE
    offer.set_ciphers("ALL:@SECLEVEL=0")
    offer.minimum_version = offer.maximum_version = version
    try:
        with (
            socket.create_connection((LOOPBACK, status_port(context)), timeout) as plain,
            offer.wrap_socket(plain, server_hostname="rave") as secured,
        ):
            return str(secured.version()), secured.getpeercert(binary_form=True)
    except ssl.SSLError as error:
        return error.reason or str(error), None


@check("security.certificate", phase="security", viewpoint="outside", service="nginx",
       step="early", title="the certificate is the machine's own, valid")  # fmt: skip
def certificate(context: CheckContext, timeout: float = 20.0) -> Verdict:
    """See that the certificate shown outside is the one that this host gave the machine, and that a
    client which trusts its authority alone takes it under the machine's public name.

    A machine of an older image shows the operator's, which came with the secrets, or the one that
    the pinned SSH connection brings from inside.
    """
    from cryptography import x509

    _, shown = greeting(context, timeout)
    if shown is None:
        return Verdict("fail", "no certificate was shown")
    found = x509.load_der_x509_certificate(shown)
    given = _given(context)
    text = given.chain if given else context.operator.values.get("tls/certificate")
    known = _first(text) if text else _inner_certificate(context, timeout)
    if known is None:
        return Verdict("error", "there is nothing to compare it with")
    host = LOOPBACK
    origin = "the operator's" if text else "the one inside the machine"
    if given is not None:
        host = context.machine.spec.public_host
        refused = _refusal(context, given, timeout) if shown == known else None
        if refused is not None:
            return Verdict("fail", f"a client refuses it: {refused}")
        origin = f"the one that this host has {given.kind}"
    return judge_certificate(
        found, same=shown == known, origin=origin, host=host, now=datetime.now(UTC)
    )


def _given(context: CheckContext) -> MachineCertificate | None:
    """Return the certificate that this host gave the machine; None if its image takes none."""
    if "tls/certificate" in context.plan.secrets:
        return None
    from rave_cli.machines import certificate

    return certificate.stored(context.machine)


def _first(text: str) -> bytes:
    return ssl.PEM_cert_to_DER_cert(text[: text.index(ssl.PEM_FOOTER) + len(ssl.PEM_FOOTER)])


def _refusal(context: CheckContext, given: MachineCertificate, timeout: float) -> str | None:
    """Return why a client that trusts what the certificate stands on does not take it; OpenSSL
    judges names, time, chain and the authority's constraints.
    """
    client, host = _trust(given), context.machine.spec.public_host
    try:
        with (
            socket.create_connection((LOOPBACK, status_port(context)), timeout) as plain,
            client.wrap_socket(plain, server_hostname=host),
        ):
            return None
    except ssl.SSLCertVerificationError as error:
        return error.verify_message


def _trust(given: MachineCertificate) -> ssl.SSLContext:
    """Return a client that trusts the authority which issued a certificate; of one that was
    installed, that certificate and what came with it.
    """
    from rave_cli.tls import handshake

    if given.kind == "installed":
        return handshake.trusting(given.chain)
    return handshake.trusting(given.chain[given.chain.rindex(ssl.PEM_HEADER) :])


def _inner_certificate(context: CheckContext, timeout: float) -> bytes | None:
    if context.session is None:
        return None
    done = context.session.run(["cat", "/run/rave/tls/current.crt"], timeout=timeout, sudo=True)
    return _first(done.text) if done.ok else None


def judge_certificate(
    found: x509.Certificate, *, same: bool, origin: str, now: datetime, host: str = LOOPBACK
) -> Verdict:
    """Read a certificate: the expected one, for this host, valid now and for a while."""
    from rave_cli.tls import chain

    problems = [] if same else [f"it is not {origin}"]
    names = chain.names_of(found)
    if not names:
        problems.append("it names no host")
    elif not chain.covers(names, host):
        problems.append(f"it does not name {host}")
    if now < found.not_valid_before_utc:
        problems.append("it is not valid yet")
    if now > found.not_valid_after_utc:
        problems.append("it has expired")
    days = (found.not_valid_after_utc - now).days
    if not problems and days < SOON_DAYS:
        return Verdict("warn", f"{origin}, valid for {days} days only", {"days": days})
    return judge(problems, f"{origin}, names {host}, valid for {days} days", days=days)


def page(
    context: CheckContext, *, url: str, status: int, contains: str | None, timeout: float
) -> Verdict:
    """Fetch a page of the catalog through the forward, as a browser that trusts the machine's
    authority; of an older image what is shown is trusted, which `security.certificate` judges.
    """
    import httpx

    with _client(context, timeout) as client:
        try:
            answer = client.get(_outer(context, url), extensions=_under_name(context))
        except httpx.HTTPError as error:
            return Verdict("fail", f"{type(error).__name__}: {error}")
    problems = []
    if answer.status_code != status:
        problems.append(f"status {answer.status_code} instead of {status}")
    if contains and contains not in answer.text:
        problems.append(f"the answer does not contain {contains!r}")
    return judge(problems, f"status {answer.status_code}, {len(answer.content)} bytes")


# Early, and not with the rest of the view from outside: while logins are made ahead, both
# processors of a guest are busy.
@check("performance.page", phase="performance", viewpoint="outside", service="nginx", step="early",
       title="the status page answers within a second (p95)",
       figures={"p50_seconds": "page_p50_seconds", "p95_seconds": "page_p95_seconds"})  # fmt: skip
def page_time(context: CheckContext, timeout: float = 20.0) -> Verdict:
    """Fetch the status page several times over one connection; where that is slow, again a little
    later: a guest that has just come up, on a host with other work, is so in passing.
    """
    import httpx

    with _client(context, timeout) as client:
        try:
            return measured(lambda: _page_times(context, client))
        except httpx.HTTPError as error:
            return Verdict("fail", f"{type(error).__name__}: {error}")


def _page_times(context: CheckContext, client: httpx.Client) -> list[float]:
    """Return the seconds of each of PAGE_TRIES requests, one after the other."""
    times = []
    for _ in range(PAGE_TRIES):
        began = time.monotonic()
        address = f"https://{LOOPBACK}:{status_port(context)}/"
        client.get(address, extensions=_under_name(context)).raise_for_status()
        times.append(time.monotonic() - began)
    return times


def measured(take: Callable[[], list[float]], pause: float = PAGE_PAUSE) -> Verdict:
    """Judge the first of PAGE_ROUNDS measurements that is good, or else the last of them."""
    for before in range(PAGE_ROUNDS):
        time.sleep(pause if before else 0)
        verdict = judge_times(take())
        if verdict.status == "pass":
            break
    again = f" (measured {before + 1} times)" if before else ""
    return Verdict(verdict.status, verdict.detail + again, verdict.data)


def judge_times(times: list[float]) -> Verdict:
    """Read seconds per request."""
    middle, worst = statistics.median(times), max(times)
    problems = [f"p95 is {worst:.2f} s"] if worst > PAGE_LIMIT else []
    figures = {"p50_seconds": round(middle, 4), "p95_seconds": round(worst, 4)}
    return judge(problems, f"p50 {middle * 1000:.0f} ms, p95 {worst * 1000:.0f} ms", **figures)


@contextmanager
def _client(context: CheckContext, timeout: float) -> Iterator[httpx.Client]:
    import httpx

    given = _given(context)
    if given is not None:
        trust = _trust(given)
    else:
        trust = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        trust.minimum_version = ssl.TLSVersion.TLSv1_3
        _, shown = greeting(context, timeout)
        if shown is not None:
            trust.load_verify_locations(cadata=ssl.DER_cert_to_PEM_cert(shown))
    with httpx.Client(verify=trust, timeout=timeout, trust_env=False) as client:
        yield client


def _under_name(context: CheckContext) -> dict[str, str]:
    """Return what has httpx ask for, and insist on, the machine's public name."""
    return {"sni_hostname": context.machine.spec.public_host} if _given(context) else {}


def _outer(context: CheckContext, url: str) -> str:
    """Return a URL of the guest as it is reached from the host."""
    from urllib.parse import urlsplit

    parts = urlsplit(url)
    inner = parts.port or (443 if parts.scheme == "https" else 80)
    return f"{parts.scheme}://{LOOPBACK}:{context.ports[inner]}{parts.path}"
