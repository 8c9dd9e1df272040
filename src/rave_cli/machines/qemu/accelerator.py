"""Which accelerator really runs a guest here, and how fast: asked by running one, once per boot.

`/dev/kvm` being there proves nothing: on some hosts it opens, creates a VM and cannot run one, and
QEMU's `accel=kvm:tcg` does not fall back then. So a guest of 179 bytes runs under TCG and, if the
device opens, under KVM with the very CPU model a machine would get. Where QEMU dies under KVM of a
cause with a known remedy, that is tried; what then runs is measured against TCG, since on some of
these hosts KVM interprets one instruction after the other.
"""

from __future__ import annotations

import os
from collections.abc import Mapping  # noqa: TC003 - the record reads the annotations
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from rave_cli import paths, process
from rave_cli.errors import ExitCode, RaveError
from rave_cli.machines.qemu import counter
from rave_cli.machines.qemu.probe import Trial, try_guest
from rave_cli.machines.qemu.program import QEMU, Kind
from rave_cli.records import RecordFormat, amend

if TYPE_CHECKING:
    from collections.abc import Callable

    from rave_cli.records import Document

    # Runs the probe's guest under an accelerator, with changes to the CPU that KVM shows it.
    Run = Callable[[Kind, tuple[str, ...]], Trial]

KVM_DEVICE = Path("/dev/kvm")
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")

# Seconds the probe's loop took under TCG on the machine that the deadlines were measured on
# (2 cores of an AMD EPYC, QEMU 7.2.22). Deadlines grow with the ratio of today's figure to this.
REFERENCE_LOOP = 0.064

# Which way of asking gave an answer; a new one asks again.
PROBE = "3"

# Where one accelerator takes less than this times as long as the other, a busy host may have
# decided: both run once more, and the better run of each counts.
CLOSE = 3.0


@dataclass(frozen=True)
class Remedy:
    """What keeps QEMU from dying under KVM: `feature` of the CPU, where it said `symptom`."""

    symptom: str
    feature: str


# Source: QEMU's target/i386/kvm/kvm.c writes MSR_IA32_ARCH_CAPABILITIES (0x10a) if its CPU model
# has the feature, and aborts where the host's KVM refuses: seen with nested KVM on AMD.
REMEDIES = (Remedy("failed to set MSR 0x10a", "-arch-capabilities"),)


@dataclass(frozen=True)
class Accelerator:
    """The accelerator that machines run with here.

    Attributes:
        kind: which.
        reason: why this one and not the other, in one line with the figures of both.
        loop_seconds: the measured time of the probe's loop.
        kvm_features: what KVM needs changed in the CPU on this host.
        seconds: how long the probe's guest took under each; None where it did not finish.
        counter_khz: how fast the counter counts that a guest under TCG has its time from; None
            where that is not known.
    """

    kind: Kind
    reason: str
    loop_seconds: float
    kvm_features: tuple[str, ...] = ()
    seconds: Mapping[str, float | None] = field(default_factory=dict)
    counter_khz: int | None = None

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


@dataclass(frozen=True)
class _Answer:
    """The probe's answer as it is kept: `key` is what it holds for."""

    key: dict[str, str | None]
    accelerator: Accelerator


def _give_figures(document: Document) -> Document:
    """Upgrade: no remedy was known, and what KVM took was not kept."""
    more = amend(document, "accelerator.kvm_features", ())
    return amend(more, "accelerator.seconds", {})


def _give_counter(document: Document) -> Document:
    """Upgrade: guests found out by themselves how fast their counter counts."""
    return amend(document, "accelerator.counter_khz", None)


# That of 0.1.0 had no version.
ANSWER = RecordFormat(
    title="the answer of the accelerator probe",
    shape=_Answer,
    version=3,
    upgrades={0: lambda document: document, 1: _give_figures, 2: _give_counter},
    unversioned=0,
)


def detect(*, fresh: bool = False) -> Accelerator:
    """Return the accelerator of this host; the answer is kept until the next boot.

    Args:
        fresh: probe again even if the answer is known.

    Raises:
        RaveError: HOST if QEMU is missing or cannot run a guest at all.
    """
    key = _key(Path(process.require(QEMU)))
    cache = paths.cache_dir() / "accelerator.json"
    known = None if fresh else _remembered(cache, key)
    if known is not None:
        return known
    found = replace(choose(try_guest, key["kvm"]), counter_khz=counter.khz())
    ANSWER.write(cache, _Answer(key=key, accelerator=found))
    return found


def choose(run: Run, kvm_fault: str | None) -> Accelerator:
    """Decide by what guests did: `run` runs one under an accelerator, with those changes to its
    CPU. `kvm_fault` says why KVM cannot even be asked, if so.

    Raises:
        RaveError: HOST if not even TCG runs the guest.
    """
    tcg = run("tcg", ())
    if tcg.total is None or tcg.loop is None:
        raise RaveError(
            f"QEMU cannot run even the smallest guest: {tcg.fault}",
            hint="rave doctor",
            exit_code=ExitCode.HOST,
        )
    if kvm_fault is not None:
        reason = f"KVM cannot be used: {kvm_fault}; TCG ran a guest in {tcg.figure}"
        return Accelerator("tcg", reason, tcg.loop, seconds={"tcg": tcg.total, "kvm": None})
    kvm, features, why = _remedied(run)
    tcg, kvm = _settled(run, tcg, kvm, features)
    return _faster(tcg, kvm, features, why)


def _remedied(run: Run) -> tuple[Trial, tuple[str, ...], str]:
    """Run the guest under KVM, with the remedy of whatever QEMU dies of; returns how that went,
    what was changed in the CPU, and why.
    """
    features: tuple[str, ...] = ()
    symptoms: tuple[str, ...] = ()
    while True:
        trial = run("kvm", features)
        said = "\n".join(trial.said)
        known = next((r for r in REMEDIES if r.symptom in said and r.feature not in features), None)
        if trial.total is not None or known is None:
            return trial, features, ", ".join(symptoms)
        features, symptoms = (*features, known.feature), (*symptoms, known.symptom)


def _settled(run: Run, tcg: Trial, kvm: Trial, features: tuple[str, ...]) -> tuple[Trial, Trial]:
    """Return both trials; where they are close, the better of two of each."""
    if tcg.total is None or kvm.total is None or tcg.total > CLOSE * kvm.total:
        return tcg, kvm
    if kvm.total > CLOSE * tcg.total:
        return tcg, kvm
    again = (run("tcg", ()), run("kvm", features))
    return _better(tcg, again[0]), _better(kvm, again[1])


def _better(one: Trial, other: Trial) -> Trial:
    done = [trial for trial in (one, other) if trial.total is not None]
    return min(done, key=lambda trial: trial.total or 0.0)


def _faster(tcg: Trial, kvm: Trial, features: tuple[str, ...], why: str) -> Accelerator:
    """Return the accelerator under which the guest took less, with the figures of both."""
    seconds = {"tcg": tcg.total, "kvm": kvm.total}
    needs = f" (with {','.join(features)}, as without it QEMU says: {why})" if features else ""
    if kvm.total is None or kvm.loop is None:
        reason = f"/dev/kvm opens but cannot run a guest{needs}: {kvm.fault}"
        if kvm.firmware is not None:
            reason += (
                f", took {kvm.firmware:.2f} s to its first letter (TCG {tcg.firmware or 0:.2f} s)"
            )
        reason += f"; TCG ran it in {tcg.figure}"
        return Accelerator("tcg", reason, tcg.loop or 0.0, features, seconds)
    if kvm.total > (tcg.total or 0.0):
        reason = f"KVM is slower than TCG here{needs}: {kvm.figure} against {tcg.figure}"
        return Accelerator("tcg", reason, tcg.loop or 0.0, features, seconds)
    reason = f"KVM ran a guest in {kvm.figure}{needs}, TCG in {tcg.figure}"
    return Accelerator("kvm", reason, kvm.loop, features, seconds)


def _kvm_fault() -> str | None:
    """Return why KVM cannot even be tried, or None."""
    try:
        os.close(os.open(KVM_DEVICE, os.O_RDWR | os.O_CLOEXEC))
    except FileNotFoundError:
        return f"there is no {KVM_DEVICE}"
    except OSError as error:
        return f"{KVM_DEVICE} cannot be opened ({error.strerror}); are you in the group kvm?"
    return None


def _key(qemu: Path) -> dict[str, str | None]:
    """Return what an answer holds for: this boot, this QEMU, this device and this way to ask."""
    return {
        "boot": BOOT_ID.read_text().strip(),
        "qemu": _fingerprint(qemu),
        "kvm": _kvm_fault(),
        "probe": PROBE,
    }


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
