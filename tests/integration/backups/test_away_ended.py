"""Ctrl-C, and somebody else at once, while a copy of the backups is made or got back."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from rave_cli.backups.away import mirror
from rave_cli.errors import ExitCode, RaveError
from rave_cli.flows import away
from tests.integration.backups import places
from tests.integration.backups.places import needs_s3, needs_sshd
from tests.integration.backups.stalling import StallingWay
from tests.integration.backups.test_away import copy, refused, run, thorough
from tests.waiting import CEILING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.integration.backups.hosts import Host
    from tests.integration.backups.places import Away

# Bytes that come through: within the largest object.
SOME = 1 << 20
ENDED = 128 + signal.SIGINT

SFTP = pytest.param(places.sftp, marks=needs_sshd, id="sftp")
S3 = pytest.param(places.s3, marks=needs_s3, id="s3")


@pytest.fixture
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Away]:
    with request.param(tmp_path / "away") as found:
        yield found


def served(usual: Any, other: Any) -> pytest.MarkDecorator:
    """Try it with both kinds of places; with the one alone unless it is to be thorough."""
    more = pytest.param(*other.values, marks=[*other.marks, thorough], id=other.id)
    return pytest.mark.parametrize("place", [usual, more], indirect=True)


@contextmanager
def begun(place: Away, *words: str) -> Iterator[subprocess.Popen[str]]:
    """Call rave as people do, on a way that stalls; yields the call when it has."""
    with StallingWay(place.port, SOME) as way:
        port = str(place.port)
        places.keep(
            place.secrets | {"place": place.secrets["place"].replace(port, str(way.port), 1)}
        )
        argv = [sys.executable, "-m", "rave_cli", "backup", *words]
        with subprocess.Popen(
            argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as child:
            try:
                way.wait()
                yield child
            finally:
                child.kill()
    places.keep(place.secrets)


def interrupted(child: subprocess.Popen[str]) -> str:
    """Press Ctrl-C, and return what was said. Whoever waited for the server would be told after a
    minute that it says nothing, and end with another code.
    """
    child.send_signal(signal.SIGINT)
    out, said = child.communicate(timeout=CEILING)
    assert (child.returncode, out) == (ENDED, ""), said
    assert "Traceback" not in said
    return said


def sound(folder: Path) -> set[str]:
    """Return the names of the objects in a folder, each of which is what its name says."""
    found = set(mirror.listed(folder))
    for name in found:
        assert mirror.is_sound(name, (folder / name).read_bytes()), name
    return found


@served(SFTP, S3)
def test_a_copy_that_is_broken_off_leaves_whole_objects_and_the_next_goes_on(
    host: Host, place: Away
) -> None:
    with begun(place, "copy") as child:
        # Somebody else of this login, at the same time.
        error = refused(host, ExitCode.HOST)
        assert "another rave copies" in error.message
        assert "wait" in (error.hint or "")
        said = interrupted(child)
    assert "rave backup copy goes on" in said
    assert "interrupted" in said
    there = sound(place.files) if place.files.exists() else set()
    assert mirror.CONFIG not in there
    assert "interrupted (SIGINT)" in told_status(host)
    done = copy(host)
    assert done.written == done.objects - len(there)
    assert away.check(host.settings, on_event=host.told.append).damaged == ()


def told_status(host: Host) -> str:
    """What `rave backup status` says of the copy."""
    from rave_cli.flows import backup_status

    return backup_status.report(None, host.settings).copy or ""


@thorough
@served(SFTP, S3)
def test_two_hosts_that_copy_the_same_folder_at_once_write_no_part(host: Host, place: Away) -> None:
    other = host.home / "the same on another host"
    shutil.copytree(host.folder, other)
    with begun(place, "copy") as child:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("RAVE_BACKUP_FOLDER", str(other))
            places.keep(place.secrets)
            copy(host)
        assert mirror.CONFIG in sound(place.files)
        interrupted(child)
    sound(place.files)
    assert copy(host).written == 0


@served(S3, SFTP)
def test_a_fetch_that_is_broken_off_leaves_whole_objects_and_the_next_goes_on(
    host: Host, place: Away
) -> None:
    places.keep(place.secrets)
    copy(host)
    names = host.names()
    shutil.rmtree(host.folder)
    with begun(place, "fetch") as child:
        with pytest.raises(RaveError, match="gets them back") as caught:
            away.fetch(host.settings, None, on_event=host.told.append)
        assert caught.value.exit_code == ExitCode.HOST
        said = interrupted(child)
    assert "the same command goes on" in said
    assert mirror.CONFIG not in sound(host.folder)
    # Half of it is not taken for backups, and what helps is said.
    with pytest.raises(RaveError, match="not all there") as caught:
        host.names()
    assert "rave backup fetch" in (caught.value.hint or "")
    run("fetch")
    assert host.names() == names
    assert "sound" in run("verify")


@needs_sshd
@pytest.mark.skipif(os.geteuid() != 0, reason="only root calls for another account")
def test_another_account_is_told_whose_folder_it_is(host: Host, tmp_path: Path) -> None:
    """Its own secrets, the folder of somebody else: nothing of it is read, and no traceback."""
    with places.sftp(tmp_path / "away") as place:
        places.keep(place.secrets)
        argv = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
        env = os.environ | {"RAVE_BACKUP_FOLDER": str(host.folder), "HOME": "/nonexistent"}
        argv += [sys.executable, "-m", "rave_cli", "backup", "copy"]
        done = subprocess.run(argv, capture_output=True, text=True, env=env, check=False)
    assert done.returncode == ExitCode.HOST, done.stderr
    assert "Traceback" not in done.stderr
    assert not place.names()
