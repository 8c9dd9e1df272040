"""What a machine is: its frozen specification, its name rule and the places of its files."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path  # noqa: TC003 - the store reads the annotations
from typing import TYPE_CHECKING, Annotated, Literal

from rave_cli import paths
from rave_cli.errors import ExitCode, RaveError
from rave_cli.images.manifest import PLAN, Image, PlainName
from rave_cli.profiles.names import Mode  # noqa: TC001 - the store reads the annotations
from rave_cli.shapes import Matches

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rave_cli.profiles.catalog import Plan

Network = Literal["isolated", "nat"]

# The rule of a DNS label, so that a name can be a host name, a file name and a unit name.
NAME_RULE = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")

SSH_PORT = 22

# The host of a machine's public origin, unless it was given one of its own.
HOME = "rave.localhost"

# Least memory in MiB with which a Linux guest with systemd gets as far as saying what is wrong.
LEAST_MEMORY = 256

# Size in GiB of the second disk of a machine that has one: a running guest does not look again.
CACHE_GIB = 4


@dataclass(frozen=True, order=True)
class Forward:
    """A TCP port of the host's loopback that leads to one of the guest; host 0 means any free."""

    host: int
    guest: int

    def __str__(self) -> str:
        return f"{self.host}:{self.guest}"


@dataclass(frozen=True)
class TemplateOrigin:
    """The template that a machine was made from: its digest, and size in bytes and time of the last
    change, in nanoseconds, of its disk, on which the machine's own builds.
    """

    digest: str
    disk: tuple[int, int]


@dataclass(frozen=True)
class MachineSpec:
    """Everything that defines a machine. Memory in MiB, disk in GiB.

    A `protected` machine is not deleted. `renamed_to` is the name that it is about to get: once its
    directory has it, that is its name. `template` is None for one that was made from its image.

    `pages` is what leads to its pages, with the host's port that it keeps over its starts; None if
    it has none, or has not been started since machines keep one. `own_origin` is the public origin
    that was asked for; None takes the host's own name and that port (public.py). `has_cache` says
    that it has a disk which can outlive it (pool/files/caches.py). `data_of` is the machine id of
    whom its data disk says to be before it first boots, if it is a copy of another's.
    """

    name: PlainName
    uuid: str
    instance_id: PlainName
    profile: PlainName
    base: PlainName
    mode: Mode
    memory_mib: int
    cpus: int
    disk_gib: int
    forwards: tuple[Forward, ...]
    network: Network
    image: Image
    protected: bool = False
    renamed_to: str | None = None
    template: TemplateOrigin | None = None
    pages: Forward | None = None
    own_origin: str | None = None
    has_cache: bool = False
    data_of: Annotated[str, Matches(r"[0-9a-f]{32}")] | None = None

    @property
    def has_data(self) -> bool:
        """Whether it has a data disk: then that of its system is disposable, and `disk_gib` is the
        size of the data disk.
        """
        return self.image.data is not None

    @property
    def public_origin(self) -> str | None:
        """Scheme, host and port under which people open its pages; None if it has none yet."""
        if self.own_origin is not None or self.pages is None:
            return self.own_origin
        return f"https://{HOME}:{self.pages.host}"

    @property
    def public_host(self) -> str:
        """The name in its public origin."""
        return (self.public_origin or HOME).removeprefix("https://").partition(":")[0]

    @property
    def leading(self) -> tuple[Forward, ...]:
        """The forwards with which it starts: as they were asked for, and to its pages the port that
        it keeps.
        """
        kept = {} if self.pages is None else {Forward(0, self.pages.guest): self.pages}
        return tuple(kept.get(forward, forward) for forward in self.forwards)

    @property
    def machine_id(self) -> str:
        """What the guest has in /etc/machine-id."""
        return self.uuid.replace("-", "")

    @property
    def mac(self) -> str:
        """The address of its network card: QEMU's prefix, and the end of the uuid."""
        return ":".join(("52:54:00", *(self.uuid[at : at + 2] for at in (30, 32, 34))))


@dataclass(frozen=True)
class Machine:
    """A machine that exists: its specification and where its files are."""

    spec: MachineSpec
    directory: Path
    runtime: Path

    @property
    def name(self) -> str:
        """The machine's name."""
        return self.spec.name

    @property
    def alias(self) -> str:
        """The name under which the host key is pinned, whatever the port of today."""
        return alias(self.name)

    @property
    def disk(self) -> Path:
        """The qcow2 overlay on the read-only image: the disk of its system."""
        return self.directory / "disk.qcow2"

    @property
    def data_disk(self) -> Path:
        """What its services keep, of a machine that has a disk for that."""
        return self.directory / "data.qcow2"

    @property
    def disks(self) -> tuple[Path, ...]:
        """The disks that make the machine what it is."""
        return (self.disk, self.data_disk) if self.spec.has_data else (self.disk,)

    @property
    def base_disk(self) -> Path:
        """The template's disk, of a machine that was made from one: a second name of that file."""
        return self.directory / "base.qcow2"

    @property
    def base_data(self) -> Path:
        """The template's data disk, in the same way."""
        return self.directory / "base-data.qcow2"

    @property
    def cache_disk(self) -> Path:
        """The disk of a cache, of a machine that has one."""
        return self.directory / "cache.qcow2"

    @property
    def restoring(self) -> Path:
        """A mark that is there until a guest which is restored from a template is itself."""
        return self.directory / "restoring"

    @property
    def half_restored(self) -> Path:
        """The name of a snapshot while some of the disks are its and others those of before."""
        return self.directory / "half-restored"

    @property
    def suspended(self) -> Path:
        """Directory of the saved memory of a machine that is suspended; see saved.py."""
        return self.directory / "suspended"

    @property
    def plan(self) -> Path:
        """The image's plan (images/carried.py); a machine made by rave 0.1.0 has none."""
        return self.directory / PLAN

    @property
    def image_root(self) -> Path:
        """A link to the image's Nix output, which keeps it from Nix's garbage collection."""
        return self.directory / "image"

    @property
    def identity(self) -> Path:
        """Directory of the host key, the login key and the age identity."""
        return self.directory / "identity"

    @property
    def host_key(self) -> Path:
        """The guest's SSH host key (private, OpenSSH format)."""
        return self.identity / "ssh_host_ed25519_key"

    @property
    def login_key(self) -> Path:
        """The key that logs in to the guest (private, OpenSSH format)."""
        return self.identity / "id_ed25519"

    @property
    def age_key(self) -> Path:
        """The age identity file of the machine, as `age-keygen` writes it."""
        return self.identity / "age.key"

    @property
    def known_hosts(self) -> Path:
        """The one host key that this machine may show."""
        return self.directory / "known_hosts"

    @property
    def console_log(self) -> Path:
        """What the guest printed on its serial console since the last start."""
        return self.directory / "console.log"

    @property
    def qemu_log(self) -> Path:
        """What QEMU itself said since the last start."""
        return self.directory / "qemu.log"

    @property
    def qmp_socket(self) -> Path:
        """QEMU's monitor for commands."""
        return self.runtime / "qmp.sock"

    @property
    def event_socket(self) -> Path:
        """QEMU's second monitor, kept by whoever waits for the boot."""
        return self.runtime / "events.sock"

    @property
    def way_socket(self) -> Path:
        """The host's end of the way in that no ban closes."""
        return self.runtime / "way.sock"

    @property
    def command_socket(self) -> Path:
        """The host's end of the command channel: whoever can open it is root in the guest."""
        return self.runtime / "command.sock"

    @property
    def pool_socket(self) -> Path:
        """The host's end of the port at which the guest asks for jobs of the pool."""
        return self.runtime / "pool.sock"

    @property
    def stage_file(self) -> Path:
        """What the guest reported on `org.rave.ready` since the last start."""
        # There rave 0.1.0 put it; such a machine may still run.
        before = self.runtime / "stages.jsonl"
        return before if before.exists() else self.directory / "stages.jsonl"

    @property
    def console(self) -> Path:
        """The name of the guest's console for QEMU, which adds `.in` and `.out` for its pipes."""
        return self.runtime / "console"

    @property
    def console_pipe(self) -> Path:
        """What QEMU writes the guest's console into."""
        return self.runtime / "console.out"

    @property
    def console_keys(self) -> Path:
        """What QEMU reads as typed at the guest's console."""
        return self.runtime / "console.in"

    @property
    def stage_pipe(self) -> Path:
        """What QEMU writes the guest's reports into."""
        return self.runtime / "stages.pipe"

    @property
    def qemu_pipe(self) -> Path:
        """What QEMU writes its own words into."""
        return self.runtime / "qemu.pipe"

    @property
    def credentials(self) -> Path:
        """Directory of the SMBIOS blobs that QEMU reads once, while it starts."""
        return self.runtime / "credentials"


def alias(name: str) -> str:
    """Return the name under which the host key of the machine `name` is pinned."""
    return f"rave-{name}"


def check_name(name: str) -> str:
    """Return `name` if it may be a machine's name.

    Raises:
        RaveError: USAGE if it does not follow the rule.
    """
    if NAME_RULE.fullmatch(name) is None:
        raise RaveError(
            f"{name!r} cannot be a machine's name: use 1 to 63 lower-case letters, digits and"
            " dashes, with a letter or digit at both ends",
            hint="rave vm list   (names in use)",
            exit_code=ExitCode.USAGE,
        )
    return name


def machines_dir() -> Path:
    """Return the directory that holds one directory per machine."""
    return paths.data_dir() / "vms"


def locate(spec: MachineSpec) -> Machine:
    """Return the machine of a specification with the places of its files; nothing is created.

    Two data directories may each have a machine of that name, and share the runtime directory.
    """
    runtime = paths.runtime_dir() / f"{spec.name}.{spec.uuid[:8]}"
    return Machine(spec, machines_dir() / spec.name, runtime)


def parse_forward(text: str, option: str = "--port ") -> Forward:
    """Read `HOST:GUEST`, both TCP port numbers; HOST 0 means any free port. The error begins with
    `option`.

    Raises:
        RaveError: USAGE if the text is anything else.
    """
    match = re.fullmatch(r"([0-9]{1,5}):([0-9]{1,5})", text)
    if match is not None:
        host, guest = int(match[1]), int(match[2])
        if host <= 65535 and 1 <= guest <= 65535:
            return Forward(host, guest)
    raise RaveError(
        f"{option}{text!r} is not HOST:GUEST with two TCP port numbers",
        hint="rave vm launch-local --profile demo --port 8443:3002",
        exit_code=ExitCode.USAGE,
    )


def choose_forwards(plan: Plan, asked: Sequence[Forward]) -> tuple[Forward, ...]:
    """Return one forward per exposed port of the plan, with the user's own choices in place.

    Raises:
        RaveError: USAGE if a host port is asked for twice, or a guest port that the guest's
            firewall closes.
    """
    exposed = {SSH_PORT} | {port.port for port in plan.exposed if port.protocol == "tcp"}
    chosen: dict[int, Forward] = {}
    for forward in asked:
        if forward.guest not in exposed:
            open_ports = ", ".join(map(str, sorted(exposed)))
            raise RaveError(
                f"--port {forward}: the guest's firewall closes port {forward.guest}",
                hint=f"the profile {plan.profile} exposes {open_ports}; reach others through"
                " `rave vm ssh NAME -- -L HOST:localhost:GUEST`",
                exit_code=ExitCode.USAGE,
            )
        taken = [f for f in chosen.values() if forward.host and f.host == forward.host]
        other = chosen.get(forward.guest) or next(iter(taken), None)
        if other is not None:
            raise RaveError(
                f"--port {forward} is in conflict with --port {other}",
                hint="give every guest port one host port of its own; 0 means any free one",
                exit_code=ExitCode.USAGE,
            )
        chosen[forward.guest] = forward
    return tuple(chosen.get(guest, Forward(0, guest)) for guest in sorted(exposed))


def choose_resources(
    plan: Plan,
    mode: Mode,
    *,
    memory_mib: int | None = None,
    cpus: int | None = None,
    disk_gib: int | None = None,
) -> tuple[int, int, int]:
    """Return memory in MiB, CPUs and disk in GiB: the plan's for `mode`, unless overridden.

    Raises:
        RaveError: USAGE for a value no machine can run with.
    """
    planned = plan.resources.of(mode)
    memory = planned.memory_mib if memory_mib is None else memory_mib
    processors = planned.cpus if cpus is None else cpus
    disk = planned.disk_gib if disk_gib is None else disk_gib
    hint = f"leave the option out to get what the profile {plan.profile} plans"
    check_sizes(memory, processors, disk, hint=hint)
    return memory, processors, disk


def check_sizes(memory_mib: int, cpus: int, disk_gib: int, *, hint: str) -> None:
    """Refuse sizes that no machine can run with.

    Raises:
        RaveError: USAGE.
    """
    for option, value, least in (
        ("--memory", memory_mib, LEAST_MEMORY),
        ("--cpus", cpus, 1),
        ("--disk", disk_gib, 1),
    ):
        if value < least:
            raise RaveError(
                f"{option} {value} is too little: at least {least}",
                hint=hint,
                exit_code=ExitCode.USAGE,
            )
