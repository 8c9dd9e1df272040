"""The QEMU command line: specification and accelerator in, argv out, and read back. Pure, so it is
golden-tested.

No argument carries a secret: first-boot inputs are named by the path of a 0600 file.
"""

from __future__ import annotations

import re
import shlex
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from rave_cli.machines.qemu.credentials import blob_paths
from rave_cli.machines.qemu.program import QEMU, cpu_model

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rave_cli.machines.qemu.accelerator import Accelerator
    from rave_cli.machines.qemu.program import Kind
    from rave_cli.machines.spec import Machine, MachineSpec

# The virtio-serial port on which the guest reports its stages.
READY_PORT = "org.rave.ready"

# The one behind which its sshd is, too; see guest/way.py.
WAY_PORT = "org.rave.way"

# The one over which rave runs programs in the guest; see guest/command.py. The id of its chardev.
COMMAND_PORT = "org.rave.command"
COMMAND = "command"

# The one at which the guest asks for jobs of the pool; see pool/guests. Every machine has it, so
# that it can be lent the pool while it runs, and nobody is at its other end before that.
POOL_PORT = "org.rave.pool"

# The node of the machine's disk in QEMU's block layer.
DISK_NODE = "disk0"

# Those of its data and of its cache, and the serials by which people know them in the guest.
DATA_NODE, DATA = "data0", "rave-data"
CACHE_NODE, CACHE = "disk1", "rave-cache"

# The id that QEMU's q35 gives its guest's memory.
MEMORY = "pc.ram"

# What QEMU may no longer do once it has started. `elevateprivileges=deny` forbids QEMU's own
# -daemonize, which is why the CLI starts it in a session of its own instead.
SANDBOX = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"

# MiB that TCG may fill with translated code. A boot of the demo guest makes 444 MB of it: with 256
# QEMU throws all away once or twice and translates again (docs/explanation/boot-time.md). QEMU's
# default of 1 GiB would not fit under the memory cap.
TRANSLATION_CACHE = 512


def qemu_argv(machine: Machine, accelerator: Accelerator) -> tuple[str, ...]:
    """Return the command that runs a machine, without the cap around it.

    Option and value stay together on one line. Sources of the choices: QEMU 7.2 invocation manual
    and shared measurements recorded in docs/adr/0005-readiness.md.
    """
    spec = machine.spec
    return (
        QEMU,
        "-name", f"{machine.alias},process={machine.alias}",
        "-uuid", spec.uuid,
        "-nodefaults",
        "-no-user-config",
        "-display", "none",
        "-sandbox", SANDBOX,
        "-machine", "q35,hpet=off,vmport=off",
        *_processor(accelerator),
        "-smp", str(spec.cpus),
        "-m", str(spec.memory_mib),
        *_boot(spec, accelerator),
        *_disk(machine.disk),
        *_data(machine),
        *_network(machine),
        *_channels(machine),
        "-device", "virtio-rng-pci",
        *_balloon(spec),
        *_cache(machine),
        *_credentials(machine),
    )  # fmt: skip


def memory_file(spec: MachineSpec, place: Path, *, shared: bool) -> tuple[str, ...]:
    """Return what follows a command so that the guest's memory is a file: what it writes goes there
    (`shared`), or is its own.

    By its id the memory is the same to a migration as the one that QEMU makes by itself.
    """
    share = "on" if shared else "off"
    size = f"size={spec.memory_mib}M"
    return (
        "-object",
        f"memory-backend-file,id={MEMORY},{size},mem-path={esc(place)},share={share}",
        "-machine", f"memory-backend={MEMORY}",
    )  # fmt: skip


def without_memory_file(argv: Sequence[str]) -> tuple[str, ...]:
    """Return a command without what `memory_file` and those after it have added."""
    return tuple(argv[: argv.index("-object")] if "-object" in argv else argv)


def from_template(argv: Sequence[str]) -> bool:
    """Return whether a command takes its guest's memory from a template."""
    objects = [value for option, value in pairwise(argv) if option == "-object"]
    return any(value.endswith(",share=off") for value in objects)


def pretty(argv: Sequence[str]) -> str:
    """Return a command as a shell takes it, an option and its value on one line."""
    lines: list[str] = []
    for word in argv:
        value = bool(lines) and not word.startswith("-") and lines[-1].startswith("-")
        if value and " " not in lines[-1]:
            lines[-1] += f" {shlex.quote(word)}"
        else:
            lines.append(shlex.quote(word))
    return " \\\n  ".join(lines)


def esc(path: Path | str) -> str:
    """Double the commas of a value, as QEMU's option syntax demands."""
    return str(path).replace(",", ",,")


def chardev(argv: Sequence[str], name: str) -> Path | None:
    """Return the path of the character device of that id in a command; None if it has none."""
    for option, value in pairwise(argv):
        members = re.findall(r"(?:[^,]|,,)+", value) if option == "-chardev" else []
        if f"id={name}" in members:
            found = [word.removeprefix("path=") for word in members if word.startswith("path=")]
            return Path(found[0].replace(",,", ",")) if found else None
    return None


def disk_of(argv: Sequence[str]) -> Path | None:
    """Return the disk that a command gives its guest; None if it gives none."""
    for option, value in pairwise(argv):
        found = re.search(r",node-name=file0,filename=((?:[^,]|,,)+)", value)
        if option == "-blockdev" and found:
            return Path(found[1].replace(",,", ","))
    return None


def memory_of(argv: Sequence[str]) -> int:
    """Return the MiB that a command gives its guest; 0 if it does not say."""
    return next((int(v) for o, v in pairwise(argv) if o == "-m" and v.isdecimal()), 0)


def accelerator_of(argv: Sequence[str]) -> Kind:
    """Return the accelerator that a command asks for."""
    return "kvm" if ("-accel", "kvm") in pairwise(argv) else "tcg"


def _credentials(machine: Machine) -> tuple[str, ...]:
    paths = blob_paths(machine)
    return tuple(word for path in paths for word in ("-smbios", f"type=11,path={esc(path)}"))


def _processor(accelerator: Accelerator) -> tuple[str, ...]:
    tcg = f"tcg,thread=multi,tb-size={TRANSLATION_CACHE}"
    accel = "kvm" if accelerator.kind == "kvm" else tcg
    return ("-accel", accel, "-cpu", cpu_model(accelerator.kind, accelerator.kvm_features))


def _boot(spec: MachineSpec, accelerator: Accelerator) -> tuple[str, ...]:
    boot = spec.image.boot
    if boot.kind == "disk":
        return ()
    own = f"systemd.machine_id={spec.machine_id} systemd.hostname={spec.name}"
    if spec.has_data:
        own += f" rave_data={','.join(filter(None, (spec.machine_id, spec.data_of)))}"
    if accelerator.kind == "tcg" and accelerator.counter_khz:
        own += f" tsc_early_khz={accelerator.counter_khz}"
    return (
        "-kernel", str(boot.kernel),
        "-initrd", str(boot.initrd),
        "-append", f"{boot.cmdline} rave.mode={spec.mode} {own}".strip(),
    )  # fmt: skip


def _balloon(spec: MachineSpec) -> tuple[str, ...]:
    """Let a guest give memory back, but not one that may map a template's: before 8.1, QEMU gives
    pages of a private mapping back by punching holes into the file below it, which is everybody's.
    """
    if spec.template is not None:
        return ()
    return ("-device", "virtio-balloon-pci,free-page-reporting=on")


def _disk(disk: Path) -> tuple[str, ...]:
    return (
        "-blockdev", f"driver=file,node-name=file0,filename={esc(disk)},discard=unmap",
        "-blockdev",
        f"driver=qcow2,node-name={DISK_NODE},file=file0,discard=unmap,detect-zeroes=unmap",
        "-device", f"virtio-blk-pci,drive={DISK_NODE}",
    )  # fmt: skip


def _data(machine: Machine) -> tuple[str, ...]:
    """Before all other devices: the guest's initrd finds it as its second disk."""
    if not machine.spec.has_data:
        return ()
    return (
        "-blockdev",
        f"driver=file,node-name=data-file,filename={esc(machine.data_disk)},discard=unmap",
        "-blockdev",
        f"driver=qcow2,node-name={DATA_NODE},file=data-file,discard=unmap,detect-zeroes=unmap",
        "-device", f"virtio-blk-pci,drive={DATA_NODE},serial={DATA}",
    )  # fmt: skip


def _cache(machine: Machine) -> tuple[str, ...]:
    if not machine.spec.has_cache:
        return ()
    return (
        "-blockdev",
        f"driver=file,node-name=file1,filename={esc(machine.cache_disk)},discard=unmap",
        "-blockdev",
        f"driver=qcow2,node-name={CACHE_NODE},file=file1,discard=unmap,detect-zeroes=unmap",
        "-device", f"virtio-blk-pci,drive={CACHE_NODE},serial={CACHE}",
    )  # fmt: skip


def _network(machine: Machine) -> tuple[str, ...]:
    restrict = "on" if machine.spec.network == "isolated" else "off"
    forwards = "".join(
        f",hostfwd=tcp:127.0.0.1:{forward.host}-:{forward.guest}"
        for forward in machine.spec.leading
    )
    return (
        "-netdev", f"user,id=net0,ipv6=off,restrict={restrict}{forwards}",
        "-device", f"virtio-net-pci,netdev=net0,romfile=,mac={machine.spec.mac}",
    )  # fmt: skip


def _channels(machine: Machine) -> tuple[str, ...]:
    """Console, monitors and the port of the stages; nothing of it is on TCP."""
    return (
        "-chardev", f"pipe,id=console,path={esc(machine.console)}",
        "-serial", "chardev:console",
        "-chardev", f"socket,id=qmp,path={esc(machine.qmp_socket)},server=on,wait=off",
        "-mon", "chardev=qmp,mode=control",
        "-chardev", f"socket,id=events,path={esc(machine.event_socket)},server=on,wait=off",
        "-mon", "chardev=events,mode=control",
        "-chardev", f"file,id=ready,path={esc(machine.stage_pipe)}",
        "-device", "virtio-serial-pci",
        "-device", f"virtserialport,chardev=ready,name={READY_PORT}",
        "-chardev", f"socket,id=way,path={esc(machine.way_socket)},server=on,wait=off",
        "-device", f"virtserialport,chardev=way,name={WAY_PORT}",
        "-chardev", f"socket,id={COMMAND},path={esc(machine.command_socket)},server=on,wait=off",
        "-device", f"virtserialport,chardev={COMMAND},name={COMMAND_PORT}",
        "-chardev", f"socket,id=pool,path={esc(machine.pool_socket)},server=on,wait=off",
        "-device", f"virtserialport,chardev=pool,name={POOL_PORT}",
    )  # fmt: skip
