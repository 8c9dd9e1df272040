"""The view from outside, against servers of our own that behave well or badly."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from cryptography import x509

from rave_cli.machines import certificate, identity
from rave_cli.process import Completed
from rave_cli.smoke import outside
from rave_cli.smoke.context import CheckContext
from rave_cli.smoke.operator import Operator
from rave_cli.tls import authority
from tests.sops import secret
from tests.unit.machines.fake_sshd import FakeSshd
from tests.waiting import CEILING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from rave_cli.images.manifest import Image
    from rave_cli.machines.spec import Machine
    from rave_cli.profiles.catalog import Plan


@pytest.fixture
def pair(machine: Machine) -> tuple[str, str]:
    """What the host has issued to the machine."""
    issued = certificate.of(machine)
    return issued.chain, issued.key


def another() -> tuple[str, str]:
    """What another login's authority issues for the same names."""
    now = datetime.now(UTC)
    issued = authority.issue(authority.make("localhost", now=now), "rave.localhost", now=now)
    return issued.chain, issued.key


def first(chain: str) -> bytes:
    return ssl.PEM_cert_to_DER_cert(chain[: chain.index(ssl.PEM_FOOTER) + len(ssl.PEM_FOOTER)])


@pytest.fixture
def before(plan: Plan) -> Plan:
    """The plan of an image whose certificate comes with its secrets."""
    return plan.model_copy(
        update={"secrets": {"tls/certificate": secret(kind="tls-certificate", key="tls/key")}}
    )


@contextmanager
def page_server(pair: tuple[str, str], tmp_path: Path, newest: ssl.TLSVersion) -> Iterator[int]:
    """Serve one page over TLS up to a version."""
    chain = tmp_path / "chain.pem"
    chain.write_text("".join(pair))
    offer = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    offer.load_cert_chain(chain)
    offer.maximum_version = newest
    if newest == ssl.TLSVersion.TLSv1_3:
        offer.minimum_version = newest
    stop = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.1)

        def serve() -> None:
            while not stop.is_set():
                with suppress(OSError):
                    plain, _ = listener.accept()
                    plain.settimeout(CEILING)
                    with plain, offer.wrap_socket(plain, server_side=True) as secured:
                        secured.recv(4096)
                        body = b"rave"
                        head = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 4\r\n\r\n"
                        secured.sendall(head + body)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        stop.set()
        thread.join(CEILING)


def context(machine: Machine, plan: Plan, image: Image, **ports: int) -> CheckContext:
    numbers = {22: ports.get("ssh", 1), 3002: ports.get("page", 1)}
    return CheckContext(machine, plan, image, numbers, Operator(), {})


def test_tls_1_3_alone_is_spoken(
    machine: Machine, plan: Plan, image: Image, pair: tuple[str, str], tmp_path: Path
) -> None:
    with page_server(pair, tmp_path, ssl.TLSVersion.TLSv1_3) as port:
        here = context(machine, plan, image, page=port)
        verdicts = outside.tls(here, 5)
    assert {id_: v.status for id_, v in verdicts.items()} == {
        "security.tls-1.3": "pass", "security.tls-1.2": "pass",
    }  # fmt: skip
    assert outside.greeting(here, 5) == ("TLSv1.3", first(pair[0]))


def test_a_server_that_speaks_tls_1_2_fails_both(
    machine: Machine, plan: Plan, image: Image, pair: tuple[str, str], tmp_path: Path
) -> None:
    with page_server(pair, tmp_path, ssl.TLSVersion.TLSv1_2) as port:
        here = context(machine, plan, image, page=port)
        verdicts = outside.tls(here, 5)
    assert verdicts["security.tls-1.3"].status == "fail"
    assert verdicts["security.tls-1.2"].detail == "TLSv1.2 was accepted"
    assert outside.greeting(here, 5)[1] is None


def test_only_the_server_s_own_alert_is_a_refusal() -> None:
    assert outside.judge_older("TLSV1_ALERT_PROTOCOL_VERSION").status == "pass"
    assert outside.judge_older("NO_CIPHERS_AVAILABLE").status == "error"


def test_a_page_through_the_forward(
    machine: Machine, plan: Plan, image: Image, pair: tuple[str, str], tmp_path: Path
) -> None:
    with page_server(pair, tmp_path, ssl.TLSVersion.TLSv1_3) as port:
        here = context(machine, plan, image, page=port)
        for status, contains, detail in (
            (200, "rave", "status 200, 4 bytes"),
            (404, "rave", "status 200 instead of 404"),
            (200, "x", "does not contain 'x'"),
        ):
            verdict = outside.page(
                here,
                url="https://127.0.0.1:3002/",
                status=status,
                contains=contains,
                timeout=CEILING,
            )
            assert detail in verdict.detail


def test_a_page_with_another_certificate_is_not_read(
    machine: Machine, plan: Plan, image: Image, pair: tuple[str, str], tmp_path: Path
) -> None:
    with page_server(another(), tmp_path, ssl.TLSVersion.TLSv1_3) as port:
        here = context(machine, plan, image, page=port)
        verdict = outside.page_time(here, 5)
    assert verdict.status == "fail"
    assert "CERTIFICATE_VERIFY_FAILED" in verdict.detail


def test_a_page_of_an_older_image_is_read_with_what_it_showed(
    machine: Machine, before: Plan, image: Image, tmp_path: Path
) -> None:
    shown, other = another(), another()
    with page_server(shown, tmp_path, ssl.TLSVersion.TLSv1_3) as port:
        here = context(machine, before, image, page=port)
        # A chain is trusted by its last, and that one shows itself alone.
        here.greeting = ("TLSv1.3", first(shown[0][shown[0].rindex(ssl.PEM_HEADER) :]))
        assert outside.page_time(here, CEILING).status == "pass"
        here.greeting = ("TLSv1.3", first(other[0]))
        assert "CERTIFICATE_VERIFY_FAILED" in outside.page_time(here, 5).detail


def found(pem: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pem.encode())


@pytest.mark.parametrize(
    ("days", "same", "status", "detail"),
    [
        (1, True, "pass", "names 127.0.0.1"),
        (1, False, "fail", "it is not the operator's"),
        (80, True, "warn", "days only"),
        (91, True, "fail", "has expired"),
        (-10, True, "fail", "not valid yet"),
    ],
)
def test_a_certificate(
    pair: tuple[str, str], days: int, same: bool, status: str, detail: str
) -> None:
    moment = datetime.now(UTC) + timedelta(days=days)
    verdict = outside.judge_certificate(
        found(pair[0]), same=same, origin="the operator's", now=moment
    )
    assert verdict.status == status
    assert detail in verdict.detail


class Shell:
    """A session in which a file is shown."""

    def __init__(self, text: str) -> None:
        self.text = text

    def run(self, argv: list[str], **_: object) -> Completed:
        return Completed(tuple(argv), 0, self.text.encode(), b"")


def test_a_certificate_is_the_one_that_this_host_issued(
    machine: Machine, plan: Plan, image: Image, pair: tuple[str, str], tmp_path: Path
) -> None:
    with page_server(pair, tmp_path, ssl.TLSVersion.TLSv1_3) as port:
        verdict = outside.certificate(context(machine, plan, image, page=port))
    assert verdict.status == "pass"
    assert verdict.detail.startswith("the one that this host has issued, names rave.localhost")
    with page_server(another(), tmp_path, ssl.TLSVersion.TLSv1_3) as port:
        verdict = outside.certificate(context(machine, plan, image, page=port))
    assert (verdict.status, verdict.detail) == (
        "fail", "it is not the one that this host has issued",
    )  # fmt: skip


def test_a_certificate_that_no_client_takes_fails(
    machine: Machine, plan: Plan, image: Image, tmp_path: Path
) -> None:
    """The authority of another domain may not issue for the machine's."""
    now = datetime.now(UTC)
    odd = authority.issue(authority.make("other.example", now=now), "rave.localhost", now=now)
    made = replace(certificate.of(machine), chain=odd.chain, key=odd.key)
    certificate.keep(machine, made)
    with page_server((odd.chain, odd.key), tmp_path, ssl.TLSVersion.TLSv1_3) as port:
        verdict = outside.certificate(context(machine, plan, image, page=port))
    # `localhost` is every authority's.
    assert verdict.status == "pass"
    machine = replace(machine, spec=replace(machine.spec, own_origin="https://rave.example.org"))
    with page_server((odd.chain, odd.key), tmp_path, ssl.TLSVersion.TLSv1_3) as port:
        verdict = outside.certificate(context(machine, plan, image, page=port))
    assert verdict.status == "fail"
    assert "a client refuses it" in verdict.detail


def test_a_certificate_is_held_against_the_operator_s(
    machine: Machine, before: Plan, image: Image, pair: tuple[str, str]
) -> None:
    other, _ = another()
    here = context(machine, before, image)
    here.greeting = ("TLSv1.3", first(pair[0]))
    operator = Operator({"tls/certificate": pair[0]})
    assert outside.certificate(replace(here, operator=operator)).detail.startswith("the operator's")
    inside = replace(here, session=Shell(pair[0]))  # type: ignore[arg-type]
    assert outside.certificate(inside).detail.startswith("the one inside")
    assert outside.certificate(replace(here, session=Shell(other))).status == "fail"  # type: ignore[arg-type]
    assert outside.certificate(here).status == "error"
    here.greeting = ("CONNECTION_REFUSED", None)
    assert outside.certificate(here).status == "fail"


@pytest.mark.parametrize(
    ("methods", "refused", "status"),
    [
        (["publickey"], True, "pass"),
        (["publickey", "password"], True, "fail"),
        (["publickey"], False, "fail"),
        ([], True, "fail"),
    ],
)
def test_password_logins(methods: list[str], refused: bool, status: str) -> None:
    assert outside.judge_password(methods, refused=refused).status == status


def test_logins_that_must_fail_are_really_tried(machine: Machine, plan: Plan, image: Image) -> None:
    identity.write(machine)
    with FakeSshd(machine.host_key.read_bytes(), "") as sshd:
        here = context(machine, plan, image, ssh=sshd.port)
        verdicts = outside.ssh_refusals(here, 10)
        root = outside.ssh_root(here, 10)
        assert sshd.logins == ["rave", "root"]
    assert {v.status for v in verdicts.values()} == {"pass"}
    assert root.status == "pass"


def test_a_server_with_another_host_key_is_told_no_password(
    machine: Machine, plan: Plan, image: Image
) -> None:
    import paramiko

    identity.write(machine)
    other = machine.login_key.read_bytes()
    with FakeSshd(other, "") as sshd:
        with pytest.raises(paramiko.SSHException, match="not the pinned one"):
            outside.ssh_refusals(context(machine, plan, image, ssh=sshd.port), 10)
        assert sshd.logins == []


def test_response_times() -> None:
    assert outside.judge_times([0.1, 0.2, 0.3]).data == {"p50_seconds": 0.2, "p95_seconds": 0.3}
    assert outside.judge_times([0.1, 0.2, 1.3]).status == "fail"


def test_a_page_that_is_slow_in_passing_is_measured_again_one_that_stays_slow_fails() -> None:
    """A machine just up, on a host with other work, failed `rave up` by this alone."""
    rounds = iter([[0.1, 2.04], [1.2], [0.1, 0.2]])
    found = outside.measured(lambda: next(rounds), pause=0)
    assert (found.status, found.data["p95_seconds"]) == ("pass", 0.2)
    assert "measured 3 times" in found.detail
    slow = outside.measured(lambda: [0.1, 1.3], pause=0)
    assert (slow.status, slow.data["p95_seconds"]) == ("fail", 1.3)


@pytest.mark.parametrize(
    ("said", "status", "offset"),
    [
        (100.5, "pass", 0.0),
        (102.5, "pass", 1.5),
        (97.5, "pass", -2.5),
        (50.0, "fail", -50.0),
        (3700.0, "fail", 3599.0),
    ],
)
def test_a_clock_is_judged_by_what_lies_beyond_the_time_of_the_question(
    said: float, status: str, offset: float
) -> None:
    verdict = outside.judge_clock(100.0, said, 101.0)
    # The magnitude: no figure of a transcript is below zero.
    assert (verdict.status, verdict.data) == (status, {"error_seconds": abs(offset)})


@pytest.mark.parametrize(("ahead", "status"), [(0.0, "pass"), (60.0, "fail")])
def test_an_open_login_is_proven_by_the_guests_clock_which_is_not_asked_again(
    machine: Machine, plan: Plan, image: Image, ahead: float, status: str
) -> None:
    asked = []

    class Open:
        def run(self, argv: list[str], **_: object) -> Completed:
            asked.append(argv)
            return Completed(tuple(argv), 0, f"{time.time() + ahead}\n".encode(), b"")

    context = CheckContext(machine, plan, image, {}, Operator(), {}, session=Open())  # type: ignore[arg-type]
    assert outside.log_in(context).status == "pass"
    assert outside.clock(context).status == status
    assert asked == [["date", "+%s.%N"]]
