"""`rave vm cp` against a guest that really runs what it is asked to run: over SSH, and over the
command channel with the guest's own program.
"""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from rave_cli.app import cli
from rave_cli.errors import ExitCode
from rave_cli.machines.transfer import placing
from rave_cli.machines.transfer.endpoint import Endpoint, parse_endpoint
from rave_guest import child
from rave_guest.command import Server
from tests.terminal import RAVE, Terminal
from tests.unit.machines.crashes import every_step
from tests.unit.machines.fake_sshd import SYSTEM
from tests.unit.machines.test_archive import everything_below, fill_tree
from tests.unit.machines.test_command import port, serve
from tests.unit.machines.test_exec import guest
from tests.unit.machines.test_terminal import each_end, outside
from tests.waiting import CEILING, until

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator

    from rave_cli.machines.spec import Machine
    from tests.unit.machines.conftest import Host
    from tests.unit.machines.fake_sshd import ExecutingSshd
    from tests.unit.machines.test_terminal import End

__all__ = ["guest", "outside"]


@pytest.fixture(params=["ssh", "channel"], autouse=True)
def over(
    request: pytest.FixtureRequest,
    host: Host,
    machine: Machine,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[str]:
    """The way that copies go."""
    over_channel = request.param == "channel"
    host.behave(command=over_channel)
    sshd: ExecutingSshd = request.getfixturevalue("guest")
    if not over_channel:
        yield "ssh"
        return
    # What the guest's program starts is run by this very process.
    monkeypatch.setenv("PATH", f"{tmp_path / 'guest'}:{host.bin}:{SYSTEM}")

    def accepted(client: socket.socket) -> None:
        client.setblocking(False)
        serve(Server(client.fileno(), machine.spec.instance_id))

    before = len(sshd.logins)
    with port(machine, accepted):
        yield "channel"
    assert len(sshd.logins) == before, "it went over SSH"


@pytest.fixture
def there(tmp_path: Path) -> Path:
    """A folder that the guest sees, too."""
    place = tmp_path / "there"
    place.mkdir()
    return place


@pytest.fixture
def here(tmp_path: Path) -> Path:
    place = tmp_path / "here and now"
    place.mkdir()
    return place


def cp(*words: object, code: int = 0, **options: Any) -> subprocess.CompletedProcess[bytes]:
    argv = [*RAVE, "vm", "cp", *map(str, words)]
    done = subprocess.run(argv, capture_output=True, check=False, timeout=CEILING, **options)
    assert done.returncode == code, done.stderr.decode()
    return done


def no_stage(*places: Path) -> bool:
    """Wait until no stage is left: what was broken off cleans up after itself."""
    until(lambda: not [path for place in places for path in place.rglob(".rave-cp.*")])
    return True


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("demo:/a", Endpoint("demo", "/a")),
        ("demo:a:b", Endpoint("demo", "a:b")),
        ("demo:", Endpoint("demo", ".")),
        ("./demo:/a", Endpoint(None, "./demo:/a")),
        ("/demo:a", Endpoint(None, "/demo:a")),
        ("Demo:a", Endpoint(None, "Demo:a")),
        ("-", Endpoint(None, "-")),
        ("a", Endpoint(None, "a")),
    ],
)
def test_a_place_is_read_as_scp_reads_it(text: str, place: Endpoint) -> None:
    assert parse_endpoint(text) == place


def test_a_tree_goes_in_and_comes_out_as_it_was(here: Path, there: Path) -> None:
    tree = fill_tree(here)
    cp(tree, f"demo:{there}/")
    assert everything_below(there / "tree") == everything_below(tree)
    cp(f"demo:{there}/tree", here / "back")
    for place in (there / "tree", here / "back"):
        assert everything_below(place) == everything_below(tree)
        assert stat.S_IMODE((place / "run").stat().st_mode) == 0o750
        assert (place / "run").stat().st_mtime == 1e9
        assert (place / "link").readlink() == Path("sub/empty")
    assert no_stage(here, there)


def test_a_folder_that_is_there_gets_it_under_its_name_and_with_a_dot_without(
    here: Path, there: Path
) -> None:
    tree = fill_tree(here)
    (there / "into").mkdir()
    (there / "into" / "kept").touch()
    cp(f"{tree}/.", f"demo:{there}/into")
    assert everything_below(there / "into") == everything_below(tree) | {"kept"}
    (here / "back").mkdir()
    (here / "back" / "kept").touch()
    cp(f"demo:{there}/into/.", here / "back")
    assert everything_below(here / "back") == everything_below(tree) | {"kept"}
    cp(f"demo:{there}/into", here / "back")
    assert (here / "back" / "into" / "run").exists()


def test_a_merge_into_the_guest_replaces_files_and_keeps_others(here: Path, there: Path) -> None:
    tree = fill_tree(here)
    target = there / "tree"
    (target / "sub").mkdir(parents=True)
    (target / "run").write_text("old")
    (target / "sub" / "kept").touch()
    cp(tree, f"demo:{there}")
    assert (target / "run").read_text() == "#!/bin/sh\n"
    assert everything_below(target) == everything_below(tree) | {"sub/kept"}


@pytest.mark.parametrize("size", [0, 1, 3_000_000])
def test_streams_pass_byte_for_byte(there: Path, size: int) -> None:
    data = os.urandom(size)
    done = cp("-", f"demo:{there}/f", input=data)
    assert (there / "f").read_bytes() == data
    assert done.stderr == b""
    done = cp(f"demo:{there}/f", "-")
    assert (done.stdout, done.stderr) == (data, b"")


def test_a_stream_keeps_the_mode_of_the_file_that_it_replaces(there: Path) -> None:
    (there / "f").touch()
    (there / "f").chmod(0o600)
    cp("-", f"demo:{there}/f", input=b"x")
    cp("-", f"demo:{there}/new", input=b"x")
    assert stat.S_IMODE((there / "f").stat().st_mode) == 0o600
    assert stat.S_IMODE((there / "new").stat().st_mode) == 0o644


def test_a_pipe_gets_no_progress_and_json_one_document(here: Path, there: Path) -> None:
    (here / "f").write_text("hello")
    assert cp(here / "f", f"demo:{there}/").stderr == b""
    document = json.loads(cp("--json", f"demo:{there}/f", here / "g").stdout)
    assert (document["files"], document["bytes"], document["leftOut"]) == (1, 5, [])
    assert document["target"] == str(here / "g")


def test_a_terminal_sees_how_far_it_is_and_never_what_a_guest_sends(
    here: Path, there: Path
) -> None:
    (there / "big").write_bytes(bytes(100_000_000))
    argv = [*RAVE, "vm", "cp", f"demo:{there}/big", str(here)]
    with Terminal(argv, size=(24, 120)) as terminal:
        terminal.until("of 95.4 MiB")
        assert terminal.end() == 0
    with Terminal([*RAVE, "vm", "cp", f"demo:{there}/big", "-"]) as terminal:
        assert terminal.end() == ExitCode.USAGE
        assert "use a pipe" in terminal.shown


@pytest.mark.parametrize(
    ("source", "target", "said"),
    [
        ("demo:{there}/nope", "{here}/x", "there is no"),
        ("demo:{there}", "-", "only a file can be a stream"),
        ("demo:/dev/null", "{here}/x", "neither a file nor a folder"),
        ("demo:{there}", "{here}/no/x", "there is no folder"),
        ("demo:{there}", "{here}/no/", "there is no folder"),
        ("{here}/nope", "demo:{there}", "neither a file nor a folder"),
        ("{here}", "demo:{there}/no/x", "there is no folder"),
        ("{here}", "demo:{there}/no/", "there is no folder"),
        ("{here}", "demo:{there}/file", "is a file, and what is copied is a folder"),
        ("{here}/file", "demo:{there}/folder/..", "is a folder"),
        ("demo:{there}", "{here}/file", "is in the way"),
        ("demo:/a", "demo:/b", "both are in machines"),
        ("/a", "/b", "neither is in a machine"),
        ("none:/a", "/b", "there is no machine"),
    ],
)
def test_a_path_that_does_not_fit_is_named(
    here: Path, there: Path, source: str, target: str, said: str
) -> None:
    for place in (here, there):
        (place / "file").touch()
        (place / "folder" / "file").mkdir(parents=True)
    before = everything_below(here), everything_below(there)
    words = [word.format(here=here, there=there) for word in (source, target)]
    if "/folder/.." in target:
        words[1] = f"demo:{there}/folder"
    done = cp(*words, code=ExitCode.USAGE)
    assert said in done.stderr.decode()
    assert (everything_below(here), everything_below(there)) == before


def full(place: Path) -> bool:
    """Make a folder one that holds 1 MiB; only root can."""
    mount = ["/usr/bin/mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)]
    return os.getuid() == 0 and subprocess.run(mount, check=False).returncode == 0


@pytest.mark.parametrize("side", ["here", "there"])
def test_a_full_disk_is_told_and_leaves_nothing(here: Path, there: Path, side: str) -> None:
    small = {"here": here, "there": there}[side]
    if not full(small):
        pytest.skip("this user may not mount a small file system")
    try:
        big = (there if side == "here" else here) / "big"
        big.write_bytes(bytes(4 << 20))
        if side == "here":
            done = cp(f"demo:{big}", here, code=ExitCode.HOST)
            assert b"no space left for" in done.stderr
        else:
            done = cp(big, f"demo:{there}", code=ExitCode.NOT_READY)
            assert b"machine demo has no space left for it" in done.stderr
            done = cp("-", f"demo:{there}/big", input=bytes(4 << 20), code=ExitCode.NOT_READY)
            assert b"machine demo has no space left for it" in done.stderr
        assert no_stage(small)
        assert not (small / "big").exists()
    finally:
        subprocess.run(["/usr/bin/umount", "--lazy", str(small)], check=True)


@each_end
@pytest.mark.parametrize("way", ["in", "out"])
def test_a_copy_that_is_ended_leaves_nothing(
    here: Path, there: Path, ending: End, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # On a busy host the guest's part would be killed before it has cleaned up: what is left then
    # goes with the next copy (test_receiving.py).
    monkeypatch.setattr(child, "GRACE", CEILING)
    source = here if way == "in" else there
    with (source / "big").open("wb") as file:
        file.truncate(20 << 30)
    words = [here / "big", f"demo:{there}/"] if way == "in" else [f"demo:{there}/big", here]
    with Terminal([*RAVE, "vm", "cp", *map(str, words)], size=(24, 120)) as terminal:
        terminal.until("20.0 GiB")
        ending[0](terminal)
        assert terminal.end() == ending[1]
    assert no_stage(here, there)
    assert not ((there if way == "in" else here) / "big").exists()


def test_a_rave_that_is_killed_leaves_no_part_in_the_guest(here: Path, there: Path) -> None:
    """Killed between two files, too: without the end mark a whole archive is not whole."""
    argv = [*RAVE, "vm", "cp", "-", f"demo:{there}/f"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE) as rave:
        assert rave.stdin is not None
        rave.stdin.write(b"the first half")
        rave.stdin.flush()
        until(lambda: [path for path in there.rglob("content") if path.stat().st_size])
        rave.send_signal(signal.SIGKILL)
    assert no_stage(there)
    assert not (there / "f").exists()


@pytest.mark.parametrize("way", ["in", "out"])
def test_a_copy_whose_rave_is_killed_at_any_step_is_there_whole_or_not_at_all(
    here: Path, there: Path, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(placing, "SETTLED", 0.0)
    source, target = (here, there) if way == "in" else (there, here)
    (source / "f").write_bytes(bytes(range(256)) * 1000)
    start, end = (here / "f", f"demo:{there}/") if way == "in" else (f"demo:{there}/f", here)

    def copy() -> None:
        done = CliRunner().invoke(cli, ["vm", "cp", str(start), str(end)])
        assert done.exit_code == 0, done.output

    for _ in every_step(copy, least=2):
        if (target / "f").exists():
            assert (target / "f").read_bytes() == (source / "f").read_bytes()
            (target / "f").unlink()
        # The guest cleans up by itself, this host with the next copy.
        no_stage(there)
        copy()
        no_stage(here, there)
        (target / "f").unlink()


def lie(guest: ExecutingSshd, folder: Path, script: str) -> None:
    """Let the guest's tar be one that sends what it likes."""
    tar = folder / "tar"
    tar.write_text(f"#!/bin/sh\nPATH={SYSTEM}\n{script}\n")
    tar.chmod(0o755)


def test_a_hostile_guest_writes_nothing_outside(
    guest: ExecutingSshd, here: Path, there: Path, tmp_path: Path
) -> None:
    evil = tmp_path / "evil.tar"
    with tarfile.open(evil, "w") as made:
        made.addfile(_header(".", tarfile.DIRTYPE))
        made.addfile(_header("../../victim"))
    lie(guest, tmp_path / "guest", f"cat {evil}")
    done = cp(f"demo:{there}", here / "x", code=ExitCode.CHECK_FAILED)
    assert b"leads out of the folder" in done.stderr
    assert everything_below(here) == set()
    assert not (tmp_path / "victim").exists()


def _header(name: str, kind: bytes = tarfile.REGTYPE) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type = kind
    return made


def test_a_guest_that_breaks_off_leaves_nothing(
    guest: ExecutingSshd, here: Path, there: Path, tmp_path: Path
) -> None:
    fill_tree(there)
    lie(guest, tmp_path / "guest", 'tar "$@" | head -c 60000; echo it hurts >&2; exit 2')
    done = cp(f"demo:{there}", here / "x", code=ExitCode.NOT_READY)
    assert b"it hurts" in done.stderr
    assert everything_below(here) == set()


def test_what_a_guest_says_does_not_act_on_the_terminal(
    guest: ExecutingSshd, here: Path, there: Path, tmp_path: Path
) -> None:
    lie(guest, tmp_path / "guest", r"printf '\033]0;owned\007oops\n' >&2; exit 2")
    done = cp(f"demo:{there}", here / "x", code=ExitCode.NOT_READY)
    assert b"oops" in done.stderr
    assert b"\x1b" not in done.stderr


def test_a_guest_that_floods_its_errors_fills_nothing(
    guest: ExecutingSshd, here: Path, there: Path, tmp_path: Path
) -> None:
    lie(guest, tmp_path / "guest", "head -c 20000000 /dev/zero | tr '\\0' x >&2; exit 2")
    done = cp(f"demo:{there}", here / "x", code=ExitCode.NOT_READY)
    assert len(done.stderr) < 10_000


def test_links_that_lead_out_are_refused_or_left_out_with_a_word(here: Path, there: Path) -> None:
    (there / "d").mkdir()
    (there / "d" / "good").write_text("x")
    for number in range(7):
        (there / "d" / f"l{number}").symlink_to("/etc/passwd")
    done = cp(f"demo:{there}/d", here, code=ExitCode.CHECK_FAILED)
    assert b"hint: --leave-out" in done.stderr
    assert everything_below(here) == set()
    done = cp("--leave-out", f"demo:{there}/d", here)
    assert everything_below(here) == {"d", "d/good"}
    assert done.stderr.count(b"left out:") == 6
    assert b"2 more" in done.stderr


@pytest.mark.parametrize(("side", "link"), [("here", True), ("there", False)])
def test_a_copy_takes_the_place_of_no_pipe_or_device(
    here: Path, there: Path, side: str, link: bool
) -> None:
    """As root, one to /dev/stdout or /dev/full left a file there and no device."""
    (here / "a").write_text("a")
    (there / "a").write_text("a")
    pipe = target = (here if side == "here" else there) / "pipe"
    os.mkfifo(pipe)
    if link:
        target = pipe.with_name("link")
        target.symlink_to(pipe)
    words = (f"demo:{there}/a", target) if side == "here" else (here / "a", f"demo:{target}")
    done = cp(*words, code=ExitCode.USAGE)
    assert b"is neither a file nor a folder" in done.stderr
    assert (pipe.is_fifo(), target.is_symlink()) == (True, link)
    assert no_stage(here, there)


def test_a_folder_takes_the_place_of_no_pipe_in_one_that_is_there(here: Path, there: Path) -> None:
    (there / "tree").mkdir()
    (there / "tree/pipe").write_text("a")
    (here / "tree").mkdir()
    os.mkfifo(here / "tree/pipe")
    cp(f"demo:{there}/tree", here, code=ExitCode.USAGE)
    assert (here / "tree/pipe").is_fifo()


def test_root_of_the_guest_is_asked_with_sudo(here: Path, there: Path) -> None:
    (there / "f").write_text("x")
    cp("--sudo", f"demo:{there}/f", here)
    cp("--sudo", here / "f", f"demo:{there}/g")
    assert (there / "g").read_text() == "x"


def test_names_that_begin_with_a_dash_are_names(here: Path, there: Path) -> None:
    (here / "-rf").write_text("x")
    cp("--", "./-rf", f"demo:{there}/", cwd=here)
    cp(f"demo:{there}/-rf", here / "back")
    assert (here / "back").read_text() == "x"
