"""A copy of the backups in another place, with real servers: made, seen to be whole, got back."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from rave_cli.app import cli
from rave_cli.backups import kit
from rave_cli.backups.away import mirror, record, s3, store
from rave_cli.backups.engine import UnsoundRepositoryError
from rave_cli.backups.retention import RetentionPolicy
from rave_cli.errors import ExitCode, RaveError
from rave_cli.flows import away, backup_status, vault
from tests.integration.backups import places
from tests.integration.backups.hosts import ITEMS, Host, at_home, content, stream_of
from tests.integration.backups.places import Away, needs_s3, needs_sshd

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

KINDS = [
    pytest.param("sftp", marks=needs_sshd),
    pytest.param("s3", marks=needs_s3),
]


@pytest.fixture
def place(request: pytest.FixtureRequest, host: Host, tmp_path: Path) -> Iterator[Away]:
    """A place of either kind, which the host's secrets name."""
    folder = tmp_path / "away"
    with places.sftp(folder) if request.param == "sftp" else places.s3(folder) as found:
        places.keep(found.secrets)
        yield found


THOROUGH = "RAVE_OTHER_PLACE"
# Each makes a copy of a repository, or several: together half a minute of processors.
thorough = pytest.mark.skipif(
    THOROUGH not in os.environ, reason=f"they copy for half a minute: {THOROUGH}=1 runs them"
)

both = pytest.mark.parametrize("place", KINDS, indirect=True)
# What does not ask how the place is reached is tried with one of them.
over_sftp = pytest.mark.parametrize("place", KINDS[:1], indirect=True)
with_s3 = pytest.mark.parametrize("place", KINDS[1:], indirect=True)


def copy(host: Host, *, prune: bool = False) -> away.CopiedBackups:
    return away.copy(host.settings, prune=prune, on_event=host.told.append)


def check(host: Host, *, mend: bool = False) -> mirror.CheckedCopy:
    return away.check(host.settings, mend=mend, on_event=host.told.append)


def refused(host: Host, code: ExitCode) -> RaveError:
    with pytest.raises(RaveError) as caught:
        copy(host)
    assert caught.value.exit_code == code, caught.value.message
    assert caught.value.hint
    return caught.value


def run(*words: str, given: str = "") -> str:
    done = CliRunner().invoke(
        cli, ["backup", *words], catch_exceptions=False, standalone_mode=False, input=given
    )
    return done.output


@thorough
@both
def test_a_copy_is_what_is_here_and_what_is_there_is_not_sent_again(
    host: Host, place: Away
) -> None:
    first = copy(host)
    here = mirror.listed(host.folder)
    assert (first.written, first.objects, first.extra) == (len(here), len(here), 0)
    assert place.names() >= set(here)
    for name in here:
        assert (place.files / name).read_bytes() == (host.folder / name).read_bytes()
    assert copy(host).written == 0
    host.machine.sent = stream_of({"redis": content(1 << 20, 5)})
    host.now()
    more = copy(host)
    assert 0 < more.written < more.objects
    found = check(host)
    assert (found.damaged, found.missing, found.objects) == ((), (), more.objects)


@thorough
@both
def test_the_engine_itself_reads_the_copy(host: Host, place: Away, tmp_path: Path) -> None:
    """What is there is a repository of restic: whoever has no rave gets at it."""
    copy(host)
    key = tmp_path / "key"
    key.write_text(vault.key(host.settings))
    url = place.secrets["place"]
    env = dict(os.environ)
    options: list[str] = []
    if url.startswith("sftp"):
        known = tmp_path / "known"
        known.write_text(f"[127.0.0.1]:{place.port} {place.secrets['host-key']}")
        program = (
            f"ssh -p {place.port} -i {place.scratch}/own -o BatchMode=yes -o IdentitiesOnly=yes"
            f" -o StrictHostKeyChecking=yes -o UserKnownHostsFile={known} {places.USER}@127.0.0.1"
            " -s sftp"
        )
        repository = f"sftp:{places.USER}@127.0.0.1:{place.files}/repository"
        options = ["-o", f"sftp.command={program}"]
    else:
        repository = f"s3:http://127.0.0.1:{place.port}/bucket/backups/repository"
        env |= {"AWS_ACCESS_KEY_ID": places.ACCESS, "AWS_SECRET_ACCESS_KEY": places.SECRET}
    argv = ["restic", "--no-cache", "--no-lock", "--repo", repository, *options]
    argv += ["--password-file", str(key), "check", "--read-data"]
    done = subprocess.run(argv, capture_output=True, text=True, env=env, check=False)
    assert done.returncode == 0, done.stderr
    assert "no errors were found" in done.stdout


@both
def test_a_lost_host_is_got_back_from_the_page_alone(
    host: Host, place: Away, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """docs/how-to/recover-a-lost-host.md with another place: no age identity, no secrets file."""
    copy(host)
    names = host.names()
    run("kit", str(tmp_path / "kit.txt"), "--plain")
    page = (tmp_path / "kit.txt").read_text()
    assert "rave backup fetch --kit" in page
    shutil.rmtree(host.home)
    new = tmp_path / "new"
    new.mkdir()
    at_home(new, monkeypatch)
    typed = page.partition("2. The key")[2].partition("\n\n")[2].partition("\n3. ")[0]
    said = run("fetch", "--kit", given=typed)
    assert "is what is in" in said
    assert host.names() == names
    assert "sound" in run("verify")
    host.restore()
    assert host.machine.taken == ITEMS
    for name in set(mirror.listed(host.folder)) - {mirror.KEY, mirror.README}:
        assert (place.files / name).read_bytes() == (host.folder / name).read_bytes()


@thorough
@with_s3
def test_a_new_host_with_identity_and_secrets_needs_no_page(host: Host, place: Away) -> None:
    copy(host)
    names = host.names()
    shutil.rmtree(host.folder)
    run("fetch")
    assert host.names() == names
    # The key came with it, sealed as it was.
    assert (host.folder / mirror.KEY).read_bytes() == (place.files / mirror.KEY).read_bytes()
    host.restore()
    assert host.machine.taken == ITEMS


@thorough
@both
def test_flipped_bits_are_found_named_and_mended(host: Host, place: Away) -> None:
    copy(host)
    found = sorted(
        (place.files / "repository/data").rglob("*/*"), key=lambda one: one.stat().st_size
    )
    victim = found[-1]
    data = bytearray(victim.read_bytes())
    data[len(data) // 2] ^= 4
    victim.chmod(0o600)
    victim.write_bytes(data)
    with pytest.raises(UnsoundRepositoryError) as caught:
        check(host)
    assert caught.value.exit_code == ExitCode.VERIFICATION
    assert victim.name in "".join(caught.value.detail)
    report = backup_status.report(None, host.settings)
    assert not report.well
    assert "not what was written" in (report.copy or "")
    # A new host leaves it out and says so; all else is there.
    kept = host.folder.with_name("kept")
    host.folder.rename(kept)
    with pytest.raises(UnsoundRepositoryError, match="left out"):
        away.fetch(host.settings, None, on_event=host.told.append)
    assert not (host.folder / victim.relative_to(place.files)).exists()
    assert mirror.CONFIG in mirror.listed(host.folder)
    shutil.rmtree(host.folder)
    kept.rename(host.folder)
    done = check(host, mend=True)
    assert done.mended == (victim.relative_to(place.files).as_posix(),)
    assert check(host).damaged == ()
    assert backup_status.report(None, host.settings).copy is None


@thorough
@with_s3
def test_damage_here_is_not_copied_over_what_is_whole_there(host: Host, place: Away) -> None:
    first = min((host.folder / "repository/data").rglob("*/*"))
    whole = first.read_bytes()
    first.chmod(0o600)
    first.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    error = refused(host, ExitCode.VERIFICATION)
    assert first.name in error.message
    assert first.relative_to(host.folder).as_posix() not in place.names()
    first.write_bytes(whole)
    copy(host)
    assert check(host).damaged == ()


@thorough
@both
def test_a_place_that_is_gone_in_the_middle_is_gone_on_with(
    host: Host, place: Away, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3, "WAIT", 0.0)
    sent: list[str] = []
    send = mirror.send

    def ended(
        folder: Path, target: store.Store, wanted: mirror.Compared, told: mirror.Told
    ) -> None:
        def then(done: int, total: int) -> None:
            told(done, total)
            sent.append("one")
            if len(sent) == 3:
                place.kill()

        send(folder, target, wanted, then)

    monkeypatch.setattr(mirror, "send", ended)
    error = refused(host, ExitCode.NOT_READY)
    assert "does not answer" in error.message
    assert "goes on" in (error.hint or "")
    assert mirror.CONFIG not in place.names()
    place.start()
    monkeypatch.setattr(mirror, "send", send)
    done = copy(host)
    assert done.written == done.objects - 3
    assert check(host).damaged == ()


@both
def test_another_key_is_refused_and_said(host: Host, place: Away, tmp_path: Path) -> None:
    if "ssh-key" in place.secrets:
        argv = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "other")]
        subprocess.run(argv, check=True)
        places.keep(place.secrets | {"ssh-key": (tmp_path / "other").read_text()})
    else:
        places.keep(place.secrets | {"secret-key": "another"})
    error = refused(host, ExitCode.SECRETS)
    assert "does not let us in" in error.message
    assert "secrets edit" in (error.hint or "")
    assert not place.names()
    places.keep(place.secrets)
    assert copy(host).written


@thorough
@with_s3
def test_the_copy_of_another_folder_is_left_alone(
    host: Host, place: Away, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy(host)
    names = place.names()
    other = host.home / "other"
    other.mkdir()
    monkeypatch.setenv("RAVE_BACKUP_FOLDER", str(other))
    host.now()
    error = refused(host, ExitCode.USAGE)
    assert "another folder" in error.message
    assert place.names() == names


@thorough
@over_sftp
def test_what_goes_here_stays_there_until_it_is_taken_away(host: Host, place: Away) -> None:
    copy(host)
    host.machine.sent = stream_of({"redis": content(1 << 20, 7)})
    host.now()
    vault.prune(host.settings, RetentionPolicy(1, 1), on_event=host.told.append)
    done = copy(host)
    assert done.extra > 0
    pruned = copy(host, prune=True)
    assert (pruned.gone, pruned.extra) == (done.extra, 0)
    known = {name for name in place.names() if mirror.NAMES.fullmatch(name)}
    assert known == set(mirror.listed(host.folder))
    shutil.rmtree(host.folder)
    run("fetch")
    assert "sound" in run("verify")


@thorough
@over_sftp
def test_an_emptied_folder_empties_nothing(host: Host, place: Away) -> None:
    copy(host)
    names = place.names()
    shutil.rmtree(host.folder / "repository/snapshots")
    (host.folder / "repository/snapshots").mkdir()
    with pytest.raises(RaveError, match="nothing is taken away") as caught:
        copy(host, prune=True)
    assert caught.value.exit_code == ExitCode.USAGE
    assert place.names() == names


@thorough
@over_sftp
def test_a_full_place_says_so_and_goes_on_when_there_is_room(host: Host, place: Away) -> None:
    place.files.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", place.files],
        check=False, capture_output=True,
    )  # fmt: skip
    if done.returncode:
        pytest.skip("this host lets nobody mount")
    try:
        error = refused(host, ExitCode.HOST)
        assert "did not take" in error.message
        assert mirror.CONFIG not in place.names()
        subprocess.run(["mount", "-o", "remount,size=64m", place.files], check=True)
        copy(host)
        assert check(host).damaged == ()
    finally:
        subprocess.run(["umount", "-l", place.files], check=True)


@needs_sshd
def test_another_host_key_is_never_spoken_to(host: Host, tmp_path: Path) -> None:
    with places.sftp(tmp_path / "away") as place:
        argv = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "other")]
        subprocess.run(argv, check=True)
        places.keep(place.secrets | {"host-key": (tmp_path / "other.pub").read_text()})
        error = refused(host, ExitCode.VERIFICATION)
        assert "not the server that was pinned" in error.message
        rsa = ["ssh-keygen", "-q", "-t", "rsa", "-N", "", "-f", str(tmp_path / "rsa")]
        subprocess.run(rsa, check=True)
        places.keep(place.secrets | {"host-key": (tmp_path / "rsa.pub").read_text()})
        error = refused(host, ExitCode.VERIFICATION)
        assert "ssh-rsa" in error.message
        assert not place.names()


@needs_sshd
@pytest.mark.parametrize(
    ("subsystem", "code"),
    [
        # The server is killed while it writes an object.
        ("mkfifo f; {server} <f & {some} >f; kill -9 $!", ExitCode.NOT_READY),
        # It takes nothing more, and says nothing.
        pytest.param("({some}; sleep 3600) | {server}", ExitCode.NOT_READY, marks=thorough),
        # No file may grow: what a quota does.
        pytest.param("trap '' XFSZ; ulimit -f 400; exec {server}", ExitCode.HOST, marks=thorough),
        pytest.param("exit 1", ExitCode.HOST, marks=thorough),
        pytest.param("sleep 3600", ExitCode.NOT_READY, marks=thorough),
    ],
    ids=["killed", "silent", "quota", "none", "dumb"],
)
def test_a_server_that_breaks_off_leaves_no_part_under_a_name(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, subsystem: str, code: ExitCode
) -> None:
    monkeypatch.setattr(store, "ANSWERS", 2.0)
    # As many pieces as there are in one object or two, passed on as they come.
    some = "dd bs=32k count=40 status=none"
    script = subsystem.format(server=places.SFTP_SERVER, some=some)
    with places.sftp(tmp_path / "away", subsystem=script) as place:
        places.keep(place.secrets)
        refused(host, code)
        for name in place.names():
            if mirror.NAMES.fullmatch(name):
                assert mirror.is_sound(name, (place.files / name).read_bytes()), name
        (place.scratch / "subsystem").write_text(f"#!/bin/sh\nexec {places.SFTP_SERVER}\n")
        copy(host)
        assert check(host).damaged == ()


@thorough
@needs_s3
def test_a_clock_that_is_wrong_is_named(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from datetime import UTC, datetime

    class Late(datetime):
        @classmethod
        def now(cls, tz: object = None) -> datetime:  # type: ignore[override]
            return datetime(2020, 1, 1, tzinfo=UTC)

    with places.s3(tmp_path / "away") as place:
        places.keep(place.secrets)
        monkeypatch.setattr(s3, "datetime", Late)
        error = refused(host, ExitCode.HOST)
        assert "clock" in (error.hint or "")


@thorough
@with_s3
def test_the_schedule_copies_what_is_new_and_its_faults_are_told(host: Host, place: Away) -> None:
    from rave_cli.flows import backup_schedule

    assert away.due(host.settings)
    done = backup_schedule.run_due(host.settings, lambda: None, on_event=host.told.append)  # type: ignore[arg-type, return-value]
    assert done is not None
    assert done.copied == str(away.named())
    assert not away.due(host.settings)
    place.kill()
    kept = record.load(host.folder)
    assert kept is not None
    later = kept.copied.well + record.AGAIN  # type: ignore[union-attr, operator]
    assert record.is_due(kept, later)


def test_without_another_place_nothing_is_copied(host: Host) -> None:
    error = refused(host, ExitCode.SECRETS)
    assert "no other place" in error.message
    assert not away.is_named()
    assert backup_status.report(None, host.settings).copy is None
    assert kit.missing(host.folder, vault.key(host.settings).encode()) is not None
