"""What a template belongs to: a machine that differs in any of it cannot be started from it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rave_cli import process
from rave_cli.errors import ExitCode, RaveError
from rave_cli.machines import saved
from rave_cli.machines.qemu.argv import qemu_argv
from rave_cli.machines.qemu.program import QEMU, Kind  # the record reads the annotations
from rave_cli.machines.spec import Machine, TemplateOrigin

if TYPE_CHECKING:
    from rave_cli.machines.qemu.accelerator import Accelerator
    from rave_cli.machines.spec import MachineSpec

# Of how a template is made and taken up; both sides of the guest's door to it included.
FORMAT = 2

# What is one machine's own, and no template fixes.
NOBODY: dict[str, Any] = {
    "name": "template",
    "uuid": "00000000-0000-4000-8000-000000000000",
    "forwards": (),
    "network": "isolated",
    "protected": False,
    "pages": None,
    # Not the one of any machine; a copy is told its own before anything in it uses it.
    "own_origin": "https://template.invalid",
    "template": TemplateOrigin("", (0, 0)),
    "data_of": None,
}


@dataclass(frozen=True)
class TemplateKey:
    """What a template belongs to.

    Attributes:
        format: of rave's own.
        profile: the profile of its image, and `base` the base; for people.
        image: sha256 of the image's disk.
        command: digest of QEMU's command line, without what is one machine's own.
        disk_gib: size of the disk in GiB: a running guest does not look again.
        qemu: the QEMU program: its place, size in bytes, and time of its last change.
        accelerator: which it runs with.
        cpu: the host's processor, where the guest sees that.
    """

    format: int
    profile: str
    base: str
    image: str
    command: str
    disk_gib: int
    qemu: str
    accelerator: Kind
    cpu: str

    @property
    def name(self) -> str:
        """The name of its template."""
        text = json.dumps(asdict(self))
        return f"{self.profile}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def require_base(profile: str, base: str) -> None:
    """Refuse a base whose guests cannot be held.

    Raises:
        RaveError: USAGE.
    """
    if base != "debian":
        raise RaveError(
            f"machines on the base {base} are started cold: a template needs a guest that can be"
            " held, and so far debian's can",
            hint=f"rave vm launch-local --profile {profile} --base debian --warm",
            exit_code=ExitCode.USAGE,
        )


def key_of(spec: MachineSpec, found: Accelerator) -> TemplateKey:
    """Return what a template must belong to, so that such a machine can be started from it.

    Raises:
        RaveError: USAGE if there are no templates of its base; HOST if QEMU is missing.
    """
    require_base(spec.profile, spec.base)
    program = Path(process.require(QEMU)).resolve()
    stamp = program.stat()
    return TemplateKey(
        format=FORMAT,
        profile=spec.profile,
        base=spec.base,
        image=spec.image.sha256,
        command=command_digest(spec, found),
        disk_gib=spec.disk_gib,
        qemu=f"{program}:{stamp.st_size}:{stamp.st_mtime_ns}",
        accelerator=found.kind,
        cpu=saved.processor(found.kind),
    )


def command_digest(spec: MachineSpec, found: Accelerator) -> str:
    """Return a digest of QEMU's command line without what is one machine's own, or was measured."""
    anybody = Machine(replace(spec, **NOBODY), Path("/machine"), Path("/run/machine"))
    text = "\0".join(qemu_argv(anybody, replace(found, counter_khz=None)))
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()


def differences(key: TemplateKey, other: TemplateKey) -> list[str]:
    """Return in which points another key differs, for people."""
    told = {
        "format": "rave makes templates another way",
        "image": "the image is another one",
        "command": "QEMU's command line is another one (memory, CPUs, mode, an update of rave)",
        "disk_gib": f"the disk has {key.disk_gib} GiB, not {other.disk_gib}",
        "qemu": "QEMU is another one",
        "accelerator": f"the accelerator is {key.accelerator}, not {other.accelerator}",
        "cpu": "the host has another processor",
    }
    return [text for name, text in told.items() if getattr(key, name) != getattr(other, name)]
