"""The QEMU command line, against golden files and the rules that no golden file may break.

After a wanted change: UPDATE_GOLDEN=1 pytest tests/unit/machines/test_argv.py; read the diff.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rave_cli.images.manifest import BootMethod, Image
from rave_cli.machines.qemu.accelerator import Accelerator
from rave_cli.machines.qemu.argv import accelerator_of, chardev, disk_of, esc, pretty, qemu_argv
from rave_cli.machines.qemu.program import cpu_model
from rave_cli.machines.spec import Forward, Machine, MachineSpec

GOLDEN = Path(__file__).parent / "golden"
TCG = Accelerator("tcg", "", 0.064)
KVM = Accelerator("kvm", "", 0.01)
STORE = Path("/nix/store/abc-image")

KERNEL_IMAGE = Image(
    profile="demo",
    base="debian",
    qcow2=STORE / "rave-demo-debian.qcow2",
    sha256="0" * 64,
    size=1,
    store_path=str(STORE),
    nar_hash="sha256-x",
    boot=BootMethod("kernel", STORE / "vmlinuz", STORE / "initrd", "root=/dev/vda rw quiet"),
)
DATA_IMAGE = replace(KERNEL_IMAGE, data=STORE / "data.qcow2")
DISK_IMAGE = replace(KERNEL_IMAGE, base="nixos", boot=BootMethod("disk", None, None, ""))

SPEC = MachineSpec(
    name="demo",
    uuid="5efdf6ad-af20-48ad-810a-fdf250e8f266",
    instance_id="6b1228606bf9e88a7e7ed606c7975002",
    profile="demo",
    base="debian",
    mode="safe",
    memory_mib=2048,
    cpus=2,
    disk_gib=12,
    forwards=(Forward(0, 22), Forward(8443, 3002)),
    network="isolated",
    image=KERNEL_IMAGE,
)


def machine(spec: MachineSpec = SPEC, home: str = "/home/u/.local/share/rave/vms") -> Machine:
    return Machine(spec, Path(home) / spec.name, Path("/run/user/1000/rave") / spec.name)


CASES = {
    "tcg-debian": (machine(), TCG),
    "kvm-debian": (machine(), KVM),
    "tcg-debian-data": (machine(replace(SPEC, image=DATA_IMAGE, data_of="1" * 32)), TCG),
    "tcg-nixos-nat-full": (
        machine(replace(SPEC, base="nixos", mode="full", network="nat", image=DISK_IMAGE)),
        TCG,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_the_command_is_the_golden_one(name: str) -> None:
    text = pretty(qemu_argv(*CASES[name])) + "\n"
    golden = GOLDEN / f"{name}.txt"
    if os.environ.get("UPDATE_GOLDEN"):
        golden.write_text(text)
    assert text == golden.read_text()


@given(runtime=st.text(st.sampled_from("ab,= /"), max_size=20), kvm=st.booleans())
def test_what_a_command_says_is_read_back_whatever_its_paths_hold(runtime: str, kvm: bool) -> None:
    made = replace(machine(), runtime=Path("/run") / f"x{runtime}")
    argv = ("systemd-run", "--scope", "--", *qemu_argv(made, KVM if kvm else TCG))
    assert chardev(argv, "qmp") == made.qmp_socket
    assert chardev(argv, "events") == made.event_socket
    assert chardev(argv, "ready") == made.stage_pipe
    assert chardev(argv, "console") == made.console
    assert disk_of(argv) == made.disk
    assert chardev(argv, "none") is None
    assert accelerator_of(argv) == ("kvm" if kvm else "tcg")


@pytest.mark.parametrize("name", CASES)
def test_no_argument_carries_a_secret_or_listens_beyond_loopback(name: str) -> None:
    argv = qemu_argv(*CASES[name])
    text = " ".join(argv)
    assert SPEC.instance_id not in text
    assert "value=" not in text
    assert "tcp::" not in text
    assert text.count("hostfwd=tcp:") == text.count("hostfwd=tcp:127.0.0.1:")
    assert not any(word.startswith(("tcp:", "telnet:")) for word in argv)
    assert "-sandbox" in argv


def test_isolation_is_the_network_option() -> None:
    assert "restrict=on" in " ".join(qemu_argv(machine(), TCG))
    assert "restrict=off" in " ".join(qemu_argv(machine(replace(SPEC, network="nat")), TCG))


def test_a_comma_in_a_path_does_not_end_the_option() -> None:
    odd = replace(machine(home="/home/u,v/vms"), runtime=Path("/run/u,v"))
    text = " ".join(qemu_argv(odd, TCG))
    assert "path=/run/u,,v/console" in text
    assert "filename=/home/u,,v/vms/demo/disk.qcow2" in text


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=40))
def test_escaping_can_be_undone(path: str) -> None:
    assert esc(path).replace(",,", ",") == path
    assert "," not in esc(path).replace(",,", "")


def test_a_guest_gets_a_processor_that_newer_software_runs_on() -> None:
    assert cpu_model("kvm") == "host"
    for feature in ("ssse3", "sse4.1", "sse4.2", "popcnt"):
        assert f"+{feature}" in cpu_model("tcg")
