"""Trust of this host: told on request, given with --apply, and never by itself."""

from __future__ import annotations

import json
import shlex
import shutil
import ssl
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from rave_cli.errors import ExitCode, RaveError
from rave_cli.tls import authority, handshake, trust
from rave_cli.tls.trust import TrustStore

NOW = datetime.now(UTC)


@pytest.fixture
def store(tmp_path: Path) -> TrustStore:
    """The host's own program, with places of its own."""
    program = shutil.which("update-ca-certificates") or "/usr/sbin/update-ca-certificates"
    for name in ("local", "etc", "hooks"):
        (tmp_path / name).mkdir()
    (tmp_path / "conf").touch()
    command = (
        program, "--localcertsdir", str(tmp_path / "local"), "--etccertsdir", str(tmp_path / "etc"),
        "--certsconf", str(tmp_path / "conf"), "--hooksdir", str(tmp_path / "hooks"),
    )  # fmt: skip
    return TrustStore(tmp_path / "local", command)


def test_what_was_added_is_trusted_by_whoever_uses_the_systems_store(
    home: Path, store: TrustStore, tmp_path: Path
) -> None:
    own = authority.of("rave.localhost")
    issued = authority.issue(own, "rave.localhost", now=NOW)
    place = authority.certificate_file("localhost")
    assert trust.add(place, "rave-localhost", store)
    client = ssl.create_default_context(cafile=str(tmp_path / "etc/ca-certificates.crt"))
    assert handshake.refusal(issued, "rave.localhost", client) is None
    assert not trust.add(place, "rave-localhost", store)


def test_a_program_that_fails_is_named(home: Path, tmp_path: Path) -> None:
    authority.of("localhost")
    broken = TrustStore(tmp_path, ("false",))
    with pytest.raises(RaveError, match="false failed") as caught:
        trust.add(authority.certificate_file("localhost"), "rave", broken)
    assert caught.value.exit_code is ExitCode.HOST


def test_whoever_may_not_write_the_store_is_told_the_command(
    home: Path, store: TrustStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority.of("localhost")
    monkeypatch.setattr("os.access", lambda _place, _mode: False)
    with pytest.raises(RaveError, match="is not yours to write") as caught:
        trust.add(authority.certificate_file("localhost"), "rave", store)
    assert "sudo install" in str(caught.value.hint)


def test_a_host_without_a_store_is_told_so(home: Path) -> None:
    authority.of("localhost")
    place = authority.certificate_file("localhost")
    with pytest.raises(RaveError, match="no store of authorities"):
        trust.add(place, "rave", None)
    assert len(trust.steps(place, "rave", None)) == 1
    assert trust.store([TrustStore(Path("/x"), ("no-such-program",))]) is None


def test_the_steps_are_commands_of_a_shell_whatever_the_place_is_called(tmp_path: Path) -> None:
    odd = tmp_path / "a b'c"
    system, browser = trust.steps(odd, "rave", TrustStore(tmp_path, ("update-ca-certificates",)))
    assert str(odd) in shlex.split(system)
    assert str(odd) in shlex.split(browser)


def test_the_command_changes_nothing_unless_it_is_told_to(home: Path) -> None:
    words = ["-m", "rave_cli", "tls", "trust", "--json"]
    done = subprocess.run([sys.executable, *words], capture_output=True, check=True, text=True)
    told = json.loads(done.stdout)
    assert told["added"] is None
    assert Path(told["certificate"]).read_text() == authority.of("localhost").pem
