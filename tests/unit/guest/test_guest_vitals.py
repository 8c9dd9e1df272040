"""What makes a machine unfit while every service answers."""

from __future__ import annotations

import os
import ssl
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from rave_guest import backups, certificate, clock, vitals

if TYPE_CHECKING:
    from pathlib import Path

KEY = Ed25519PrivateKey.generate()


def pem(end: datetime, name: str = "rave") -> str:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = x509.CertificateBuilder(subject, subject, KEY.public_key(), 1)
    made = builder.not_valid_before(end - timedelta(days=1)).not_valid_after(end).sign(KEY, None)
    return made.public_bytes(Encoding.PEM).decode()


@given(
    end=st.datetimes(datetime(1951, 1, 1), datetime(9999, 12, 31)),
    name=st.text("abc", min_size=1, max_size=60),
)
def test_the_end_of_any_certificate_is_read(end: datetime, name: str) -> None:
    end = end.replace(microsecond=0, tzinfo=UTC)
    assert certificate.not_after("a comment\n" + pem(end, name)) == end.timestamp()


@given(at=st.integers(0, 10_000), byte=st.integers(0, 255))
def test_a_damaged_certificate_is_read_or_refused(at: int, byte: int) -> None:
    der = bytearray(x509.load_pem_x509_certificate(GOOD.encode()).public_bytes(Encoding.DER))
    der[at % len(der)] = byte
    with suppress(ValueError):
        certificate.not_after(ssl.DER_cert_to_PEM_cert(bytes(der)))


@pytest.mark.parametrize(
    "text", ["", "secret", "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----"]
)
def test_what_is_no_certificate_has_no_end(text: str) -> None:
    with pytest.raises(ValueError, match="certificate"):
        certificate.not_after(text)


GOOD = pem(datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC))


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine in good order; its readings are files in the directory returned."""
    (tmp_path / "vda").mkdir()
    for name, text in {
        "rtc": "1800000000", "hung": "10", "vda/errors_count": "0", "entropy": "256", "crt": GOOD,
        "backups.json": '{"at": 1800000000, "due": 1800093600, "restored": 1799999999}',
        "log-kept.json": '{"at": 1800000300, "due": 1800001200}',
    }.items():  # fmt: skip
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(clock, "RTC", str(tmp_path / "rtc"))
    monkeypatch.setattr(vitals, "HUNG_TASKS", str(tmp_path / "hung"))
    monkeypatch.setattr(vitals, "ERRORS", str(tmp_path / "*/errors_count"))
    monkeypatch.setattr(vitals, "ENTROPY", str(tmp_path / "entropy"))
    monkeypatch.setattr(backups, "PLACE", str(tmp_path / "backups.json"))
    monkeypatch.setattr(backups, "LOG_PLACE", str(tmp_path / "log-kept.json"))
    monkeypatch.setattr(certificate, "CURRENT", str(tmp_path / "crt"))
    return tmp_path


def reading(name: str) -> str | None:
    found = dict(line.split() for line in vitals.metrics().splitlines() if line[0] != "#")
    return found.get(name)


def test_every_metric_is_told_in_the_text_format(machine: Path) -> None:
    assert reading("rave_certificate_not_after_seconds") == "1893553445"
    assert reading("rave_filesystem_errors") == "0"
    assert reading("rave_hung_tasks") == "0"
    assert reading("rave_backup_due_seconds") == "1800093600"
    assert reading("rave_log_due_seconds") == "1800001200"
    lines = vitals.metrics().splitlines()
    assert len(lines) == 3 * len(vitals.METRICS)
    for name, _, _ in vitals.METRICS:
        assert f"# TYPE {name} gauge" in lines


@pytest.mark.parametrize("scarce", ["/", "/data"])
def test_of_two_disks_that_is_told_of_which_less_is_left(
    scarce: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def look(place: str) -> SimpleNamespace:
        left = 10 if place == scarce else 500
        return SimpleNamespace(f_blocks=1000, f_bavail=left, f_frsize=4096, f_flag=0)

    monkeypatch.setattr(os.path, "isdir", lambda _place: True)
    monkeypatch.setattr(os, "statvfs", look)
    assert f"rave_disk_available_bytes {10 * 4096}\n" in vitals.current()


@pytest.mark.parametrize("broken", ["/", "/data"])
def test_a_disk_that_takes_no_more_writes_is_told_whichever_it_is(
    broken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def look(place: str) -> SimpleNamespace:
        flags = os.ST_RDONLY if place == broken else 0
        return SimpleNamespace(f_blocks=1000, f_bavail=500, f_frsize=4096, f_flag=flags)

    monkeypatch.setattr(os.path, "isdir", lambda _place: True)
    monkeypatch.setattr(os, "statvfs", look)
    assert "rave_disk_readonly 1\n" in vitals.current()


def test_stuck_tasks_and_errors_of_the_disk_are_counted(machine: Path) -> None:
    (machine / "hung").write_text("7")
    (machine / "vda/errors_count").write_text("2")
    assert reading("rave_hung_tasks") == "3"
    assert reading("rave_filesystem_errors") == "2"


@pytest.mark.parametrize(
    ("file", "metric"),
    [
        ("rtc", "rave_clock_offset_seconds"),
        ("crt", "rave_certificate_not_after_seconds"),
        ("hung", "rave_hung_tasks"),
        ("vda/errors_count", "rave_filesystem_errors"),
    ],
)
def test_what_a_machine_does_not_tell_is_left_out(machine: Path, file: str, metric: str) -> None:
    (machine / file).unlink()
    assert reading(metric) is None
