"""`rave vm build-image` and `lock-closure` as a user meets them, on the fake host."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner, Result

from rave_cli.app import cli
from rave_cli.errors import ExitCode, RaveError
from rave_cli.images import closure
from rave_cli.images.build import Place
from tests.unit.images.conftest import deb

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.images.conftest import Host

BUILD = ("vm", "build-image", "--profile", "demo", "--base", "debian")


def rave(flake: Path, *words: str) -> Result:
    return CliRunner().invoke(
        cli, list(words), env={"RAVE_FLAKE": str(flake)}, catch_exceptions=True
    )


def test_the_path_is_all_that_stdout_carries(host: Host, flake: Path) -> None:
    done = rave(flake, *BUILD)
    assert done.exit_code == 0, done.stderr
    (line,) = done.stdout.splitlines()
    assert line.endswith("/rave-demo-debian.qcow2")
    assert "Building demo-debian" in done.stderr


def test_json_is_the_manifest(host: Host, flake: Path) -> None:
    done = rave(flake, *BUILD, "--json")
    assert json.loads(done.stdout) == json.loads(Place("demo-debian").manifest.read_text())


def test_an_updated_lock_is_told_even_when_quiet(host: Host, flake: Path) -> None:
    host.set(
        offered={"bash": "1:5.3-1", "usr-is-merged": "37"},
        debs={"bash": deb("bash", "1:5.3-1"), "usr-is-merged": deb("usr-is-merged", "37")},
    )
    done = rave(flake, "--quiet", *BUILD)
    assert done.exit_code == 0, done.stderr
    assert "lock updated: 1 package of the repository's lock" in done.stderr
    assert "bash 1:5.2-1 -> 1:5.3-1" in done.stderr


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("vm", "build-image", "--profile", "demmo"), ExitCode.USAGE),
        (("vm", "build-image", "--profile", "demo", "--base", "suse"), ExitCode.USAGE),
        (("vm", "build-image", "--profile", "production", "--base", "debian"), ExitCode.BUILD),
    ],
)
def test_what_does_not_exist_is_refused_before_anything_is_built(
    host: Host, flake: Path, words: tuple[str, ...], code: ExitCode
) -> None:
    done = rave(flake, *words)
    assert isinstance(done.exception, RaveError)
    assert done.exception.exit_code == code
    assert done.exception.hint
    assert "build" not in host.verbs("nix")


def test_lock_closure_changes_the_repositorys_lock(host: Host, flake: Path) -> None:
    host.set(
        offered={"bash": "1:5.3-1", "usr-is-merged": "37"},
        debs={"bash": deb("bash", "1:5.3-1"), "usr-is-merged": deb("usr-is-merged", "37")},
    )
    done = rave(flake, "vm", "lock-closure", "--profile", "demo", "--json")
    assert done.exit_code == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["lock"] == str(closure.repository_lock(flake, "demo"))
    assert document["changed"] == ["bash 1:5.2-1 -> 1:5.3-1"]
    assert "1:5.3-1" in closure.repository_lock(flake, "demo").read_text()
