"""The view from outside, against servers of our own that behave well or badly."""

from __future__ import annotations

import socket
import ssl
import threading
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from cryptography import x509

from rave_cli.machines import identity
from rave_cli.secrets.generate import certificate, make
from rave_cli.smoke import outside
from rave_cli.smoke.model import Question
from rave_cli.smoke.scene import Operator, Scene
from tests.unit.machines.fake_sshd import FakeSshd

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from rave_cli.images.manifest import Image
    from rave_cli.machines.spec import Machine
    from rave_cli.profiles.catalog import Plan

NOW = datetime(2026, 6, 1, tzinfo=UTC)


@pytest.fixture
def pair() -> tuple[str, str]:
    key = make({"kind": "tls-key"}, {}, now=NOW)
    return certificate(key, now=datetime.now(UTC)), key


@contextmanager
def page_server(pair: tuple[str, str], tmp_path: Path, newest: ssl.TLSVersion) -> Iterator[int]:
    """Serve one page over TLS up to a version."""
    chain = tmp_path / "chain.pem"
    chain.write_text("".join(pair))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain)
    context.maximum_version = newest
    if newest == ssl.TLSVersion.TLSv1_3:
        context.minimum_version = newest
    stop = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.1)

        def serve() -> None:
            while not stop.is_set():
                with suppress(OSError):
                    plain, _ = listener.accept()
                    plain.settimeout(5)
                    with plain, context.wrap_socket(plain, server_side=True) as secured:
                        secured.recv(4096)
                        body = b"rave"
                        head = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 4\r\n\r\n"
                        secured.sendall(head + body)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        stop.set()
        thread.join(5)


def scene(machine: Machine, plan: Plan, image: Image, **ports: int) -> Scene:
    numbers = {22: ports.get("ssh", 1), 3002: ports.get("page", 1)}
    return Scene(machine, plan, image, numbers, Operator(), {})


def test_tls_1_3_alone_is_spoken(
    machine: Machine, plan: Plan, image: Image, pair: tuple[str, str], tmp_path: Path
) -> None:
    with page_server(pair, tmp_path, ssl.TLSVersion.TLSv1_3) as port:
        verdicts, shown = outside.tls(scene(machine, plan, image, page=port), 5)
    assert {id_: v.status for id_, v in verdicts.items()} == {
        "security.tls-1.3": "pass", "security.tls-1.2": "pass",
    }  # fmt: skip
    assert shown == ssl.PEM_cert_to_DER_cert(pair[0])


def test_a_server_that_speaks_tls_1_2_fails_both(
    machine: Machine, plan: Plan, image: Image, pair: tuple[str, str], tmp_path: Path
) -> None:
    with page_server(pair, tmp_path, ssl.TLSVersion.TLSv1_2) as port:
        verdicts, shown = outside.tls(scene(machine, plan, image, page=port), 5)
    assert verdicts["security.tls-1.3"].status == "fail"
    assert verdicts["security.tls-1.2"].detail == "TLSv1.2 was accepted"
    assert shown is None


def test_only_the_server_s_own_alert_is_a_refusal() -> None:
    assert outside.judge_older("TLSV1_ALERT_PROTOCOL_VERSION").status == "pass"
    assert outside.judge_older("NO_CIPHERS_AVAILABLE").status == "error"


def test_a_page_through_the_forward(
    machine: Machine, plan: Plan, image: Image, pair: tuple[str, str], tmp_path: Path
) -> None:
    shown = ssl.PEM_cert_to_DER_cert(pair[0])
    with page_server(pair, tmp_path, ssl.TLSVersion.TLSv1_3) as port:
        here = scene(machine, plan, image, page=port)
        for status, contains, detail in (
            (200, "rave", "status 200, 4 bytes"),
            (404, "rave", "status 200 instead of 404"),
            (200, "x", "does not contain 'x'"),
        ):
            arguments = {"url": "https://127.0.0.1:3002/", "status": status, "contains": contains}
            question = Question("a", "health", "t", arguments=arguments, timeout=5)
            assert detail in outside.page(here, shown, question).detail


def test_a_page_with_another_certificate_is_not_read(
    machine: Machine, plan: Plan, image: Image, pair: tuple[str, str], tmp_path: Path
) -> None:
    other = certificate(make({"kind": "tls-key"}, {}, now=NOW), now=datetime.now(UTC))
    with page_server(pair, tmp_path, ssl.TLSVersion.TLSv1_3) as port:
        here = scene(machine, plan, image, page=port)
        verdict = outside.page_time(here, ssl.PEM_cert_to_DER_cert(other), 5)
    assert verdict.status == "fail"
    assert "CERTIFICATE_VERIFY_FAILED" in verdict.detail


def found(pem: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pem.encode())


@pytest.mark.parametrize(
    ("days", "same", "status", "detail"),
    [
        (1, True, "pass", "names 127.0.0.1"),
        (1, False, "fail", "it is not the operator's"),
        (390, True, "warn", "days only"),
        (400, True, "fail", "has expired"),
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


def test_a_certificate_is_held_against_the_operator_s(
    machine: Machine, plan: Plan, image: Image, pair: tuple[str, str]
) -> None:
    shown = ssl.PEM_cert_to_DER_cert(pair[0])
    operator = Operator({"tls/certificate": pair[0]})
    here = Scene(machine, plan, image, {}, operator, {})
    assert outside.certificate(shown, here, None).detail.startswith("the operator's")
    without = Scene(machine, plan, image, {}, Operator(), {})
    assert outside.certificate(shown, without, shown).detail.startswith("the one inside")
    assert outside.certificate(shown, without, b"other").status == "fail"
    assert outside.certificate(shown, without, None).status == "error"
    assert outside.certificate(None, without, None).status == "fail"


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
        here = scene(machine, plan, image, ssh=sshd.port)
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
            outside.ssh_refusals(scene(machine, plan, image, ssh=sshd.port), 10)
        assert sshd.logins == []


def test_response_times() -> None:
    assert outside.judge_times([0.1, 0.2, 0.3]).data == {"p50_seconds": 0.2, "p95_seconds": 0.3}
    assert outside.judge_times([0.1, 0.2, 1.3]).status == "fail"
