"""Which accelerator really runs a guest here, and how fast: asked by running one, once per boot.

`/dev/kvm` being there proves nothing: on some hosts it opens, creates a VM and cannot run one, and
QEMU's `accel=kvm:tcg` does not fall back then. So a guest of 179 bytes runs under TCG and, if the
device opens, under KVM with the very CPU model a machine would get.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from rave_cli import paths, process
from rave_cli.errors import ExitCode, RaveError
from rave_cli.machines.qemu.program import QEMU, Kind, cpu_model
from rave_cli.records import RecordFormat

if TYPE_CHECKING:
    from collections.abc import Callable

KVM_DEVICE = Path("/dev/kvm")
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")

# Seconds the probe's loop took under TCG on the machine that the deadlines were measured on
# (2 cores of an AMD EPYC, QEMU 7.2.22). Deadlines grow with the ratio of today's figure to this.
REFERENCE_LOOP = 0.064

# A guest gets this long to say its two letters. TCG needs 0.2 s.
PROBE_SECONDS = 4.0

# The probe's source, in GNU as; tests/unit/machines assembles it and compares it with GUEST.
# Multiboot leaves us in protected mode; the guest says S, enters long mode as every real guest will
# (this is where KVM hangs on hosts whose KVM is a façade), counts, says E and leaves QEMU.
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
class Accelerator:
    """The accelerator that machines run with here.

    `loop_seconds` is the measured time of the probe's loop; `reason` says in one line why this
    accelerator and not the other.
    """

    kind: Kind
    reason: str
    loop_seconds: float

    @property
    def deadline_scale(self) -> float:
        """Factor on every deadline of a boot: 1 on the reference host under TCG and on anything
        faster, more on a slower or busier one.
        """
        return min(max(self.loop_seconds / REFERENCE_LOOP, 1.0), 10.0)

    @property
    def document(self) -> dict[str, object]:
        """What `--json` and the transcript carry."""
        return asdict(self)


class _Answer(BaseModel):
    """The probe's answer as it is kept: `key` is what it holds for."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: dict[str, str | None]
    accelerator: Accelerator


# That of 0.1.0 had no version.
ANSWER = RecordFormat(
    title="the answer of the accelerator probe",
    shape=_Answer,
    version=1,
    upgrades={0: lambda document: document},
    unversioned=0,
)


@dataclass(frozen=True)
class Trial:
    """What one run of the probe's guest showed. Times in seconds, None if it did not get there."""

    total: float | None
    loop: float | None
    fault: str


def detect(*, fresh: bool = False) -> Accelerator:
    """Return the accelerator of this host; the answer is kept until the next boot.

    Args:
        fresh: probe again even if the answer is known.

    Raises:
        RaveError: HOST if QEMU is missing or cannot run a guest at all.
    """
    qemu = Path(process.require(QEMU))
    key = {"boot": BOOT_ID.read_text().strip(), "qemu": _fingerprint(qemu), "kvm": _kvm_fault()}
    cache = paths.cache_dir() / "accelerator.json"
    known = None if fresh else _remembered(cache, key)
    if known is not None:
        return known
    found = choose(try_guest, key["kvm"])
    ANSWER.write(cache, _Answer(key=key, accelerator=found))
    return found


def choose(run: Callable[[Kind], Trial], kvm_fault: str | None) -> Accelerator:
    """Decide by what guests did. `kvm_fault` says why KVM cannot even be asked, if so.

    Raises:
        RaveError: HOST if not even TCG runs the guest.
    """
    tcg = run("tcg")
    if tcg.total is None or tcg.loop is None:
        raise RaveError(
            f"QEMU cannot run even the smallest guest: {tcg.fault}",
            hint="rave doctor",
            exit_code=ExitCode.HOST,
        )
    if kvm_fault is not None:
        return Accelerator("tcg", f"KVM cannot be used: {kvm_fault}", tcg.loop)
    kvm = run("kvm")
    if kvm.total is None or kvm.loop is None:
        return Accelerator("tcg", f"/dev/kvm opens but cannot run a guest: {kvm.fault}", tcg.loop)
    if kvm.total > tcg.total:
        reason = f"KVM is slower than TCG here ({kvm.total:.2f} s against {tcg.total:.2f} s)"
        return Accelerator("tcg", reason, tcg.loop)
    return Accelerator("kvm", f"KVM ran a guest in {kvm.total:.2f} s", kvm.loop)


def try_guest(kind: Kind) -> Trial:
    """Run the probe's guest once under one accelerator."""
    with tempfile.NamedTemporaryFile(prefix="rave-probe-") as kernel:
        kernel.write(GUEST)
        kernel.flush()
        began = time.monotonic()
        with process.spawn(
            probe_argv(kind, Path(kernel.name)), stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as child:
            marks = _listen(child, began + PROBE_SECONDS)
            if b"S" in marks and b"E" in marks:
                return Trial(marks[b"E"] - began, marks[b"E"] - marks[b"S"], "")
            return Trial(None, None, _fault(child, marks))


def probe_argv(kind: Kind, kernel: Path) -> tuple[str, ...]:
    """Return the command that runs the probe's guest."""
    return (
        QEMU,
        "-nodefaults",
        "-no-user-config",
        "-display", "none",
        "-machine", "q35,hpet=off",
        "-accel", kind,
        "-cpu", cpu_model(kind),
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


def _fault(child: subprocess.Popen[bytes], marks: dict[bytes, float]) -> str:
    """Say how far the guest got and how it ended."""
    assert child.stderr is not None  # noqa: S101 - spawned with a pipe
    if child.poll() is None and b"E" not in marks:
        try:
            child.wait(timeout=0.2)
        except subprocess.TimeoutExpired:
            where = "it hung in long mode" if b"S" in marks else "the firmware never finished"
            return f"{where} for {PROBE_SECONDS:g} s"
    said = child.stderr.read().decode(errors="replace").strip().splitlines()
    code = child.returncode
    ended = signal.Signals(-code).name if code < 0 else f"exit status {code}"
    return f"QEMU ended with {ended}" + (f" ({said[0][:120]})" if said else "")


def _kvm_fault() -> str | None:
    """Return why KVM cannot even be tried, or None."""
    try:
        os.close(os.open(KVM_DEVICE, os.O_RDWR | os.O_CLOEXEC))
    except FileNotFoundError:
        return f"there is no {KVM_DEVICE}"
    except OSError as error:
        return f"{KVM_DEVICE} cannot be opened ({error.strerror}); are you in the group kvm?"
    return None


def _fingerprint(qemu: Path) -> str:
    """Return what tells this QEMU from the one after an upgrade."""
    found = qemu.stat()
    return f"{qemu}:{found.st_size}:{found.st_mtime_ns}"


def _remembered(cache: Path, key: dict[str, str | None]) -> Accelerator | None:
    """Return the answer that is kept, if it holds here and now; any other is asked for again."""
    try:
        known = ANSWER.read(cache, hint="rave doctor")
    except RaveError:
        return None
    return known.accelerator if known.key == key else None
