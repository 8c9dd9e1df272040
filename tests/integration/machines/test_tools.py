"""What we make ourselves, judged by the tools it is made for; and the probe of the accelerator."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from rave_cli import age
from rave_cli.errors import ExitCode, RaveError
from rave_cli.machines import accelerator, store
from rave_cli.machines.identity import new_ssh_key
from rave_cli.machines.spec import locate, machines_dir
from rave_cli.machines.ssh import openssh_argv
from tests.unit.machines.test_argv import SPEC

if TYPE_CHECKING:
    from pathlib import Path

    from rave_cli.images.manifest import Image

pytestmark = pytest.mark.integration


def run(*argv: str | Path) -> str:
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout


def test_ssh_keygen_reads_our_keys(tmp_path: Path) -> None:
    key = new_ssh_key("rave-demo")
    path = tmp_path / "key"
    path.write_bytes(key.private)
    path.chmod(0o600)
    assert run("ssh-keygen", "-y", "-f", path).split()[:2] == key.public.decode().split()[:2]


def test_age_keygen_reads_a_machine_s_identity(tmp_path: Path) -> None:
    identity = age.generate()
    path = tmp_path / "age.key"
    path.write_bytes(identity.file_text())
    assert run("age-keygen", "-y", path).strip() == identity.recipient


def test_openssh_understands_every_option_and_odd_paths(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = tmp_path / "a b%h,c"
    monkeypatch.setenv("XDG_DATA_HOME", str(odd))
    machine = locate(SPEC)
    argv = openssh_argv(machine, 4022, terminal=False)
    config = dict(line.partition(" ")[::2] for line in run(argv[0], "-G", *argv[1:]).splitlines())
    assert config["hostkeyalias"] == "rave-demo"
    assert config["stricthostkeychecking"] in {"yes", "true"}
    assert config["globalknownhostsfile"] == "/dev/null"
    assert config["hostkeyalgorithms"] == "ssh-ed25519"
    assert config["passwordauthentication"] == "no"
    # -G prints the one path expanded and the other as it was given.
    assert config["userknownhostsfile"] == str(machine.known_hosts)
    assert config["identityfile"] == str(machine.login_key).replace("%", "%%")


def test_the_accelerator_is_what_a_guest_ran_on(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = accelerator.detect()
    assert found.kind in {"kvm", "tcg"}
    assert found.reason
    assert 0 < found.loop_seconds < accelerator.PROBE_SECONDS
    monkeypatch.setattr(accelerator, "try_guest", lambda _kind: pytest.fail("asked again"))
    assert accelerator.detect() == found


def test_tcg_runs_the_probe_s_guest() -> None:
    trial = accelerator.try_guest("tcg")
    assert trial.fault == ""
    assert trial.total is not None
    assert trial.loop is not None
    assert 0 < trial.loop < trial.total


def test_a_full_disk_makes_no_machine_and_says_so(small_disk: Path, base_image: Image) -> None:
    from rave_cli.profiles.catalog import parse
    from rave_cli.profiles.source import BAKED

    (small_disk / "filler").write_bytes(bytes((4 << 20) - 60_000))
    plan = parse(BAKED.read_bytes()).plan("demo", "debian")
    with pytest.raises(RaveError, match=r"(?i)no space left") as caught:
        store.create(store.new_spec(plan, base_image, name="demo", mode="safe"))
    assert caught.value.exit_code == ExitCode.HOST
    assert "rave vm list" in str(caught.value.hint)
    assert [path.name for path in machines_dir().iterdir() if path.is_dir()] == []
