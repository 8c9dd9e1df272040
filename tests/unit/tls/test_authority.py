"""rave's own authorities: made once, kept as keys are, and good for their own domain alone."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st

from rave_cli.errors import ExitCode, RaveError
from rave_cli.tls import authority, handshake, making

if TYPE_CHECKING:
    from pathlib import Path

NOW = datetime.now(UTC)


@pytest.mark.parametrize(
    ("host", "domain"),
    [
        ("localhost", "localhost"), ("rave.localhost", "localhost"),
        ("a.b.localhost", "localhost"), ("rave.example.org", "rave.example.org"),
        ("notlocalhost", "notlocalhost"), ("localhost.example.org", "localhost.example.org"),
    ],
)  # fmt: skip
def test_localhost_and_all_below_it_have_one_and_every_other_host_its_own(
    host: str, domain: str
) -> None:
    assert authority.domain_of(host) == domain


def test_it_is_made_on_first_use_and_is_the_same_from_then_on(home: Path) -> None:
    made = authority.of("rave.localhost")
    assert authority.of("other.localhost").pem == made.pem
    assert authority.of("rave.example.org").pem != made.pem
    place = authority.folder("localhost")
    assert (place / "authority.pem").stat().st_mode & 0o777 == 0o600
    assert place.stat().st_mode & 0o777 == 0o700
    assert authority.certificate_file("localhost").read_text() == made.pem
    assert "PRIVATE" not in authority.certificate_file("localhost").read_text()


def test_of_two_who_need_one_at_once_both_get_the_same(home: Path) -> None:
    found: list[str] = []
    both = [
        threading.Thread(target=lambda: found.append(authority.of("localhost").pem))
        for _ in range(4)
    ]
    for one in both:
        one.start()
    for one in both:
        one.join()
    assert len(found) == 4
    assert len(set(found)) == 1


def test_nobody_can_open_what_a_template_gets_and_nothing_is_kept_of_its_authority(
    home: Path,
) -> None:
    authority.of("template.invalid")
    assert not authority.folder("template.invalid").exists()


@pytest.mark.parametrize("host", ["rave.localhost", "rave.example.org"])
def test_a_client_that_trusts_it_takes_what_it_issues_under_each_name(
    home: Path, host: str
) -> None:
    own = authority.of(host)
    client = handshake.trusting(own.pem)
    issued = authority.issue(own, host, now=NOW)
    for name in (host, f"auth.{host}", "localhost", "127.0.0.1"):
        assert handshake.refusal(issued, name, client) is None
    assert handshake.refusal(issued, "elsewhere.example", client) is not None
    assert handshake.refusal(issued, host, handshake.system()) is not None


@pytest.mark.parametrize("host", ["example.com", "rave.example.com", "xlocalhost"])
def test_a_client_that_trusts_it_takes_nothing_that_it_issues_for_the_world(
    home: Path, host: str
) -> None:
    own = authority.of("rave.localhost")
    issued = authority.issue(own, host, now=NOW)
    refused = handshake.refusal(issued, host, handshake.trusting(own.pem))
    assert refused == "permitted subtree violation"


def test_it_issues_no_other_authority(home: Path) -> None:
    own = authority.of("localhost")
    found = own.certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    assert (found.ca, found.path_length) == (True, 0)


@pytest.mark.parametrize(
    ("days", "why"),
    [(-1, "certificate is not yet valid"), (91, "certificate has expired"), (1, None)],
)
def test_time_is_judged_as_by_any_client(home: Path, days: int, why: str | None) -> None:
    then = NOW - timedelta(days=days)
    own = authority.make("localhost", now=NOW - timedelta(days=100))
    issued = authority.issue(own, "rave.localhost", now=then)
    assert handshake.refusal(issued, "rave.localhost", handshake.trusting(own.pem)) == why


def test_one_that_ends_before_what_it_would_issue_is_replaced(home: Path) -> None:
    old = authority.of("localhost", now=NOW - authority.LIFE + timedelta(days=89))
    assert authority.of("localhost").pem != old.pem
    assert authority.certificate_file("localhost").read_text() == authority.of("localhost").pem


def refusal() -> RaveError:
    with pytest.raises(RaveError) as caught:
        authority.of("localhost")
    assert caught.value.exit_code is ExitCode.SECRETS
    assert caught.value.hint
    return caught.value


def test_a_key_that_others_may_read_is_not_used(home: Path) -> None:
    authority.of("localhost")
    (authority.folder("localhost") / "authority.pem").chmod(0o644)
    error = refusal()
    assert "can be read by others (mode 0644)" in error.message
    assert "chmod 600" in str(error.hint)


def test_a_key_of_another_login_is_not_used(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority.of("localhost")
    monkeypatch.setattr("rave_cli.paths.private_dir", lambda path: path)
    monkeypatch.setattr("os.getuid", lambda: 4711)
    assert "belongs to another user" in refusal().message


def test_a_key_that_is_a_link_is_not_used(home: Path) -> None:
    authority.of("localhost")
    place = authority.folder("localhost") / "authority.pem"
    place.rename(place.with_name("elsewhere"))
    place.symlink_to("elsewhere")
    assert "symbolic link" in refusal().message


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("nothing", "holds no key and certificate in PEM"),
        ("other key", "holds a key that is not the one of its certificate"),
        ("other domain", "is not the authority of localhost"),
    ],
)
def test_what_is_no_authority_of_the_domain_is_not_used(home: Path, text: str, why: str) -> None:
    authority.of("localhost")
    one, other = (authority.make(domain, now=NOW) for domain in ("localhost", "example.org"))
    contents = {
        "nothing": "nothing",
        "other key": making.private_pem(other.key) + one.pem,
        "other domain": (making.private_pem(other.key) + other.pem).replace("example", "x"),
    }
    if text == "other domain":
        bare = authority.issue(one, "rave.localhost", now=NOW)
        contents[text] = bare.key + bare.chain
    place = authority.folder("localhost") / "authority.pem"
    place.write_text(contents[text])
    error = refusal()
    assert why in error.message
    assert "mv " in str(error.hint)
    assert place.read_text() == contents[text]


@given(st.from_regex(r"[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?(\.[a-z]{2,10}){1,4}", fullmatch=True))
def test_any_host_gets_a_certificate_that_a_client_takes(host: str) -> None:
    own = authority.make(authority.domain_of(host), now=NOW)
    issued = authority.issue(own, host, now=NOW)
    assert handshake.refusal(issued, host, handshake.trusting(own.pem)) is None
