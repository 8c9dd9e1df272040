"""The QEMU that rave runs, and the CPU that it shows a guest under each accelerator."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence

Kind = Literal["kvm", "tcg"]

QEMU = "qemu-system-x86_64"


def cpu_model(kind: Kind, kvm_features: Sequence[str] = ()) -> str:
    """Return the CPU a guest sees; `kvm_features` are what KVM needs changed in it on this host.

    Under KVM it is the host's own. Under TCG features cost time: the demo guest took 13.0 s to boot
    with `max` and 10.5 s with `qemu64`. The four instruction sets that `qemu64` lacks of x86-64-v2,
    which software from outside a distribution is often built for, cost nothing measurable (20.5 s
    of CPU time each way). SVM would only make guests load KVM in vain.
    """
    if kind == "kvm":
        return ",".join(("host", *kvm_features))
    return "qemu64,-svm,+ssse3,+sse4.1,+sse4.2,+popcnt"
