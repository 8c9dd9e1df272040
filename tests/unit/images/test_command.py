"""`rave vm build-image` and `lock-closure` as a user meets them, on the fake host."""

from __future__ import annotations

import hashlib
import json
import sys
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner, Result

from rave_cli.app import cli
from rave_cli.errors import ExitCode, RaveError
from rave_cli.images import locking
from rave_cli.images.build import ImagePlace
from tests.integration.images.index import Wheel
from tests.unit.images.conftest import ARCHIVE, deb

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
    assert json.loads(done.stdout) == json.loads(ImagePlace("demo-debian").manifest.read_text())


def test_an_updated_lock_is_told_even_when_quiet(host: Host, flake: Path) -> None:
    host.set(
        offered={"bash": "1:5.3-1", "usr-is-merged": "37"},
        debs={"bash": deb("bash", "1:5.3-1"), "usr-is-merged": deb("usr-is-merged", "37")},
    )
    done = rave(flake, "--quiet", *BUILD)
    assert done.exit_code == 0, done.stderr
    assert "lock updated: 1 package of the repository's lock" in done.stderr
    assert "warning:     bash 1:5.2-1 -> 1:5.3-1\n" in done.stderr


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


def check(flake: Path) -> Result:
    """Run `lock-closure --check` and keep the status that it returns to `main`."""
    words = ["vm", "lock-closure", "--profile", "demo", "--check"]
    env = {"RAVE_FLAKE": str(flake)}
    return CliRunner().invoke(cli, words, env=env, standalone_mode=False)


@pytest.fixture
def updated(host: Host) -> Host:
    """A host whose archives have an update of bash, which is urgent, and a package more."""
    host.set(
        offered={"bash": "1:5.3-1", "usr-is-merged": "37"},
        debs={"bash": deb("bash", "1:5.3-1"), "usr-is-merged": deb("usr-is-merged", "37")},
        security=["bash"],
    )
    return host


def test_lock_closure_changes_the_repositorys_lock(updated: Host, flake: Path) -> None:
    done = rave(flake, "vm", "lock-closure", "--profile", "demo", "--json")
    assert done.exit_code == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["lock"] == str(locking.repository_lock(flake, "demo"))
    assert document["changes"] == [
        {"name": "bash", "old": "1:5.2-1", "new": "1:5.3-1", "security": True, "service": "",
         "why": "security update"},
        {"name": "usr-is-merged", "old": None, "new": "37", "security": False, "service": "",
         "why": ""},
    ]  # fmt: skip
    assert "1:5.3-1" in locking.repository_lock(flake, "demo").read_text()


def test_lock_closure_shows_every_change_and_which_is_urgent(updated: Host, flake: Path) -> None:
    many = {f"lib{number}": "1.0" for number in range(30)}
    updated.set(
        eval={
            "archives": [ARCHIVE.model_dump(mode="json")], "guest": ["bash", *many],
            "kernel": "linux-image-cloud-amd64", "tools": ["tcc"],
        },
        offered={"bash": "1:5.3-1", "usr-is-merged": "37"} | many,
        debs={name: deb(name, "1.0") for name in ["bash", "usr-is-merged", *many]},
    )  # fmt: skip
    done = rave(flake, "vm", "lock-closure", "--profile", "demo")
    head, *changes = done.stdout.splitlines()
    assert head.endswith("demo.json: packages that changed: 32, security updates among them: 1")
    assert changes[0].strip() == "bash 1:5.2-1 -> 1:5.3-1  (security update)"
    assert len(changes) == 32


def test_lock_closure_can_only_tell(updated: Host, flake: Path) -> None:
    place = locking.repository_lock(flake, "demo")
    before = place.read_bytes()
    done = check(flake)
    assert done.return_value == ExitCode.CHECK_FAILED
    assert "would change" in done.stdout
    assert place.read_bytes() == before


def test_a_lock_that_says_the_same_keeps_its_date(updated: Host, flake: Path) -> None:
    rave(flake, "vm", "lock-closure", "--profile", "demo")
    place = locking.repository_lock(flake, "demo")
    before = place.read_bytes()
    done = rave(flake, "vm", "lock-closure", "--profile", "demo")
    assert "packages that changed: 0" in done.stdout
    assert place.read_bytes() == before
    assert check(flake).return_value == ExitCode.OK


def test_a_set_is_kept_until_it_is_to_be_updated(
    host: Host, flake: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    series = f"{sys.version_info.major}.{sys.version_info.minor}"
    versions = {"usr-is-merged": "37", "python3": f"{series}.2-1", "libc6": "2.36-9"}
    host.set(
        eval={
            "archives": [ARCHIVE.model_dump(mode="json")], "guest": ["python3", "libc6"],
            "kernel": "linux-image-cloud-amd64", "tools": ["tcc"], "wheels": {"wiki": ["tiny"]},
        },
        offered=versions, debs={name: deb(name, version) for name, version in versions.items()},
    )  # fmt: skip
    index = tmp_path / "index"
    index.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    page = tmp_path / "index.html"
    monkeypatch.setenv("PIP_FIND_LINKS", page.as_uri())
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    lock = ("vm", "lock-closure", "--profile", "demo")

    def offer(wheel: Wheel) -> None:
        """Add a wheel to the index, with its hash: the pip of Debian 12 tells no other."""
        wheel.write(index)
        files = {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in index.iterdir()}
        links = [f'<a href="{path.as_uri()}#sha256={sha}">.</a>' for path, sha in files.items()]
        page.write_text(f"<!DOCTYPE html><html><body>{''.join(links)}</body></html>")

    offer(Wheel("tiny"))
    assert "    + tiny 1.0  (of wiki)\n" in rave(flake, *lock).stdout
    offer(Wheel("tiny", "1.1"))
    assert "packages that changed: 0" in rave(flake, *lock).stdout
    told = rave(flake, *lock, "--update", "--check").stdout
    assert told.endswith("    tiny 1.0 -> 1.1  (of wiki)\n")
    assert rave(flake, *lock, "--update").exit_code == 0
    text = locking.repository_lock(flake, "demo").read_text()
    assert '"file": "tiny-1.1-py3-none-any.whl"' in text
    assert '"wheels": {' in text
    assert str(index) not in text
