"""A place that is reached over TLS: whose certificate is accepted, and what is said if not."""

from __future__ import annotations

import shutil
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from rave_cli.errors import ExitCode, RaveError
from rave_cli.flows import away
from tests.integration.backups import places
from tests.integration.backups.hosts import at_home
from tests.integration.backups.places import needs_s3
from tests.integration.backups.test_away import copy, refused, run

if TYPE_CHECKING:
    from pathlib import Path

    from tests.integration.backups.hosts import Host

pytestmark = needs_s3
HERE = "127.0.0.1"


def test_an_authority_of_ones_own_is_trusted_where_it_is_named_and_nowhere_else(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = places.authority()
    with places.s3(tmp_path / "away", shown=places.certified(own, HERE)) as place:
        for named in ({}, {"ca": places.authority().pem}):
            places.keep(place.secrets | named)
            error = refused(host, ExitCode.VERIFICATION)
            assert "not trusted" in error.message
            assert "_ssl" not in error.message
            assert "backup-copy: ca" in (error.hint or "")
        places.keep(place.secrets | {"ca": "nothing of that kind: \N{SNOWMAN}"})
        assert "no certificates" in refused(host, ExitCode.SECRETS).message
        assert not place.names()

        places.keep(place.secrets | {"ca": own.pem})
        copy(host)
        assert away.check(host.settings, on_event=host.told.append).damaged == ()

        # A page has no certificates: they are named beside it.
        names = host.names()
        run("kit", str(tmp_path / "kit.txt"), "--plain")
        page = (tmp_path / "kit.txt").read_text()
        assert "--kit --ca FILE" in page
        assert "BEGIN CERT" not in page
        shutil.rmtree(host.home)
        (tmp_path / "new").mkdir()
        at_home(tmp_path / "new", monkeypatch)
        typed = page.partition("2. The key")[2].partition("\n\n")[2].partition("\n3. ")[0]
        with pytest.raises(RaveError, match="not trusted") as caught:
            run("fetch", "--kit", given=typed)
        assert "--kit --ca FILE" in (caught.value.hint or "")
        assert not (host.folder / "repository/config").exists()
        (tmp_path / "own.pem").write_text(own.pem)
        run("fetch", "--kit", "--ca", str(tmp_path / "own.pem"), given=typed)
        assert host.names() == names


@pytest.mark.parametrize(
    ("name", "life", "hint"),
    [
        ("localhost", timedelta(hours=1), "under a name that its certificate has"),
        (HERE, timedelta(minutes=-1), "timedatectl"),
    ],
    ids=["another name", "expired"],
)
def test_what_is_wrong_with_a_certificate_is_said_with_what_helps(
    host: Host, tmp_path: Path, name: str, life: timedelta, hint: str
) -> None:
    own = places.authority()
    shown = places.certified(own, name, life=life)
    with places.s3(tmp_path / "away", shown=shown) as place:
        places.keep(place.secrets | {"ca": own.pem})
        error = refused(host, ExitCode.VERIFICATION)
    assert hint in (error.hint or "")
    assert not place.names()


def test_certificates_for_a_place_that_shows_none_are_refused(host: Host, tmp_path: Path) -> None:
    with places.s3(tmp_path / "away") as place:
        places.keep(place.secrets)
        (tmp_path / "ca.pem").write_text(places.authority().pem)
        with pytest.raises(RaveError, match="shows no certificate") as caught:
            run("fetch", "--ca", str(tmp_path / "ca.pem"))
    assert caught.value.exit_code == ExitCode.USAGE
