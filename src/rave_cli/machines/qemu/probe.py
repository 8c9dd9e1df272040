"""The smallest guest there is, run once under an accelerator: whether that runs guests, how fast.

Multiboot leaves the guest in protected mode; it says S, enters long mode as every real guest will
(this is where KVM hangs on hosts whose KVM is a façade), counts, says E and leaves QEMU.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from rave_cli import process
from rave_cli.machines.qemu.program import QEMU, Kind, cpu_model
from rave_cli.text import clean

# A guest gets this long to say its two letters. TCG needs 0.2 s.
PROBE_SECONDS = 4.0

# Bytes of what QEMU says before it ends that are read.
MOST_SAID = 16 << 10

# The probe's source, in GNU as; tests/unit/machines assembles it and compares it with GUEST.
GUEST_SOURCE = """
    .code32
header:
    .long 0x1BADB002, 0x00010000, -0x1BAEB002
    .long 0x100000, 0x100000, 0, 0, 0x100000 + start - header
start:
    movb $'S', %al
    outb %al, $0xe9
    xorl %eax, %eax
    movl $0x200000, %edi
    movl $0xc00, %ecx
    rep stosl
    movl $0x201003, 0x200000
    movl $0x202003, 0x201000
    movl $0x83, 0x202000
    movl $0x200000, %eax
    movl %eax, %cr3
    movl $0x20, %eax
    movl %eax, %cr4
    movl $0xc0000080, %ecx
    movl $0x100, %eax
    xorl %edx, %edx
    wrmsr
    movl $0x80000011, %eax
    movl %eax, %cr0
    lgdt 0x100000 + gdtr - header
    ljmp $8, $0x100000 + long - header
gdt:
    .quad 0, 0x00209a0000000000
gdtr:
    .word 15
    .long 0x100000 + gdt - header
    .code64
long:
    movl $40000000, %ecx
    movl $0x180000, %esi
again:
    addl %ecx, (%rsi)
    decl %ecx
    jnz again
    movb $'E', %al
    outb %al, $0xe9
    outb %al, $0xf4
stop:
    hlt
    jmp stop
"""
GUEST = bytes.fromhex(
    "02b0ad1b00000100fe4f51e40000100000001000000000000000000020001000b053e6e931c0bf00002000b9"
    "000c0000f3abc7050000200003102000c7050010200003202000c7050020200083000000b8000020000f22d8"
    "b8200000000f22e0b9800000c0b80001000031d20f30b8110000800f22c00f011594001000ea9a0010000800"
    "000000000000000000000000009a20000f0084001000b9005a6202be00001800010effc975fab045e6e9e6f4"
    "f4ebfd"
)


@dataclass(frozen=True)
class Trial:
    """What one run of the probe's guest showed. Times in seconds, None if it did not get there.

    Attributes:
        total: from QEMU's start to the guest's end.
        loop: of that, its loop.
        fault: how it ended otherwise.
        firmware: of the total, what was before its first letter: QEMU's start and the firmware.
        said: the lines that QEMU said.
    """

    total: float | None
    loop: float | None
    fault: str
    firmware: float | None = None
    said: tuple[str, ...] = ()

    @property
    def figure(self) -> str:
        """How long it took, in words."""
        if self.total is not None:
            return f"{self.total:.2f} s"
        before = f", {self.firmware:.2f} s of it before its first letter" if self.firmware else ""
        return f"more than {PROBE_SECONDS:g} s{before}"


def try_guest(kind: Kind, features: tuple[str, ...] = ()) -> Trial:
    """Run the probe's guest once under one accelerator, with those changes to KVM's CPU."""
    with tempfile.NamedTemporaryFile(prefix="rave-probe-") as kernel:
        kernel.write(GUEST)
        kernel.flush()
        began = time.monotonic()
        with process.spawn(
            probe_argv(kind, Path(kernel.name), features),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as child:
            marks = _listen(child, began + PROBE_SECONDS)
            firmware = marks[b"S"] - began if b"S" in marks else None
            if b"S" in marks and b"E" in marks:
                return Trial(marks[b"E"] - began, marks[b"E"] - marks[b"S"], "", firmware)
            fault, said = _fault(child, marks)
            return Trial(None, None, fault, firmware, said)


def probe_argv(kind: Kind, kernel: Path, features: tuple[str, ...] = ()) -> tuple[str, ...]:
    """Return the command that runs the probe's guest."""
    return (
        QEMU,
        "-nodefaults",
        "-no-user-config",
        "-display", "none",
        "-machine", "q35,hpet=off",
        "-accel", kind,
        "-cpu", cpu_model(kind, features),
        "-m", "16",
        "-kernel", str(kernel),
        "-chardev", "stdio,id=marks,signal=off",
        "-device", "isa-debugcon,iobase=0xe9,chardev=marks",
        "-device", "isa-debug-exit,iobase=0xf4,iosize=1",
    )  # fmt: skip


def _listen(child: subprocess.Popen[bytes], deadline: float) -> dict[bytes, float]:
    """Return when each letter arrived, until the guest ends or the deadline passes."""
    assert child.stdout is not None  # noqa: S101 - spawned with a pipe
    marks: dict[bytes, float] = {}
    while (left := deadline - time.monotonic()) > 0:
        if not select.select([child.stdout], [], [], left)[0]:
            break
        letter = os.read(child.stdout.fileno(), 1)
        if not letter:
            break
        marks.setdefault(letter, time.monotonic())
    return marks


def _fault(
    child: subprocess.Popen[bytes], marks: dict[bytes, float]
) -> tuple[str, tuple[str, ...]]:
    """Return how far the guest got and how it ended, and the lines that QEMU said."""
    assert child.stderr is not None  # noqa: S101 - spawned with a pipe
    if child.poll() is None and b"E" not in marks:
        try:
            child.wait(timeout=0.2)
        except subprocess.TimeoutExpired:
            where = "it hung in long mode" if b"S" in marks else "the firmware never finished"
            return f"{where} for {PROBE_SECONDS:g} s", ()
    said = child.stderr.read(MOST_SAID).decode(errors="replace").strip().splitlines()
    code = child.returncode
    ended = signal.Signals(-code).name if code < 0 else f"exit status {code}"
    quoted = f" ({clean(said[0])[:120]})" if said else ""
    return f"QEMU ended with {ended}{quoted}", tuple(said)
