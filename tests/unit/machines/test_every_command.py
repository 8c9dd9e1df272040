"""Every command of the tree, at every odd place and with every odd stream it may be given."""

from __future__ import annotations

import json
import os
import pty
import re
import shutil
import termios
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

import click
import pytest

from rave_cli import app
from rave_cli.errors import ExitCode
from rave_cli.machines import store
from rave_cli.profiles.catalog import parse
from rave_cli.profiles.names import BAKED
from rave_cli.secrets import init as secrets_init
from rave_cli.secrets.store import default_file
from tests.forks import CLOSED, Forks
from tests.transcripts import make_run
from tests.unit.machines.test_terminal import built, outside, start

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from rave_cli.images.manifest import Image
    from rave_cli.machines.spec import Machine
    from rave_cli.profiles.catalog import Plan
    from tests.forks import Done
    from tests.unit.machines.fake_sshd import FakeSshd

__all__ = ["built", "outside"]

# How each command is called here. There is a machine `demo`, which runs, and a stopped `victim`.
CALLS: dict[str, list[str]] = {
    "up": ["--profile", "demo", "--base", "debian", "--skip-smoke"],
    "down": ["victim"],
    "vm list-profiles": [],
    "vm build-image": ["--profile", "demo", "--base", "debian"],
    "vm lock-closure": ["--profile", "demo"],
    "vm launch-local": ["--profile", "demo", "--base", "debian", "--name", "new", "--dry-run"],
    "vm create": ["--profile", "demo", "--base", "debian", "--name", "victim"],
    "vm start": ["demo"],
    "vm stop": ["victim"],
    "vm suspend": ["victim"],
    "vm resume": ["demo"],
    "vm status": ["demo"],
    "vm list": [],
    "vm ssh": ["demo"],
    "vm ssh-config": ["demo"],
    "vm exec": ["demo", "--", "ls", "-l"],
    "vm cp": ["demo:/etc/hostname", "copy"],
    "vm forward add": ["demo", "0:3002"],
    "vm forward remove": ["demo", "8443"],
    "vm forward list": ["demo"],
    "vm open": ["demo"],
    "vm logs": ["demo"],
    "vm console": ["demo", "--no-follow"],
    "vm debug-bundle": ["demo"],
    "vm snapshot create": ["victim", "one"],
    "vm snapshot list": ["victim"],
    "vm snapshot restore": ["victim", "one"],
    "vm snapshot delete": ["victim", "one"],
    "vm update": ["demo", "--built"],
    "vm rollback": ["victim"],
    "vm migrate": ["victim"],
    "vm clone": ["demo", "third"],
    "vm template create": ["--profile", "demo", "--base", "nixos"],
    "vm template list": [],
    "vm template delete": ["demo-0123456789ab"],
    "vm restart": ["demo"],
    "vm wait": ["demo", "--for", "running", "--timeout", "2"],
    "vm watch": ["demo", "--timeout", "0"],
    "vm set": ["victim", "--memory", "1024"],
    "vm rename": ["victim", "renamed"],
    "vm protect": ["victim"],
    "vm unprotect": ["victim"],
    "vm delete": ["victim"],
    "prune": ["--dry-run"],
    "vm prune": ["--dry-run"],
    "image sbom": ["--profile", "demo"],
    "image scan": ["--profile", "demo"],
    "image push": ["oci://127.0.0.1:1/Image", "--base", "debian", "--plain-http"],
    "image pull": ["oci://127.0.0.1:1/image@sha256:0", "--plain-http"],
    "secrets init": [],
    "secrets edit": [],
    "secrets rotate": ["redis/password"],
    "secrets validate": [],
    "secrets list": [],
    "secrets install": ["demo"],
    "user add": ["demo", "alice"],
    "user list": ["demo"],
    "user show": ["demo", "alice"],
    "user disable": ["demo", "alice"],
    "user enable": ["demo", "alice"],
    "user delete": ["demo", "alice", "--yes"],
    "user reset-password": ["demo", "alice"],
    "user groups": ["demo", "alice"],
    "oauth clients": ["demo"],
    "oauth show": ["demo", "rave-smoke"],
    "oauth rotate": ["demo", "rave-smoke"],
    "events list": ["demo"],
    "events show": ["demo", "5f0c4c0e-6a51-5f0e-9d0a-0d7c1f6f2a11"],
    "events dead": ["demo"],
    "events replay": ["demo", "--dead"],
    "trace list": ["--vm", "demo"],
    "trace show": ["3f2a91c4", "--vm", "demo"],
    "flow hello-world": ["--machine", "demo"],
    "backup now": ["demo"],
    "backup list": [],
    "backup status": [],
    "backup show": ["demo-20261126T060000Z-1f3a"],
    "backup verify": [],
    "backup restore": ["demo"],
    "backup log": ["demo"],
    "backup schedule set": ["demo"],
    "backup schedule list": [],
    "backup schedule remove": ["demo"],
    "backup schedule run": [],
    "backup prune": ["--yes"],
    "backup copy": [],
    "backup fetch": [],
    "backup key": [],
    "backup kit": ["kit.txt"],
    "tls status": ["demo"],
    "tls renew": ["demo"],
    "tls install": ["demo", "--cert", "CERTIFICATE", "--key", "KEY"],
    "tls trust": [],
    "smoke run": ["--vm", "demo", "--phase", "boot", "--timeout", "900"],
    "smoke verify": ["TRANSCRIPT", "--key", "KEY"],
    "smoke list": ["--profile", "demo", "--base", "debian"],
    "pool serve": ["--profile", "demo", "--base", "nixos"],
    "pool work": ["--profile", "demo", "--base", "nixos", "--redis", "redis://127.0.0.1:1/0"],
    "pool submit": ["--", "true"],
    "pool run": ["--", "true"],
    "pool list": [],
    "pool show": ["0123456789ab"],
    "pool logs": ["0123456789ab"],
    "pool cancel": ["0123456789ab"],
    "pool artifacts": ["0123456789ab"],
    "pool pull": ["oci://127.0.0.1:1/app:", "--to", "pulled", "--plain-http"],
    "pool push": ["0123456789ab", "oci://127.0.0.1:1/app", "--plain-http"],
    "pool bench": ["--jobs", "2"],
    "pool explain": ["0123456789ab"],
    "pool trace": ["0123456789ab"],
    "pool export alerts": [],
    "pool export dashboard": [],
    "pool status": [],
    "pool top": [],
    "pool retry": ["0123456789ab"],
    "pool dead": [],
    "pool drain": [],
    "pool scale": ["3"],
    "pool verify": ["0123456789ab", "--key", "KEY"],
    "pool cache list": [],
    "pool cache remove": ["nothing"],
    "pool cache prune": [],
    "pool export k8s": ["--redis", "192.0.2.1:6379", "--image", "worker"],
    "pool export check": ["MANIFEST"],
    "pool source add": [
        "app",
        "--forge",
        "gitea",
        "--url",
        "https://git.example.org",
        "--repository",
        "team/app",
        "--secret-from",
        "hook",
        "--run",
        "ci.sh",
    ],
    "pool source list": [],
    "pool source show": ["nobody"],
    "pool source remove": ["nobody"],
    "pool source test": ["nobody"],
    "pool source reconcile": ["nobody"],
    "pool executor config": [],
    "pool executor prepare": [],
    "pool executor run": ["/nowhere", "build_script"],
    "pool executor cleanup": [],
    "pool token create": ["ci", "--role", "submitter"],
    "pool token list": [],
    "pool token revoke": ["nobody"],
    "pool guest add": ["victim"],
    "pool guest list": [],
    "pool guest remove": ["victim"],
    "audit show": [],
    "audit verify": [],
    "bench": ["exec", "--vm", "demo", "--rounds", "1"],
    "doctor": ["memory", "runtime", "identity"],
    "config": [],
    "completion": ["bash"],
}
# Each test calls every command, which on a busy host takes its time.
pytestmark = pytest.mark.timeout(3000)

NAMES = sorted(CALLS)
WITHOUT_JSON = {"vm ssh", "completion"}

# What goes wrong here even if nothing is odd, and how.
WRONG = {
    "up": ExitCode.SECRETS,  # the guest does not answer what it should
    "secrets install": ExitCode.SECRETS,
    "smoke run": ExitCode.CHECK_FAILED,
    "vm build-image": ExitCode.USAGE,  # there is no checkout
    "vm lock-closure": ExitCode.USAGE,
    "image sbom": ExitCode.USAGE,
    "image scan": ExitCode.USAGE,
    "image push": ExitCode.USAGE,  # a repository has small letters
    "image pull": ExitCode.USAGE,  # that is no digest
    "vm forward remove": ExitCode.USAGE,  # nobody added it
    "vm cp": ExitCode.CHECK_FAILED,  # the guest does not answer what it should
    "vm ssh": ExitCode.HOST,  # there is no OpenSSH
    "vm snapshot delete": ExitCode.USAGE,  # there is none
    "vm snapshot restore": ExitCode.USAGE,
    "vm suspend": ExitCode.NOT_READY,  # it does not run
    "vm update": ExitCode.HOST,  # the image is of a rave that gave images no plan
    "vm rollback": ExitCode.USAGE,  # it was never updated
    "vm migrate": ExitCode.USAGE,  # it has a data disk
    "vm clone": ExitCode.USAGE,  # it runs
    "vm template create": ExitCode.USAGE,  # that base has none
    "vm template delete": ExitCode.USAGE,  # there is none
    "tls status": ExitCode.USAGE,  # its image takes no certificate
    "tls renew": ExitCode.USAGE,
    "tls install": ExitCode.USAGE,
    "pool serve": ExitCode.USAGE,  # that base has no templates
    "pool work": ExitCode.USAGE,
    "pool run": ExitCode.NOT_READY,  # nobody serves it
    "pool show": ExitCode.USAGE,  # there is none
    "pool logs": ExitCode.USAGE,
    "pool cancel": ExitCode.USAGE,
    "pool artifacts": ExitCode.USAGE,
    "pool pull": ExitCode.USAGE,  # that is no tag
    "pool push": ExitCode.USAGE,
    "pool bench": ExitCode.HOST,  # there is no redis-server
    "pool explain": ExitCode.USAGE,
    "pool trace": ExitCode.USAGE,
    "pool retry": ExitCode.USAGE,
    "pool verify": ExitCode.USAGE,
    "pool executor prepare": ExitCode.USAGE,  # no runner asks
    "pool executor run": ExitCode.USAGE,
    "pool executor cleanup": ExitCode.USAGE,
    "pool source show": ExitCode.USAGE,  # there is none
    "pool source remove": ExitCode.USAGE,
    "pool source test": ExitCode.USAGE,
    "pool source reconcile": ExitCode.USAGE,
    "pool token revoke": ExitCode.USAGE,
    "pool guest remove": ExitCode.USAGE,  # it may not ask
    "pool cache remove": ExitCode.USAGE,  # there is none
    # The image of this machine does not say what it keeps, so there are no backups; its profile
    # keeps no accounts and no traces, takes no webhooks, and has no agents.
    **{
        name: ExitCode.USAGE
        for name in CALLS
        if name.startswith(("backup ", "user ", "oauth ", "events ", "trace ", "flow "))
        # Nothing is backed up by itself, which is nothing wrong.
        and name not in ("backup schedule list", "backup schedule run")
    },
    "backup fetch": ExitCode.SECRETS,  # the secrets name no other place
}

# What is odd about a call is dealt with by what all commands share. So under each oddity a third of
# them is called, under the next another third; with RAVE_EVERY_COMMAND all are under each.
SHARES = 1 if os.environ.get("RAVE_EVERY_COMMAND") else 3

# Those that put something where they are called.
IN_A_DIRECTORY = {"smoke run", "vm cp", "vm debug-bundle"}


def leaves(group: click.Group, path: str = "") -> Iterator[str]:
    """Yield every command of a group that has none below."""
    ctx = click.Context(group)
    for name in group.list_commands(ctx):
        command = group.get_command(ctx, name)
        if isinstance(command, click.Group):
            yield from leaves(command, f"{path}{name} ")
        else:
            yield f"{path}{name}"


def some(share: int) -> list[str]:
    """Return a share of the commands."""
    return NAMES[share % SHARES :: SHARES]


def test_no_command_is_left_out() -> None:
    assert sorted(leaves(app.cli)) == NAMES


@pytest.fixture(scope="session")
def configured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home's configuration with a secrets file: making the keys takes a while."""
    place = tmp_path_factory.mktemp("secrets")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(place))
        patch.setenv("XDG_CONFIG_HOME", str(place / ".config"))
        secrets_init.init(default_file(), parse(BAKED.read_bytes()).secrets)
    return place / ".config"


class Walk:
    """Calls commands in a home with an image, secrets and machines."""

    def __init__(self, forks: Forks, home: Path, plan: Plan, image: Image) -> None:
        self.forks, self.home, self.plan, self.image = forks, home, plan, image
        self._made: list[tuple[str, int, int]] = []
        run = make_run(home / "run")
        manifest = run.files.document.with_name("manifest.yaml")
        manifest.write_text("apiVersion: v1\nkind: Namespace\nmetadata: {name: rave-pool}\n")
        self.known = {
            "MANIFEST": str(manifest),
            "TRANSCRIPT": str(run.files.document),
            "KEY": str(run.key.public_file),
        }

    def __call__(
        self,
        name: str,
        words: list[str] | None = None,
        *,
        cwd: Path | None = None,
        streams: dict[int, str] | None = None,
    ) -> Done:
        """Call a command; however it ends, it ends with an exit code of ours and no traceback."""
        self._prepare(name)
        words = CALLS[name] if words is None else words
        call = [self.known.get(word, word) for word in words]
        done = self.forks(*name.split(), *call, cwd=cwd or self.home, streams=streams)
        assert b"Traceback" not in done.err, (name, done.err.decode())
        assert b"Exception ignored" not in done.err, (name, done.err.decode())
        assert done.code in {int(code) for code in ExitCode}, (name, done)
        return done

    def _prepare(self, name: str) -> None:
        """Let the victim be there as it was made, unless the command is to make it."""
        if name != "vm create" and self._made and self._found() == self._made:
            return
        for place in self._places:
            with suppress(FileNotFoundError):
                shutil.rmtree(place)
        if name != "vm create":
            store.create(store.new_spec(self.plan, self.image, name="victim", mode="safe"))
        self._made = self._found()

    @property
    def _places(self) -> list[Path]:
        vms = self.home / ".local/share/rave/vms"
        return [vms / "victim", vms / "renamed"]

    def _found(self) -> list[tuple[str, int, int]]:
        """What there is of the victim, under either of its names, and when it changed."""
        paths = [path for place in self._places for path in (place, *place.rglob("*"))]
        there = [(path, path.lstat()) for path in sorted(paths) if path.exists()]
        return [(str(path), found.st_ctime_ns, found.st_size) for path, found in there]


@pytest.fixture
def home_of_all(
    outside: Path, configured: Path, sshd: FakeSshd, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A home with secrets; the guest answers with what it is asked."""
    sshd.handler = lambda command, _data: (0, os.fsencode(f"{command}\n"), b"warned\n")
    shutil.copytree(configured, outside / ".config", dirs_exist_ok=True)
    editor = outside / "editor"
    editor.write_text("#!/bin/sh\nexit 0\n")
    editor.chmod(0o755)
    monkeypatch.setenv("EDITOR", str(editor))
    return outside


@pytest.fixture
def walk(home_of_all: Path, machine: Machine, plan: Plan, built: Image) -> Walk:
    start(machine)
    return Walk(Forks(), home_of_all, plan, built)


def test_each_ends_as_it_should_and_with_json_it_prints_one_document(walk: Walk) -> None:
    for name in NAMES:
        assert walk(name).code == WRONG.get(name, 0), name
        if name not in WITHOUT_JSON:
            done = walk(name, ["--json", *CALLS[name]])
            document = json.loads(done.out)
            code = document.get("exitCode", 0) if isinstance(document, dict) else 0
            assert done.code == WRONG.get(name, 0), name
            assert code in (0, done.code), (name, document)


@pytest.mark.parametrize("closed", [(0,), (1,), (0, 1, 2)], ids=str)
def test_a_closed_stream_changes_nothing_else(walk: Walk, closed: tuple[int, ...]) -> None:
    for name in some(len(closed) + closed[0]):
        done = walk(name, streams=dict.fromkeys(closed, CLOSED))
        assert done.code == WRONG.get(name, 0), (name, done)
    # Nothing of the output went to a file that got the number of the stream.
    locks = list(walk.home.rglob("*.lock"))
    assert locks
    assert [path for path in locks if path.read_bytes()] == []


def test_a_result_that_cannot_be_written_is_a_fault(walk: Walk) -> None:
    for name in some(0):
        normal, done = walk(name), walk(name, streams={1: "/dev/full"})
        if normal.out:
            assert done.code == ExitCode.HOST, (name, done)
            assert b"standard output: No space left on device" in done.err, (name, done)
        else:
            assert done.code == normal.code, (name, done)


def test_a_stderr_that_cannot_be_written_changes_nothing_else(walk: Walk) -> None:
    for name in some(1):
        done = walk(name, streams={2: "/dev/full"})
        assert done.code == WRONG.get(name, 0), (name, done)
        assert bool(done.out) == bool(walk(name).out), (name, done)


def test_without_a_working_directory_each_does_what_needs_none(walk: Walk) -> None:
    for name in sorted({*some(2), *IN_A_DIRECTORY}):
        done = walk(name, cwd=walk.home / "gone")
        if name in IN_A_DIRECTORY:
            assert done.code == ExitCode.HOST
            assert b"the working directory is gone" in done.err, (name, done)
        else:
            assert done.code == WRONG.get(name, 0), (name, done)


def test_words_that_are_not_utf_8_are_answered(walk: Walk) -> None:
    bad = os.fsdecode(b"\xff\xfe-\x9b")
    for name in some(0):
        words = CALLS[name]
        calls = [
            [*words[:number], bad, *words[number + 1 :]]
            for number, word in enumerate(words)
            if not word.startswith("-")
        ]
        for call in [*calls, [*words, f"--{bad}"], [*words, "--json", f"--{bad}"]]:
            done = walk(name, call)
            # What a guest prints is passed on byte for byte.
            assert done.err.decode() + (done.out.decode() if name != "vm exec" else ""), (
                name,
                call,
            )


def test_in_a_checkout_that_cannot_be_written_each_does_what_needs_no_writing(
    home_of_all: Path, machine: Machine, plan: Plan, built: Image
) -> None:
    start(machine)
    checkout = home_of_all / "checkout"
    (checkout / "infra/catalog").mkdir(parents=True)
    (checkout / "flake.nix").touch()
    checkout.chmod(0o555)
    wrong = WRONG | {
        "smoke run": ExitCode.HOST,  # it writes into the working directory
        "vm cp": ExitCode.HOST,
        "vm debug-bundle": ExitCode.HOST,
        "vm build-image": ExitCode.BUILD,  # it has no lock
        "image sbom": ExitCode.BUILD,
        "image scan": ExitCode.BUILD,
        "vm lock-closure": ExitCode.HOST,  # there is no Nix
        "up": ExitCode.BUILD,
    }
    walk = Walk(Forks(prefix=unprivileged()), home_of_all, plan, built)
    for name in sorted({*some(1), *IN_A_DIRECTORY}):
        done = walk(name, cwd=checkout)
        assert done.code == wrong.get(name, 0), (name, done)
        if name == "smoke run":
            assert b"artifacts: Permission denied" in done.err
            assert b"hint: ls -ld" in done.err


def unprivileged() -> list[str]:
    """Return what starts a program for which modes of files count, whoever starts it."""
    if os.getuid() != 0:
        return []
    setpriv = shutil.which("setpriv", path="/usr/bin:/bin")
    assert setpriv is not None
    return [setpriv, "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-all"]


def test_an_encoding_that_lacks_letters_stops_nothing(
    home_of_all: Path, machine: Machine, plan: Plan, built: Image
) -> None:
    start(machine)
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    walk = Walk(Forks(env=ascii_only), home_of_all, plan, built)
    for name in some(2):
        assert walk(name).code == WRONG.get(name, 0), name
        if name not in WITHOUT_JSON:
            document = walk(name, ["--json", *CALLS[name]]).out
            assert document.isascii()
            json.loads(document)


@pytest.mark.parametrize("columns", [20, 80])
def test_no_terminal_is_too_narrow_for_what_is_told(walk: Walk, columns: int) -> None:
    """Whatever a pipe gets is there in full, wherever it is wrapped."""
    for name in some(columns // 40):
        piped = walk(name)
        shown = on_terminal(walk, name, columns)
        if name in ("vm ssh", "vm exec", "up"):
            continue
        assert "…" not in shown, (name, shown)
        words = re.findall(r"\S+", piped.out.decode())
        assert [w for w in words if w not in shown and not changes(w)] == [], (name, shown)


def changes(word: str) -> bool:
    """Return whether a word differs from one call to the next: what was measured, and when."""
    return bool(re.search(r"\d", word))


def on_terminal(walk: Walk, name: str, columns: int, *, strip: bool = True) -> str:
    """Return the results that a command shows on a terminal of that width."""
    master, slave = pty.openpty()
    termios.tcsetwinsize(slave, (24, columns))
    shown = bytearray()

    def read() -> None:
        with suppress(OSError):
            while data := os.read(master, 1 << 16):
                shown.extend(data)

    reader = threading.Thread(target=read)
    reader.start()
    walk(name, streams={1: os.ttyname(slave)})
    os.close(slave)
    reader.join()
    os.close(master)
    return re.sub(r"\x1b\[[0-9;]*m", "", shown.decode()) if strip else shown.decode()
