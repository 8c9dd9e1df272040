"""The audit log: every command that acts is told, and what was changed afterwards shows."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import click
import pytest
from click.testing import CliRunner
from hypothesis import assume, given
from hypothesis import strategies as st

from rave_cli import app, audit, signals
from rave_cli.audit import LONGEST_LINE, AuditedCommand, ChangedLogError
from rave_cli.errors import ExitCode, RaveError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# Each quarter of an hour by a timer: it tells of what it does by itself.
BY_ITSELF = {"backup schedule run"}
# What only looks, and at nothing in a guest that is not rave's own to know.
LOOKS = {
    "audit show", "audit verify", "backup list", "backup schedule list", "backup show",
    "backup status", "completion", "config",
    "events dead", "events list",
    "events show", "image sbom", "image scan", "oauth clients",
    "oauth show", "pool cache list", "pool executor config", "pool explain", "pool export alerts",
    "pool export check",
    "pool export dashboard", "pool list",
    "pool logs", "pool show", "pool source list", "pool source show", "pool status",
    "pool guest list", "pool token list", "pool top", "pool trace", "pool verify",
    "secrets list", "secrets validate", "smoke list", "smoke verify", "tls status",
    "trace list", "trace show",
    "user list", "user show", "vm build-image", "vm debug-bundle",
    "vm forward list", "vm list", "vm list-profiles", "vm lock-closure", "vm logs", "vm open",
    "vm snapshot list", "vm ssh-config", "vm status", "vm template list", "vm wait", "vm watch",
}  # fmt: skip


def leaves(group: click.Group, path: str = "") -> Iterator[tuple[str, click.Command]]:
    ctx = click.Context(group)
    for name in group.list_commands(ctx):
        command = group.get_command(ctx, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from leaves(command, f"{path}{name} ")
        else:
            yield f"{path}{name}", command


def rave(*words: str) -> int:
    with pytest.raises(SystemExit) as caught:
        app.main(list(words))
    assert isinstance(caught.value.code, int)
    return caught.value.code


def tell(verb: str = "vm stop", *subjects: str, code: int = 0) -> None:
    with audit.attempt(AuditedCommand.of(verb, subjects, ()), pytest.fail) as attempt:
        attempt.exit_code = code


def test_each_command_acts_and_is_told_or_only_looks() -> None:
    told = {name: hasattr(command.callback, "audited") for name, command in leaves(app.cli)}
    assert {name for name, audited in told.items() if not audited} == LOOKS | BY_ITSELF


def test_a_command_is_told_with_what_it_was_to_act_on_and_how_it_ended(home: Path) -> None:
    assert rave("vm", "stop", "demo", "--patience", "3") == ExitCode.USAGE
    begin, end = audit.read().entries
    assert (begin.kind, end.kind, begin.id) == ("begin", "end", end.id)
    assert begin.told == end.told == AuditedCommand("vm stop", ("demo",), ("--patience",))
    assert (begin.exit_code, end.exit_code) == (None, ExitCode.USAGE)
    assert begin.who.user


def test_what_may_be_a_secret_is_not_told(home: Path) -> None:
    rave("vm", "exec", "demo", "--", "mysql", "-phunter2")
    rave("user", "add", "demo", "alice", "--email", "hunter2@example.org")
    assert "hunter2" not in audit.log_file().read_text()
    assert [entry.told.subjects for entry in audit.read().entries[::2]] == [
        ("demo", "mysql", "…"), ("demo", "alice"),
    ]  # fmt: skip


def test_a_command_that_was_not_carried_out_is_not_told(home: Path) -> None:
    assert rave("vm", "stop", "--nonsense") == ExitCode.USAGE
    assert not audit.log_file().exists()


def test_a_command_that_is_ended_by_a_signal_is_told_to_its_end(home: Path) -> None:
    def killed() -> None:
        with signals.handled(), audit.attempt(AuditedCommand("vm stop"), pytest.fail) as attempt:
            attempt.exit_code = 128 + signal.SIGTERM
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(signals.Interrupted):
        killed()
    assert audit.read().entries[-1].exit_code == ExitCode.TERMINATED


def test_a_command_that_was_killed_has_no_end(home: Path) -> None:
    program = (
        "import os, signal; from rave_cli import audit\n"
        "with audit.attempt(audit.AuditedCommand('vm stop'), print):\n"
        "    os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", program], check=False)
    tell("vm start")
    killed, ended = audit.commands(audit.read().entries)
    assert (killed.begin.told.verb, killed.end) == ("vm stop", None)
    assert ended.end is not None
    shown = CliRunner().invoke(app.cli, ["audit", "show"])
    assert "no end seen" in shown.stdout


def test_many_at_a_time_make_one_chain(home: Path) -> None:
    program = (
        "from rave_cli import audit\n"
        "for _ in range(20):\n"
        "    with audit.attempt(audit.AuditedCommand('vm stop'), print): pass"
    )
    running = [subprocess.Popen([sys.executable, "-c", program]) for _ in range(6)]
    assert [child.wait() for child in running] == [0] * 6
    log = audit.read()
    assert len(log.entries) == 6 * 20 * 2
    assert all(done.end for done in audit.commands(log.entries))


@given(at=st.integers(0, 1 << 20), new=st.integers(0, 255))
def test_a_byte_that_was_changed_shows(at: int, new: int) -> None:
    at %= len(LINES)
    assume(LINES[at] != new)
    assert_refused(LINES[:at] + bytes([new]) + LINES[at + 1 :])


@given(order=st.lists(st.integers(0, 5), max_size=8))
def test_lines_that_were_dropped_added_or_moved_show(order: list[int]) -> None:
    assume(order != list(range(6)))
    every = LINES.splitlines(keepends=True)
    assert_refused(b"".join(every[number] for number in order))


def assert_refused(raw: bytes) -> None:
    """The last line has none behind it that would show it: the head does, which was noted."""
    audit.log_file().write_bytes(raw)
    with pytest.raises(ChangedLogError):
        audit.require_head(audit.read(), hashlib.sha256(LINES.splitlines(True)[-1]).hexdigest())


@pytest.fixture(scope="module", autouse=True)
def _lines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Six lines of a log, for the properties."""
    global LINES  # noqa: PLW0603 - hypothesis takes no fixture that is made for each test
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        for verb in ("vm start", "vm stop", "vm delete"):
            tell(verb, "demo")
        LINES = audit.log_file().read_bytes()
        yield


LINES = b""


def test_a_log_that_was_written_anew_lacks_the_head_that_was_noted(home: Path) -> None:
    tell("vm stop")
    noted = audit.read().head
    tell("vm start")
    assert rave("audit", "verify", "--head", noted) == ExitCode.OK
    audit.log_file().unlink()
    tell("vm start")
    assert rave("audit", "verify") == ExitCode.OK
    assert rave("audit", "verify", "--head", noted) == ExitCode.VERIFICATION


def test_no_line_is_longer_than_what_is_read_to_find_the_last(home: Path) -> None:
    odd = os.fsdecode(b"\xff\x9b") + "\U0001f40c" * 5000
    tell("vm cp", *[odd] * 500)
    tell("vm stop")
    assert max(map(len, audit.log_file().read_bytes().splitlines())) < LONGEST_LINE
    assert len(audit.read().entries) == 4


def test_what_cannot_be_written_is_said_and_stops_nobody(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    audit.log_file().mkdir(parents=True)
    assert rave("vm", "stop", "demo") == ExitCode.USAGE
    said = capsys.readouterr().err
    assert "not in the audit log" in said
    assert "there is no machine 'demo'" in said


def test_a_full_disk_leaves_no_half_line(home: Path) -> None:
    tell("vm stop")
    whole = audit.log_file().read_bytes()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(whole) + 40, before[1]))
    try:
        said: list[str] = []
        with audit.attempt(AuditedCommand("vm start"), said.append):
            pass
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert len(said) == 1
    assert audit.log_file().read_bytes() == whole
    tell("vm start")
    assert len(audit.read().entries) == 4


def test_a_line_that_was_cut_short_takes_no_later_one_with_it(home: Path) -> None:
    tell("vm stop")
    raw = audit.log_file().read_bytes()
    audit.log_file().write_bytes(raw[:-20])
    tell("vm start")
    assert [line[-1:] for line in audit.log_file().read_bytes().splitlines()[2:]] == [b"}"] * 2
    with pytest.raises(ChangedLogError, match="line 2"):
        audit.read()


def test_the_log_is_nobody_elses(home: Path) -> None:
    tell("vm stop")
    assert audit.log_file().stat().st_mode & 0o777 == 0o600
    audit.log_file().chmod(0o666)
    with pytest.raises(RaveError, match="can be changed by anybody"):
        audit.read()


def test_what_was_done_to_one_machine_is_found(home: Path) -> None:
    for name in ("one", "two"):
        tell("vm stop", name)
    tell("vm cp", "one:/etc/hostname", "/tmp/x")
    shown = CliRunner().invoke(app.cli, ["audit", "show", "--json", "--about", "one"])
    document = json.loads(shown.stdout)
    assert [entry["verb"] for entry in document["commands"]] == ["vm stop", "vm cp"]
    assert document["head"] == audit.read().head
