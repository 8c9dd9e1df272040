"""The QEMU that rave runs, and the CPU that it shows a guest under each accelerator."""

from __future__ import annotations

from typing import Literal

Kind = Literal["kvm", "tcg"]

QEMU = "qemu-system-x86_64"


def cpu_model(kind: Kind) -> str:
    """Return the CPU a guest sees.

    Under KVM the host's own. Under TCG features cost time: the demo guest took 13.0 s to boot with
    `max` and 10.5 s with `qemu64`. The four instruction sets that `qemu64` lacks of x86-64-v2,
    which software from outside a distribution is often built for, cost nothing measurable (20.5 s
    of CPU time each way). SVM would only make guests load KVM in vain.
    """
    return "host" if kind == "kvm" else "qemu64,-svm,+ssse3,+sse4.1,+sse4.2,+popcnt"
