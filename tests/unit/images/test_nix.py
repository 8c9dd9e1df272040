"""The driver: settings, the two shapes of path-info, caps per mode, and an end without remains."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from rave_cli.errors import ExitCode, RaveError
from rave_cli.images import nix
from rave_cli.images.nix import Nix, Output, parse_path_info, settings
from tests.waiting import CEILING, until

if TYPE_CHECKING:
    from rave_cli.images.events import BuildEvent
    from tests.unit.images.conftest import Host

NAR_HASH = f"sha256-{'A' * 43}="


def test_the_debian_base_gets_what_its_builder_needs_and_no_cache() -> None:
    lines = settings("debian", root=True)
    for line in ("build-users-group =", "sandbox = false", "filter-syscalls = false"):
        assert line in lines
    assert "substituters =" in lines


def test_the_nixos_base_keeps_the_hosts_sandbox_and_caches(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(nix, "_has_group", lambda name: True)
    names = {line.partition(" =")[0] for line in settings("nixos", root=True)}
    assert names == {"experimental-features", "warn-dirty"}


def test_root_without_build_users_builds_as_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nix, "_has_group", lambda name: False)
    assert "build-users-group =" in settings("nixos", root=True)
    assert "build-users-group =" not in settings("nixos", root=False)


@pytest.mark.parametrize(
    "document",
    [
        [{"path": "/nix/store/x-i", "narHash": NAR_HASH, "narSize": 1}],
        {"/nix/store/x-i": {"narHash": NAR_HASH, "narSize": 1}},
    ],
)
def test_path_info_of_old_and_new_nix(document: object) -> None:
    assert parse_path_info(json.dumps(document)) == Output("/nix/store/x-i", NAR_HASH)


@pytest.mark.parametrize("odd", ["", "sha256-a", "md5:x", f"{'0' * 52}", 7])
def test_a_nar_hash_of_another_form_is_refused_when_nix_says_it(odd: object) -> None:
    with pytest.raises(RaveError, match="narHash of the form") as caught:
        parse_path_info(json.dumps([{"path": "/nix/store/x-i", "narHash": odd}]))
    assert caught.value.exit_code is ExitCode.BUILD


@pytest.mark.parametrize(
    "document", [[{"path": "/nix/store/x-i", "valid": False}], {"/nix/store/x-i": None}]
)
def test_path_info_of_what_is_not_built(document: object) -> None:
    assert parse_path_info(json.dumps(document)) == Output("/nix/store/x-i", None)


@pytest.mark.parametrize("document", [[], {}, [{"path": "/a"}, {"path": "/b"}], 3])
def test_path_info_of_anything_else_is_refused(document: object) -> None:
    with pytest.raises(RaveError) as caught:
        parse_path_info(json.dumps(document))
    assert caught.value.exit_code == ExitCode.BUILD


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("safe", ["--max-jobs", "1", "--cores", "2"]),
        ("full", ["--max-jobs", "auto", "--cores", "0"]),
    ],
)
def test_the_mode_caps_the_build(
    host: Host, tmp_path: Path, mode: str, expected: list[str]
) -> None:
    Nix("debian", mode).build(  # type: ignore[arg-type]
        "/f#demo", tmp_path / "link", lambda _e: None, scratch=tmp_path / "scratch"
    )
    words = host.calls("nix")[-1]["words"]
    at = words.index("--max-jobs")
    assert words[at : at + 4] == expected


def test_a_build_tells_its_phases_and_leaves_no_scratch(host: Host, tmp_path: Path) -> None:
    drv = "/nix/store/iqvw2lzf6mnmk3c1rfr0npfcysc7csvr-rave-debian-base.drv"
    host.set(
        log=[
            '@nix {"action":"start","id":1,"type":104}',
            json.dumps({"action": "x"}),
            "@nix " + json.dumps({"action": "start", "id": 2, "type": 105, "fields": [drv]}),
            '@nix {"action":"result","id":1,"type":105,"fields":[0,2,1,0]}',
            '@nix {"action":"result","id":2,"type":104,"fields":["installing"]}',
        ]
    )
    told: list[BuildEvent] = []
    scratch = tmp_path / "scratch"
    (scratch / "left/by/a/killed/build").mkdir(parents=True)
    Nix("debian", "safe").build("/f#demo", tmp_path / "link", told.append, scratch=scratch)
    assert [(e.text, e.done, e.total) for e in told] == [
        ("building rave-debian-base", None, None),
        ("installing", 0, 2),
    ]
    assert not scratch.exists()
    assert host.calls("nix")[-1]["env"]["TMPDIR"] == str(scratch)


def test_a_failed_build_shows_the_builders_last_lines(host: Host, tmp_path: Path) -> None:
    lines = [
        "@nix " + json.dumps({"action": "result", "id": 2, "type": 101, "fields": [f"line {i}"]})
        for i in range(100)
    ]
    host.set(fails=True, log=[*lines, '@nix {"action":"msg","level":0,"msg":"error: it failed"}'])
    with pytest.raises(RaveError, match="building /f#demo failed") as caught:
        Nix("debian", "safe").build(
            "/f#demo", tmp_path / "link", lambda _e: None, scratch=tmp_path / "scratch"
        )
    assert caught.value.exit_code == ExitCode.BUILD
    assert caught.value.detail[-1] == "line 99"
    assert not (tmp_path / "link").exists()


def test_without_nix_the_host_is_at_fault(host: Host) -> None:
    host.remove("nix")
    with pytest.raises(RaveError, match="nix is not on PATH") as caught:
        Nix("debian", "safe").output("/f#demo")
    assert caught.value.exit_code == ExitCode.HOST
    assert caught.value.hint is not None
    assert "nix-bin" in caught.value.hint


def test_only_a_lock_of_our_own_makes_the_evaluation_impure(host: Host, tmp_path: Path) -> None:
    Nix("debian", "safe").output("/f#demo")
    Nix("debian", "safe", tmp_path / "own.json").output("/f#demo")
    pure, impure = host.calls("nix")
    assert "--impure" not in pure["words"]
    assert pure["env"]["RAVE_DEBIAN_LOCK"] is None
    assert "--impure" in impure["words"]
    assert impure["env"]["RAVE_DEBIAN_LOCK"] == str(tmp_path / "own.json")


def test_the_store_that_cannot_be_written_is_told(host: Host, tmp_path: Path) -> None:
    host.set(store_fault="error: writing to file: No space left on device\n")
    with pytest.raises(RaveError, match="no space left"):
        Nix("debian", "safe").add_files([tmp_path / "x"])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_build_ends_with_rave(host: Host, tmp_path: Path, number: signal.Signals) -> None:
    host.set(seconds=2 * CEILING)
    link, scratch = tmp_path / "link", tmp_path / "scratch"
    code = (
        "import sys; from pathlib import Path; from rave_cli.images.nix import Nix;"
        "link, scratch = map(Path, sys.argv[1:]);"
        "Nix('debian', 'safe').build('/f#demo', link, print, scratch=scratch)"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        [sys.executable, "-c", code, link, scratch], env=environment, stderr=subprocess.DEVNULL
    ) as child:
        until(lambda: bool(host.calls("nix")))
        child.send_signal(number)
        child.wait(timeout=CEILING)
    until(lambda: not _running(str(host.folder / "nix")))
    assert not link.exists()


def _running(program: str) -> bool:
    """Return whether any process was started from this file."""
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if program.encode() in place.read_bytes().split(b"\0"):
                return True
        except OSError:
            continue
    return False
