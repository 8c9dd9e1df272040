"""The certificate that nginx shows while no secret one is installed: made, and renewed."""

from __future__ import annotations

import os
import subprocess
import time
from base64 import b64encode
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from rave_cli.machines import identity
from rave_guest import held
from tests.debian import BASE

if TYPE_CHECKING:
    from pathlib import Path

SCRIPT = BASE / "services/nginx/rootfs/usr/lib/rave/nginx-tls"
DAY = 86400


class Guest:
    """The places that the script knows, and an openssl that says what it was asked for."""

    def __init__(self, root: Path) -> None:
        self.tls, self.secrets, self.bin = root / "run/tls", root / "secrets/tls", root / "bin"
        self.run, self.sites = root / "run", root / "sites"
        for place in (self.tls, self.secrets, self.bin, self.sites, self.run / "sites"):
            place.mkdir(parents=True)
        (root / "auth.sh").write_text(f"set -eu\nsecrets={root}/secrets\nrun={root}/run\n")
        self.script = root / "nginx-tls"
        self.script.write_text(
            SCRIPT.read_text()
            .replace("/usr/lib/rave/auth.sh", str(root / "auth.sh"))
            .replace("/etc/nginx/sites", str(self.sites))
        )
        self.asked = root / "asked"
        self.openssl()

    def openssl(self, *, broken: bool = False) -> None:
        """Install an openssl that writes a key and a certificate, or breaks off between them."""
        program = self.bin / "openssl"
        program.write_text(
            f'#!/bin/sh\necho "$@" >>{self.asked}\necho key >{self.tls}/ephemeral.key\n'
            f"{'exit 1' if broken else ''}\necho certificate >{self.tls}/ephemeral.crt\n"
        )
        program.chmod(0o755)

    def start(self, *, trace: bool = False) -> str:
        """Carry out the script as before a start of nginx; return what it did, if asked."""
        done = subprocess.run(
            ["/bin/sh", *(["-x"] if trace else []), self.script], check=True, capture_output=True,
            text=True, env={"PATH": f"{self.bin}:{os.environ['PATH']}"},
        )  # fmt: skip
        return done.stderr

    @property
    def made(self) -> int:
        """How many certificates were made."""
        return len(self.asked.read_text().splitlines()) if self.asked.exists() else 0

    def grow_old(self, days: float) -> None:
        """Let the certificate be of `days` ago."""
        then = time.time() - days * DAY
        os.utime(self.tls / "ephemeral.crt", (then, then))


@pytest.fixture
def guest(tmp_path: Path) -> Guest:
    return Guest(tmp_path)


def test_a_boot_makes_one_certificate_and_starts_nothing_but_openssl_and_ln(guest: Guest) -> None:
    did = guest.start(trace=True)
    assert guest.made == 1
    assert "touch" not in did
    assert (guest.tls / "current.crt").read_text() == "certificate\n"
    assert (guest.tls / "ephemeral.key").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(("days", "made"), [(0, 1), (59.9, 1), (60.1, 2), (89, 2), (400, 2)])
def test_a_restart_renews_it_when_30_of_its_90_days_are_left(
    guest: Guest, days: float, made: int
) -> None:
    guest.start()
    assert "-days 90 " in guest.asked.read_text()
    guest.grow_old(days)
    guest.start()
    guest.start()
    assert guest.made == made


def test_one_for_other_names_is_made_again(guest: Guest) -> None:
    guest.start()
    (guest.tls / "names").write_text("DNS:other\n")
    guest.start()
    assert guest.made == 2


def test_a_renewal_that_was_broken_off_is_done_at_the_next_start(guest: Guest) -> None:
    guest.start()
    guest.grow_old(61)
    guest.openssl(broken=True)
    with pytest.raises(subprocess.CalledProcessError):
        guest.start()
    guest.openssl()
    guest.start()
    assert guest.made == 3
    assert (guest.tls / "current.crt").read_text() == "certificate\n"


def test_a_secret_one_is_shown_and_none_is_made(guest: Guest) -> None:
    for name in ("key", "certificate"):
        (guest.secrets / name).write_text(f"secret {name}\n")
    guest.start()
    assert guest.made == 0
    assert (guest.tls / "current.crt").read_text() == "secret certificate\n"
    assert (guest.tls / "current.key").read_text() == "secret key\n"


def test_what_a_copy_of_a_template_was_given_is_shown_as_it_is(
    guest: Guest, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = identity.new_certificate("rave.localhost")
    given = {held.TLS_KEY: made.key, held.TLS_CERTIFICATE: made.certificate}
    texts = {name: b64encode(data).decode() for name, data in given.items()}
    tls = held._tls(texts | {held.TLS_NAMES: made.names})
    monkeypatch.setattr(held, "TLS", str(guest.tls))
    held.show(tls)
    did = guest.start(trace=True)
    assert (guest.made, "ln" in did) == (0, False)
    assert (guest.tls / "current.key").read_bytes() == made.key


@pytest.mark.parametrize("host", ["rave.localhost", "rave.example.org"])
def test_the_hosts_certificate_is_for_the_names_of_the_guests_own(guest: Guest, host: str) -> None:
    (guest.run / "origin").write_text(f"https://{host}:20001\n")
    guest.start()
    made = identity.new_certificate(host)
    assert (guest.tls / "names").read_text() == f"{made.names}\n"
    assert held.NAMES.fullmatch(made.names)
    found = x509.load_pem_x509_certificate(made.certificate)
    names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost", host, f"*.{host}"]
    assert list(map(str, names.get_values_for_type(x509.IPAddress))) == ["127.0.0.1"]
    assert found.not_valid_after_utc - found.not_valid_before_utc == timedelta(days=90)
    assert load_pem_private_key(made.key, None).public_key() == found.public_key()


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        (None, "rave.localhost"),
        ("", "rave.localhost"),
        ("https://rave.localhost:23456", "rave.localhost"),
        ("https://rave.example.org", "rave.example.org"),
        ("https://rave.example.org:8443", "rave.example.org"),
    ],
)
def test_sites_and_certificate_have_the_names_of_the_public_origin(
    guest: Guest, origin: str | None, host: str
) -> None:
    if origin is not None:
        (guest.run / "origin").write_text(f"{origin}\n")
    (guest.sites / "auth.conf").touch()
    guest.start()
    assert f"subjectAltName=DNS:localhost,DNS:{host},DNS:*.{host},IP:" in guest.asked.read_text()
    site = guest.run / "sites/auth.conf"
    assert site.read_text() == f"server_name auth.{host};\n"
    assert site.stat().st_mode & 0o777 == 0o644


def test_a_guest_without_sites_has_no_names(guest: Guest) -> None:
    guest.start()
    assert not list((guest.run / "sites").iterdir())


def test_another_origin_gets_another_certificate(guest: Guest) -> None:
    guest.start()
    (guest.run / "origin").write_text("https://rave.example.org\n")
    guest.start()
    assert guest.made == 2
