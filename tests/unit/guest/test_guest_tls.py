"""The verb certificate: nginx shows another one from now on, or goes on with the one of before."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from subprocess import CompletedProcess
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rave_cli.tls import authority
from rave_guest import tls
from rave_guest.refusal import Refused

if TYPE_CHECKING:
    from collections.abc import Callable

NOW = datetime.now(UTC)
OWN = authority.make("localhost", now=NOW)


def issued() -> dict[str, str]:
    made = authority.issue(OWN, "rave.localhost", now=NOW)
    return {"key": made.key, "chain": made.chain}


class Nginx:
    """Takes what lies in its place when it is told to, or fails."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.shows = ""
        self.fails: Callable[[], CompletedProcess[str]] | None = None
        self.told = 0

    def run(self, argv: list[str], _timeout: float) -> CompletedProcess[str]:
        assert argv == ["systemctl", "reload", "nginx.service"]
        self.told += 1
        if self.fails is not None:
            return self.fails()
        self.shows = (self.place / "current.crt").read_text()
        return CompletedProcess([], 0, "", "")


@pytest.fixture
def nginx(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Nginx:
    found = Nginx(tmp_path)
    monkeypatch.setattr(tls, "PLACE", str(tmp_path))
    monkeypatch.setattr(tls, "run", found.run)
    return found


def test_another_one_is_shown_at_once(nginx: Nginx) -> None:
    one, other = issued(), issued()
    assert tls.verb(one) == {"changed": True}
    assert nginx.shows == one["chain"]
    assert tls.verb(other) == {"changed": True}
    assert nginx.shows == other["chain"]
    key = nginx.place / "current.key"
    assert (key.read_text(), key.stat().st_mode & 0o777) == (other["key"], 0o600)
    assert (nginx.place / "current.crt").stat().st_mode & 0o777 == 0o644


def test_the_same_again_changes_nothing(nginx: Nginx) -> None:
    one = issued()
    tls.verb(one)
    assert tls.verb(one) == {"changed": False}
    assert nginx.told == 1


def test_it_takes_the_place_of_what_a_guest_had_made_itself(nginx: Nginx) -> None:
    for kind in ("key", "crt"):
        (nginx.place / f"ephemeral.{kind}").write_text("its own")
        (nginx.place / f"current.{kind}").symlink_to(f"ephemeral.{kind}")
    one = issued()
    tls.verb(one)
    assert nginx.shows == one["chain"]
    assert (nginx.place / "current.key").readlink() == Path("machine.key")


def test_one_that_nginx_does_not_take_up_is_taken_back(nginx: Nginx) -> None:
    one = issued()
    tls.verb(one)
    nginx.fails = lambda: CompletedProcess([], 1, "", "Job failed\nnginx.service is not active\n")
    with pytest.raises(Refused, match="is not active") as caught:
        tls.verb(issued())
    assert caught.value.stage == "reload"
    assert (nginx.place / "current.crt").read_text() == one["chain"]
    assert (nginx.place / "current.key").read_text() == one["key"]


def test_an_nginx_that_hangs_is_not_waited_for_for_ever(nginx: Nginx) -> None:
    def hang() -> CompletedProcess[str]:
        raise TimeoutError

    nginx.fails = hang
    with pytest.raises(Refused, match="within 30 s"):
        tls.verb(issued())


def test_a_key_of_another_certificate_is_refused_before_anything_changes(nginx: Nginx) -> None:
    one = issued()
    tls.verb(one)
    with pytest.raises(Refused, match="do not fit") as caught:
        tls.verb({"key": issued()["key"], "chain": issued()["chain"]})
    assert caught.value.stage == "certificate"
    assert (nginx.told, nginx.shows) == (1, one["chain"])


def test_a_guest_without_pages_says_so(nginx: Nginx, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tls, "PLACE", str(nginx.place / "none"))
    with pytest.raises(Refused, match="no pages"):
        tls.verb(issued())


texts = st.one_of(st.text(max_size=60), st.just("-----BEGIN CERTIFICATE-----\nAAAA\n"), st.none())


@given(st.dictionaries(st.sampled_from(["key", "chain", "more"]), texts))
def test_no_request_breaks_it(found: dict[str, Any]) -> None:
    try:
        key, chain = tls.asked(found)
    except Refused:
        return
    with pytest.raises(Refused):
        tls.refuse_misfit(key, chain)
