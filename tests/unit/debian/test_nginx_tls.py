"""The certificate that nginx shows: the host's, or one that is made for a boot, and renewed."""

from __future__ import annotations

import os
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from rave_guest import tls
from tests.debian import BASE

if TYPE_CHECKING:
    from pathlib import Path

SCRIPT = BASE / "services/nginx/rootfs/usr/lib/rave/nginx-tls"
EARLY = BASE / "services/nginx/rootfs/usr/lib/rave/early.d/nginx"
DAY = 86400


class Guest:
    """The places that the script knows, and an openssl that says what it was asked for."""

    def __init__(self, root: Path) -> None:
        self.tls, self.bin = root / "run/tls", root / "bin"
        self.run, self.sites = root / "run", root / "sites"
        for place in (self.tls, self.bin, self.sites, self.run / "sites"):
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


def test_the_hosts_is_shown_and_none_is_made(guest: Guest) -> None:
    for name in ("key", "crt"):
        (guest.tls / f"machine.{name}").write_text(f"the host's {name}\n")
    did = guest.start(trace=True)
    assert guest.made == 0
    assert (guest.tls / "current.crt").read_text() == "the host's crt\n"
    assert (guest.tls / "current.key").read_text() == "the host's key\n"
    assert "openssl" not in did


def test_an_empty_one_of_the_hosts_is_none(guest: Guest) -> None:
    for name in ("key", "crt"):
        (guest.tls / f"machine.{name}").touch()
    guest.start()
    assert guest.made == 1
    assert (guest.tls / "current.crt").read_text() == "certificate\n"


def test_what_a_copy_of_a_template_was_given_is_shown_as_it_is(
    guest: Guest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls, "PLACE", str(guest.tls))
    tls.put("a key", "a chain")
    did = guest.start(trace=True)
    assert (guest.made, "ln" in did) == (0, False)
    assert (guest.tls / "current.key").read_text() == "a key"


@pytest.mark.parametrize("last", ["\n", ""])
def test_a_boot_puts_the_hosts_in_its_place_and_starts_nothing(tmp_path: Path, last: str) -> None:
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    (credentials / "rave.tls-key").write_text(f"key\nof lines{last}")
    (credentials / "rave.tls-certificate").write_text(f"chain\\of lines{last}")
    (tmp_path / "tls").mkdir()
    text = EARLY.read_text().replace("/run/rave", str(tmp_path)).replace("mkdir", ": mkdir")
    script = f"set -eu; umask 022; credentials={credentials}; {text}"
    subprocess.run(["/bin/sh", "-c", script], check=True, env={"PATH": "/nowhere"})
    key, chain = tmp_path / "tls/machine.key", tmp_path / "tls/machine.crt"
    assert (key.read_text(), chain.read_text()) == ("key\nof lines\n", "chain\\of lines\n")
    assert (key.stat().st_mode & 0o777, chain.stat().st_mode & 0o777) == (0o600, 0o644)


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
