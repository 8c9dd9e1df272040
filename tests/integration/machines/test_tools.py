"""What we make ourselves, judged by the tools it is made for; and the probe of the accelerator."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from rave_cli import age
from rave_cli.errors import ExitCode, RaveError
from rave_cli.images.nix import Nix
from rave_cli.machines import lifecycle, store
from rave_cli.machines.guest.ssh import openssh_argv
from rave_cli.machines.identity import new_ssh_key
from rave_cli.machines.qemu import accelerator, features, probe
from rave_cli.machines.spec import locate, machines_dir
from tests.unit.machines.test_argv import SPEC

if TYPE_CHECKING:
    from rave_cli.images.manifest import Image
    from rave_cli.profiles.catalog import Plan

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
    assert 0 < found.loop_seconds < probe.PROBE_SECONDS
    again = "rave_cli.machines.qemu.accelerator.try_guest"
    monkeypatch.setattr(again, lambda *_words: pytest.fail("asked again"))
    assert accelerator.detect() == found


def test_the_reason_has_the_figures_of_both(home: Path) -> None:
    found = accelerator.detect(fresh=True)
    assert found.seconds["tcg"] is not None
    assert f"{found.seconds['tcg']:.2f} s" in found.reason
    if found.seconds["kvm"] is not None:
        assert f"{found.seconds['kvm']:.2f} s" in found.reason


def test_this_host_s_qemu_has_what_machines_are_made_of(home: Path) -> None:
    found = features.ask()
    assert found.missing == ()
    assert found.version.count(".") == 2


def test_tcg_runs_the_probe_s_guest() -> None:
    trial = probe.try_guest("tcg")
    assert trial.fault == ""
    assert trial.total is not None
    assert trial.loop is not None
    assert 0 < trial.loop < trial.total


def test_a_full_disk_makes_no_machine_and_says_so(
    small_disk: Path, base_image: Image, plan: Plan
) -> None:
    (small_disk / "filler").write_bytes(bytes((4 << 20) - 60_000))
    with pytest.raises(RaveError, match=r"(?i)no space left") as caught:
        store.create(store.new_spec(plan, base_image, name="demo", mode="safe"))
    assert caught.value.exit_code == ExitCode.HOST
    assert "rave vm list" in str(caught.value.hint)
    assert [path.name for path in machines_dir().iterdir() if path.is_dir()] == []


def test_a_machine_keeps_its_image_from_nix_s_garbage_collection(
    home: Path, base_image: Image, plan: Plan
) -> None:
    if shutil.which("nix-store") is None:
        pytest.skip("nix-store is not installed")
    settings = Nix("debian", "safe").environment()

    def nix_store(*words: str | Path) -> str:
        argv = ["nix-store", *map(str, words)]
        env = os.environ | settings
        return subprocess.run(argv, env=env, capture_output=True, text=True, check=True).stdout

    path = nix_store("--add", base_image.qcow2).strip()
    image = replace(base_image, qcow2=Path(path), store_path=path)
    machine = store.create(store.new_spec(plan, image, name="demo", mode="safe"))
    assert str(machine.image_root) in nix_store("--query", "--roots", path)
    machine.image_root.unlink()
    assert str(machine.image_root) not in nix_store("--query", "--roots", path)
    store.keep_image(machine)
    assert str(machine.image_root) in nix_store("--query", "--roots", path)
    lifecycle.delete("demo")
    assert str(machine.image_root) not in nix_store("--query", "--roots", path)
    nix_store("--delete", path)
