"""Text of guests, files and programs never acts on a terminal, whichever command shows it."""

from __future__ import annotations

import json
import os
import re
import shutil
import unicodedata
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from rave_cli.errors import ExitCode, RaveError
from rave_cli.flows.events import Event
from rave_cli.images.build import ImagePlace
from rave_cli.images.manifest import save_image
from rave_cli.profiles.names import BAKED
from rave_cli.show import Show
from tests.forks import Forks
from tests.sops import sops_file
from tests.terminal import RAVE, Terminal
from tests.transcripts import make_check, make_record, make_run, make_subject
from tests.unit.machines.conftest import HEALTHY, Host
from tests.unit.machines.test_every_command import (
    CALLS,
    NAMES,
    WITHOUT_JSON,
    Walk,
    on_terminal,
    some,
)
from tests.unit.machines.test_terminal import outside

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from rave_cli.images.manifest import Image
    from rave_cli.machines.spec import Machine
    from rave_cli.profiles.catalog import Plan
    from tests.forks import Done
    from tests.unit.machines.fake_sshd import FakeSshd

# Some tests call every command, which on a busy host takes its time.
pytestmark = pytest.mark.timeout(3000)

__all__ = ["outside"]

FORGED = "error: forged"
# Moves the cursor, sets the title, does the same by C1, turns the direction, begins a line of its
# own, and says what the library that draws takes for markup.
HOSTILE = (
    f"\x1b[2J\x1b]0;owned\x07\x9b31m\x9d0;owned\x9c\u202e\u2066\u2028\x08\x7f[red]a[/b]\n{FORGED}\r"
)
# The part of it that can be in the name of a file here.
NAME = "n\x1b[2J\x9b31m\u202e\x07"


def acts(text: str) -> list[str]:
    """Return what a terminal would act on."""
    bidi = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
    return [
        character
        for character in text
        if (unicodedata.category(character) in ("Cc", "Zl", "Zp") and character not in "\n\t")
        or character in bidi
    ]


def harmless(done: Done, name: str) -> bool:
    """Return whether what a command has shown is text and nothing else, and no line was forged.

    `exec` passes on what the guest says, as its help tells; the lines of a log and of a console
    are its own.
    """
    if name == "vm exec":
        return True
    said = (done.err if name in ("vm logs", "vm console") else done.out + done.err).decode()
    return not acts((done.out + done.err).decode()) and FORGED not in said.splitlines()


def taint(document: Any) -> Any:
    """Return a document of the catalog with something hostile in all its prose."""
    if isinstance(document, dict):
        prose = ("description", "title", "reason")
        return {
            key: f"{value} {HOSTILE}" if key in prose and isinstance(value, str) else taint(value)
            for key, value in document.items()
        }
    return [taint(entry) for entry in document] if isinstance(document, list) else document


@pytest.fixture
def checkout(outside: Path, host: Host) -> Path:
    """A checkout whose flake, Nix and apt say hostile things."""
    place = outside / "checkout"
    (place / "infra/catalog").mkdir(parents=True)
    (place / "flake.nix").touch()
    catalog = outside / "catalog.json"
    catalog.write_text(json.dumps(taint(json.loads(BAKED.read_bytes()))))
    words = outside / "words"
    words.write_text(f"error: {HOSTILE}\n" * 3)
    script = "#!/bin/sh\ncase $* in *profileMetadata*) cat {} ;; *) cat {} >&2; exit {} ;; esac\n"
    for name, status in {"nix": 1, "nix-store": 0, "apt-get": 1, "systemd-run": 1}.items():
        (host.bin / name).write_text(script.format(catalog, words, status))
        (host.bin / name).chmod(0o755)
    (place / "artifacts").mkdir()
    return place


@pytest.fixture
def hostile(checkout: Path, machine: Machine, sshd: FakeSshd, host: Host, image: Image) -> Machine:
    """A running machine of which everything that can be hostile is."""
    services = {
        f"redis{HOSTILE}": {"state": "healthy", "unit": HOSTILE, "uptime": 1.0},
        "nginx": {"state": "healthy", "unit": HOSTILE, "uptime": 1.0, "detail": HOSTILE},
    }
    last = {"report": {"stage": "services", "services": services, "secrets": HOSTILE}}
    host.behave(steps=[{"console": f"Linux {HOSTILE}\r\n"}, *HEALTHY[1:3], last], stderr=HOSTILE)
    with Terminal([*RAVE, "vm", "start", "demo"]) as terminal:
        assert terminal.end() == 0, terminal.shown
    answer = json.dumps({"ok": False, "stage": HOSTILE, "error": HOSTILE}).encode()
    sshd.handler = lambda _command, _data: (3, answer, HOSTILE.encode())
    output = image.qcow2.parent / f"output{NAME}"
    output.mkdir()
    there = replace(image, store_path=str(output))
    save_image(there, ImagePlace("demo-debian").manifest)
    ImagePlace("demo-debian").out_link.symlink_to(there.store_path)
    (machine.directory.parent / f"lost{NAME}").mkdir()
    (machine.directory.parent / f"lost{NAME}" / "machine.json").write_text(f'{{"x": "{NAME}"')
    return machine


@pytest.fixture
def walk(hostile: Machine, checkout: Path, plan: Plan, image: Image) -> Walk:
    outside = checkout.parent
    walk = Walk(Forks(), outside, plan, image)
    checks = (make_check("redis.ping", "warn", detail=HOSTILE, title=HOSTILE),)
    subject = make_subject(checks)
    run = make_run(outside / "bad", record=make_record(checks=checks, subject=subject))
    walk.known = {"TRANSCRIPT": str(run.files.document), "KEY": str(run.key.public_file)}
    lying = json.loads(run.files.document.read_bytes())
    lying |= dict.fromkeys(("start_time", "overall_status", "profile", "base"), HOSTILE)
    lying["test_summary"] |= {HOSTILE: 1}
    (checkout / "artifacts/boot_transcript_x.json").write_text(json.dumps(lying))
    return walk


def calls(name: str) -> Iterator[list[str]]:
    """Yield ways to call a command, so that it shows as much as it can."""
    yield CALLS[name]
    if name not in WITHOUT_JSON:
        yield ["--json", *CALLS[name]]
    yield from {
        "vm logs": [["demo", "--source", s] for s in ("qemu", "stages", "journal")],
        "smoke list": [["--runs"], ["--profile", "production", "--base", "nixos"]],
        "vm status": [[f"lost{NAME}"], ["nobody"]],
        "vm start": [["victim"]],
        "vm build-image": [["--profile", "demo", "--base", "nixos"]],
        "secrets validate": [["--file", "secrets.yaml", "--keyless"], ["--file", NAME]],
        "secrets list": [["--file", "secrets.yaml"]],
        "smoke verify": [
            ["TRANSCRIPT", "--key", "KEY", "--profile", "other"],
            ["artifacts/boot_transcript_x.json", "--key", "KEY"],
            [NAME, "--key", "KEY"],
        ],
    }.get(name, [])


def test_nothing_acts_on_the_terminal_whatever_is_called(walk: Walk, checkout: Path) -> None:
    (checkout / "secrets.yaml").write_text(
        json.dumps(HOSTILE) + ": {x: y}\n" + sops_file(extra=f"    {json.dumps(HOSTILE)}: 1\n")
    )
    reached = 0
    for name in NAMES:
        for words in calls(name):
            done = walk(name, words, cwd=checkout)
            assert harmless(done, name), (name, words, done)
            reached += b"owned" in done.out + done.err or b"[red]" in done.out + done.err
    # The text got that far, so this has tried something.
    assert reached > 10


def test_neither_does_it_in_a_home_with_such_a_name(
    walk: Walk, checkout: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Paths are shown by most messages."""
    bad = home.parent / NAME
    shutil.copytree(home, bad, symlinks=True)
    monkeypatch.setenv("HOME", str(bad))
    for variable in ("XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(variable, os.environ[variable].replace(str(home), str(bad)))
    (bad / "checkout" / ".env").write_text(f"RAVE_SIGNING_KEY={bad}/no-key\n")
    walk.home = bad
    for name in NAMES:
        for words in calls(name):
            done = walk(name, words, cwd=bad / "checkout")
            assert harmless(done, name), (name, words, done)


@pytest.mark.parametrize(
    ("share", "setting"),
    [(0, "RAVE_PROFILE"), (1, "RAVE_BASE"), (2, "SAFE_MODE"), (0, "RAVE_FLAKE")],
)
def test_nor_from_a_setting(walk: Walk, checkout: Path, share: int, setting: str) -> None:
    (checkout / ".env").write_text(f"{setting}={json.dumps(HOSTILE)}\n")
    for name in some(share):
        done = walk(name, cwd=checkout)
        assert harmless(done, name), (name, done)


def test_on_a_terminal_only_our_own_colours_are_left(walk: Walk, hostile: Machine) -> None:
    ours = re.compile(r"\x1b\[[0-9;]*m|\r\n")
    for name in (
        "vm status",
        "vm list",
        "vm list-profiles",
        "smoke list",
        "smoke verify",
        "config",
    ):
        seen = on_terminal(walk, name, 100, strip=False)
        assert acts(ours.sub("", seen)) == [], (name, seen)
        assert not re.search(r"\x1b\[[0-9;]*[A-LN-Z]", seen)


# --- every way of showing something, with any text -----------------------------------------------

NASTY = st.text(
    st.one_of(st.characters(), st.sampled_from("\x1b\x9b\x9d\x07\x9c[];0m\n\r\t\u202e[red]/")),
    max_size=40,
)
each = hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


@each
@given(NASTY, st.booleans())
def test_no_way_of_showing_lets_it_through(
    capsys: pytest.CaptureFixture[str], said: str, as_json: bool
) -> None:
    show = Show(as_json=as_json)
    show.note(said)
    show.warning(said)
    show.line(said)
    fault = RaveError(said, hint=said, exit_code=ExitCode.HOST, detail=(said, said))
    show.error(fault)
    rows = [(said, show.mark(said)), (said, said)]
    show.result({said: [said]}, said, (show.mark("ok"), said), *show.table((said, said), rows))
    with show.progress(said) as progress:
        progress.update(said)
    with show.events() as on_event:
        for kind in ("begin", "progress", "note", "warning", "end"):
            on_event(Event(kind, "step", said, status=said))
    out, err = capsys.readouterr()
    assert acts(out) == []
    assert acts(err) == []


@pytest.mark.parametrize("columns", [20, 120])
def test_a_bar_shows_no_markup_and_no_sequence(columns: int) -> None:
    program = (
        "import json, sys, time\n"
        "from rave_cli.show import Show\n"
        "said = json.loads(sys.argv[1])\n"
        "with Show().progress(said) as bar:\n"
        "    bar.update(said, 1, 2)\n"
        "    time.sleep(0.3)\n"
        "    Show().note(said)\n"
        "    time.sleep(0.3)\n"
    )
    argv = [RAVE[0], "-c", program, json.dumps(HOSTILE)]
    with Terminal(argv, size=(24, columns)) as terminal:
        assert terminal.end() == 0, terminal.shown
    # What the library draws with: colours, the cursor's visibility, up, and erasing a line.
    ours = re.compile(r"\x1b\[[0-9;]*m|\x1b\[\?25[lh]|\x1b\[1A|\x1b\[2K|\r\n|\r")
    assert acts(ours.sub("", terminal.shown)) == [], terminal.shown
    assert not [line for line in terminal.shown.splitlines() if line.strip() == FORGED]
