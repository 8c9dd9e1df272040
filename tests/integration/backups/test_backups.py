"""Backups with the real engine, of a machine that sends what a test says."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from rave_cli import doctor
from rave_cli.app import cli
from rave_cli.backups import kit
from rave_cli.backups.kept import Backup
from rave_cli.backups.retention import RetentionPolicy
from rave_cli.errors import ExitCode, RaveError
from rave_cli.flows import vault
from rave_cli.machines.guest.call import Refusal
from rave_cli.machines.guest.door import VerbRefusedError
from rave_guest.state import wire
from tests import kills
from tests.integration.backups.hosts import ITEMS, Host, content, stream_of
from tests.waiting import until

if TYPE_CHECKING:
    from pathlib import Path


pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not shutil.which("restic"), reason="no restic on this host"),
]


def refused(host: Host, code: ExitCode) -> RaveError:
    with pytest.raises(RaveError) as caught:
        host.now()
    assert caught.value.exit_code == code
    return caught.value


def test_what_is_kept_is_put_back_and_known_by_its_moment(host: Host) -> None:
    (name,) = host.names()
    assert name.startswith("dev-20")
    done = host.restore()
    assert (done.backup.name, done.services) == (name, ("redis", "postgresql"))
    assert host.machine.taken == ITEMS
    assert host.now().backup.name != name
    assert host.verify().backups[-1].name in host.names()
    assert modes(host.folder) == {"key.sops.yaml": 0o600, "README": 0o600, "lock": 0o600}


def test_what_the_backup_before_has_is_not_sent_again(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Moments are part of what is cut: with these it is cut at the same places each time.
    moments = (f"2030-01-01T00:00:{second:02}Z" for second in range(60))
    monkeypatch.setattr(wire, "now", moments.__next__)
    host.machine.answers = True
    host.machine.items = ITEMS | {"nats": bytes(1 << 20)}
    first = host.now()
    assert host.machine.on_the_way < 200_000, "all but the zeros was there, and those are told"
    before = size_of(host.folder)
    host.machine.items |= {"nats": content(1 << 20, 7)}
    host.now()
    assert size_of(host.folder) - before < 4 << 20, "it keeps once what is there twice"
    assert 1 << 20 < host.machine.on_the_way < (1 << 20) + 200_000
    host.restore()
    assert host.machine.taken == host.machine.items
    host.restore(first.backup.name)
    assert host.machine.taken == ITEMS | {"nats": bytes(1 << 20)}
    host.verify()


def test_two_at_once_are_made_one_after_the_other(host: Host) -> None:
    """As timers of two machines begin them."""
    with ThreadPoolExecutor() as pool, vault.opened(host.settings).changing():
        under_way = pool.submit(host.now)
        with pytest.raises(RaveError, match="another rave"):
            host.verify()
    assert under_way.result().backup.name in host.names()


def test_a_backup_before_that_is_damaged_is_no_reason_for_none(host: Host) -> None:
    host.machine.answers, host.machine.items = True, ITEMS
    packs = sorted((host.folder / "repository/data").rglob("*"), key=lambda p: p.stat().st_size)
    flip(packs[-1])
    host.now()
    assert any("so all is sent" in event.text for event in host.told if event.kind == "warning")


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def modes(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir() if path.is_file()}


def test_without_the_key_nothing_of_it_can_be_read(host: Host) -> None:
    text = b"".join(path.read_bytes() for path in host.folder.rglob("*") if path.is_file())
    for secret in (b"a few jobs", b"postgresql", vault.key(host.settings).encode()):
        assert secret not in text


def test_a_stream_that_is_not_whole_is_no_backup(host: Host) -> None:
    names, sent = host.names(), host.machine.sent
    for broken in (sent[:-10], sent[:-3] + b"999", b"x" * 9000, stream_of(ITEMS, "7" * 32)):
        host.machine.sent = broken
        refused(host, ExitCode.NOT_READY)
    host.machine.sent, host.machine.said = sent[:-30], b"No space left on device\n"
    assert "No space left" in refused(host, ExitCode.NOT_READY).message
    host.machine.sent = b'{"v":2,"ok":false,"stage":"secrets","error":"there are none"}\n'
    assert refused(host, ExitCode.SECRETS).hint == "rave secrets install dev"
    host.machine.sent, host.machine.said = sent, b""
    host.machine.size = -(1 << 40)
    assert host.names() == names
    assert host.now().backup.name in host.names()


def test_a_guest_cannot_fill_the_disk(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vault, "MOST_MORE", -(2 << 20) + 1000)
    assert "more than" in refused(host, ExitCode.NOT_READY).message


def test_an_image_from_before_says_so(host: Host) -> None:
    host.machine.refusal = VerbRefusedError("dev", "state", Refusal("request", "no verb"))
    assert "older rave" in refused(host, ExitCode.HOST).message


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.chmod(0o600)
    path.write_bytes(data)


def test_a_flipped_bit_is_found_and_nothing_of_it_reaches_a_machine(host: Host) -> None:
    packs = sorted((host.folder / "repository/data").rglob("*"), key=lambda p: p.stat().st_size)
    flip(packs[-1])
    with pytest.raises(RaveError) as caught:
        host.verify()
    assert caught.value.exit_code == ExitCode.VERIFICATION
    with pytest.raises(RaveError) as caught:
        host.restore()
    assert caught.value.exit_code == ExitCode.VERIFICATION
    assert host.machine.taken == {}


def test_a_wrong_key_a_lost_key_and_a_lost_identity_have_their_words(host: Host) -> None:
    good = vault.key(host.settings)
    place = host.folder / "key.sops.yaml"
    sealed = place.read_bytes()
    place.unlink()
    assert "is gone" in refused(host, ExitCode.SECRETS).message
    with pytest.raises(RaveError, match="does not open"):
        vault.put_key_back(host.settings, "0" * 64)
    with pytest.raises(RaveError, match="64 characters"):
        vault.put_key_back(host.settings, "secret")
    # The host is lost, and with it the age identity: the key was on paper.
    shutil.rmtree(host.home / "CONFIG")
    place.write_bytes(sealed)
    place.chmod(0o600)
    error = refused(host, ExitCode.SECRETS)
    assert "identity" in error.message
    vault.put_key_back(host.settings, good)
    host.restore()
    assert host.machine.taken == ITEMS


def test_a_folder_that_is_gone_is_not_made_anew(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = host.home / "medium"
    monkeypatch.setenv("RAVE_BACKUP_FOLDER", str(elsewhere))
    assert "not mounted" in refused(host, ExitCode.HOST).message
    assert not elsewhere.exists()
    shutil.move(host.folder if host.folder.exists() else host.home / "DATA/rave/backups", elsewhere)
    assert len(host.names()) == 1
    shutil.rmtree(elsewhere / "repository")
    assert "not mounted" in refused(host, ExitCode.HOST).message


def test_a_full_disk_leaves_what_there_was(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    small = host.home / "small"
    small.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", small], check=False, capture_output=True
    )
    if done.returncode:
        pytest.skip("this host lets nobody mount")
    try:
        shutil.copytree(host.folder, small, dirs_exist_ok=True)
        monkeypatch.setenv("RAVE_BACKUP_FOLDER", str(small))
        names = host.names()
        host.machine.sent, host.machine.size = stream_of({"redis": content(9 << 20, 2)}), 1 << 25
        error = refused(host, ExitCode.HOST)
        assert "no space left" in error.message
        assert "df -h" in (error.hint or "")
        host.machine.sent = stream_of(ITEMS)
        assert host.names() == names
        host.restore()
        assert host.machine.taken == ITEMS
    finally:
        subprocess.run(["umount", "-l", small], check=True)


def test_another_machines_backup_is_not_taken_for_this_ones(host: Host) -> None:
    host.machine.spec.instance_id = "8" * 32
    with pytest.raises(RaveError, match="of another machine") as caught:
        host.restore()
    assert caught.value.exit_code == ExitCode.USAGE
    assert "--instance 666" in (caught.value.hint or "")
    host.restore(instance="6" * 32)
    assert host.machine.taken == ITEMS


def test_old_backups_go_and_the_latest_stays(host: Host) -> None:
    first, latest = host.names()[0], host.now().backup.name
    policy = RetentionPolicy(days=1, months=1)
    found = vault.pruning(host.settings, policy)
    assert [one.name for one in found.gone] == [first]
    vault.prune(host.settings, policy, on_event=host.told.append)
    assert host.names() == [latest]
    assert host.verify().broken == 0
    host.restore()
    assert host.machine.taken == ITEMS


def test_no_kill_leaves_a_backup_that_is_not_whole(host: Host) -> None:
    """At points all over: while the guest sends, and before and after each step of the engine."""
    size = len(host.machine.sent)
    named = ("store.finish", "before facts", "facts written")
    points: list[int | str] = [size * n // 6 for n in range(6)]
    whole = 0
    for point in (*points, *named):
        pid = os.fork()
        if pid == 0:
            doomed(host, point)
        _, status = os.waitpid(pid, 0)
        assert os.WIFSIGNALED(status), (point, status)
        kills.count()
        whole += point == "facts written"
    until(lambda: not list((host.folder / "repository/locks").iterdir()) or unlocked(host))
    listing = vault.listed(host.settings)
    # Where all was written the engine may end without rave: then it is whole, or not there.
    assert 1 <= len(listing.backups) <= 1 + whole
    host.verify()
    host.restore()
    assert host.machine.taken == ITEMS
    assert host.now().backup.name in host.names()


def unlocked(host: Host) -> bool:
    from rave_cli.flows.vault import opened

    opened(host.settings).engine.unlock()
    return not list((host.folder / "repository/locks").iterdir())


def doomed(host: Host, point: int | str) -> None:
    """Make a backup and be killed at a point of it."""
    from rave_cli.backups import engine

    def die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    finish, text = engine.Storing.finish, Backup.text
    count = [0]

    def counted(storing: engine.Storing) -> str:
        count[0] += 1
        if (point, count[0]) in {("store.finish", 1), ("facts written", 2)}:
            die()
        return finish(storing)

    def told(found: Backup) -> bytes:
        if point == "before facts":
            die()
        return text(found)

    engine.Storing.finish = counted  # type: ignore[method-assign, assignment]
    Backup.text = told  # type: ignore[method-assign, assignment]
    if isinstance(point, int):
        host.machine.before_piece = lambda at: die() if at >= point - (1 << 16) else None
    host.now()
    os._exit(0)


def run(*words: str) -> str:
    done = CliRunner().invoke(
        cli, ["backup", *words], catch_exceptions=False, standalone_mode=False
    )
    return done.stdout if "--json" in words else done.output


def test_the_commands_say_what_there_is_and_what_became_of_it(host: Host) -> None:
    document = json.loads(run("now", "dev", "--json"))
    name = document["name"]
    assert (document["machine"], document["bytes"]) == ("dev", sum(map(len, ITEMS.values())))
    assert name in run("list", "dev")
    assert "no backups of other" in run("list", "other")
    listed = json.loads(run("list", "--json"))
    assert [one["name"] for one in listed["backups"]][-1] == name
    assert f"instance  {'6' * 32}" in run("show", name)
    assert "sound" in run("verify", "dev", "--quick")
    assert json.loads(run("restore", "dev", "--only", "redis", "--json"))["backup"] == name
    with pytest.raises(RaveError, match="nothing of penpot"):
        run("restore", "dev", "--only", "penpot")
    with pytest.raises(RaveError, match="no backup of other") as caught:
        vault.find(vault.listed(host.settings), "other", "latest")
    assert caught.value.exit_code == ExitCode.USAGE
    gone = json.loads(run("prune", "--days", "1", "--months", "0", "--dry-run", "--json"))
    assert gone["done"] is False
    assert len(gone["gone"]) == 1
    with pytest.raises(RaveError, match="nobody can be asked"):
        run("prune")


def test_the_key_is_shown_to_whoever_asks_for_it_alone(host: Host) -> None:
    key = vault.key(host.settings)
    assert key not in run("key")
    assert json.loads(run("key", "--json"))["key"] is None
    assert run("key", "--show").strip() == key


def test_the_doctor_opens_them_and_says_what_is_late(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    kit.noted(host.folder, vault.key(host.settings), is_sealed=True)
    (found,) = doctor.examine(["backups"])
    assert (found.status, found.facts["backups"]) == ("ok", 1)
    assert "keep a copy elsewhere" in found.detail
    monkeypatch.setattr("rave_cli.doctor.backup.stored_names", lambda: ["dev"])
    monkeypatch.setattr("rave_cli.backups.schedule.UNSCHEDULED", -1)
    (found,) = doctor.examine(["backups"])
    assert (found.status, found.facts["late"]) == ("warn", ["dev"])
    assert found.advice == "rave backup now dev"
    (host.folder / "key.sops.yaml").unlink()
    (found,) = doctor.examine(["backups"])
    assert found.status == "fail"
