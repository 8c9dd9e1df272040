"""What is looked at on the host: plan, specification, image, stages, QEMU's use of the host."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from typing import TYPE_CHECKING, Any

from rave_cli import process
from rave_cli.machines import certificate, status
from rave_cli.machines.guest.stages import read_events
from rave_cli.machines.qemu import accelerator, processes
from rave_cli.machines.qemu.caps import memory_ceiling
from rave_cli.paths import read_private
from rave_cli.smoke.declarations import check
from rave_cli.smoke.model import Verdict, judge

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from rave_cli.images.manifest import Image
    from rave_cli.machines.guest.stages import StageEvent
    from rave_cli.machines.qemu.program import Kind
    from rave_cli.machines.spec import Machine, MachineSpec
    from rave_cli.profiles.catalog import Plan
    from rave_cli.smoke.context import CheckContext
    from rave_cli.smoke.operator import Operator

STAGES = ("systemd", "sshd", "services")
# Seconds. Under KVM a machine of every profile is up within a minute.
BOOT_LIMIT = 60.0


@check("configuration.plan", phase="configuration", viewpoint="host",
       title="the plan is free of contradictions")  # fmt: skip
def plan(context: CheckContext) -> Verdict:
    """No two services share a port, and every secret and database of a service is in the plan."""
    return judge_plan(context.plan)


def judge_plan(plan: Plan) -> Verdict:
    """Look for contradictions within a plan."""
    users = Counter(p.port for s in plan.services.values() for p in s.ports)
    problems = [f"port {port} is used {count} times" for port, count in users.items() if count > 1]
    for name, service in plan.services.items():
        problems += [f"{name} needs the secret {s}, which the plan lacks"
                     for s in service.secrets if s not in plan.secrets]  # fmt: skip
    for database in plan.databases:
        if database.secret not in plan.secrets:
            problems.append(f"the role {database.role} needs {database.secret}")
    ids = Counter(check.id for check in plan.checks)
    problems += [f"the check {id_} comes {count} times" for id_, count in ids.items() if count > 1]
    if not plan.services:
        problems.append("no service")
    good = f"{len(plan.services)} services, {len(plan.secrets)} secrets, {len(ids)} health checks"
    return judge(problems, good)


@check("configuration.resources", phase="configuration", viewpoint="host",
       title="the machine has what its mode allows, no more")  # fmt: skip
def resources(context: CheckContext) -> Verdict:
    """The machine was specified with what its mode plans."""
    return judge_resources(context.machine.spec, context.plan)


def judge_resources(spec: MachineSpec, plan: Plan) -> Verdict:
    """Compare a specification with the plan's resources for its mode."""
    planned = plan.resources.of(spec.mode)
    figures = {"memory_mib": spec.memory_mib, "cpus": spec.cpus, "disk_gib": spec.disk_gib}
    text = f"{spec.memory_mib} MiB, {spec.cpus} CPUs, {spec.disk_gib} GiB in {spec.mode} mode"
    over = [
        f"{name} {value} instead of {getattr(planned, name)}"
        for name, value in figures.items()
        if value > getattr(planned, name)
    ]
    if over:
        return Verdict("warn", f"more than {spec.mode} mode plans: {', '.join(over)}", figures)
    return Verdict("pass", text, figures)


@check("configuration.secrets-file", phase="configuration", viewpoint="host",
       title="the operator's secrets file is valid")  # fmt: skip
def secrets_file(context: CheckContext) -> Verdict:
    """The operator's secrets file is fit for use."""
    operator = context.operator
    if operator.missing is not None and not operator.problems:
        return Verdict("skip", operator.missing)
    return judge(list(operator.problems), f"{len(operator.values)} secrets, all findings clear")


def digest(image: Image) -> str:
    """Return the sha256 of the image's bytes, in hex.

    Raises:
        OSError: the image cannot be read.
    """
    with image.qcow2.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@check("image.integrity", phase="image", viewpoint="host", step="image",
       title="the image has the sha256 of its manifest")  # fmt: skip
def integrity(context: CheckContext) -> Verdict:
    """The bytes of the image have the sha256 that was noted when it was built."""
    return judge_digest(context.image, context.keep_digest("before", digest(context.image)))


def judge_digest(image: Image, found: str) -> Verdict:
    """Compare the sha256 that was found with the manifest's."""
    problems = [] if found == image.sha256 else [f"sha256 {found[:12]}…, not {image.sha256[:12]}…"]
    return judge(problems, f"sha256:{found}", sha256=found)


@check("image.read-only", phase="image", viewpoint="host",
       title="nobody can write to the image")  # fmt: skip
def read_only(context: CheckContext) -> Verdict:
    """No write bit on the image, which lies in the Nix store."""
    mode = context.image.qcow2.stat().st_mode & 0o777
    problems = [f"its mode is {mode:04o}"] if mode & 0o222 else []
    if not str(context.image.qcow2.resolve()).startswith(
        context.image.store_path.rstrip("/") + "/"
    ):
        problems.append(f"it is not in {context.image.store_path}")
    return judge(problems, f"mode {mode:04o} in {context.image.store_path}")


@check("image.overlay", phase="image", viewpoint="host",
       title="the machine's disk is an overlay on exactly this image",
       figures={"bytes": "overlay_bytes"})  # fmt: skip
def overlay(context: CheckContext) -> Verdict:
    """Ask qemu-img what lies below the machine's disk."""
    argv = ["qemu-img", "info", "-U", "--backing-chain", "--output=json", str(context.machine.disk)]
    done = process.run(argv, timeout=20)
    if not done.ok:
        return Verdict("error", " ".join(done.tail(1)))
    own = context.machine
    between = () if own.spec.template is None else (own.base_disk,)
    return judge_overlay(json.loads(done.stdout), context.image.qcow2, between)


def judge_overlay(
    chain: list[dict[str, Any]], image: Path, between: tuple[Path, ...] = ()
) -> Verdict:
    """Read `qemu-img info --backing-chain --output=json`, the disk first. `between` is the disk of
    the template that the machine was made of; a fresh system lies on the image alone.
    """
    named = [info.get("full-backing-filename", info.get("backing-filename")) for info in chain]
    below = [place for place in named if place is not None]
    through = "through that of its template, " if len(below) > 1 else ""
    wanted = [str(place) for place in (*(between if through else ()), image)]
    problems = [] if below == wanted else [f"it lies on {' on '.join(below) or None}"]
    size = int(chain[0].get("actual-size", 0))
    return judge(problems, f"on the image, {through}{size >> 20} MiB of its own", bytes=size)


@check("image.unchanged", phase="image", viewpoint="host", step="image-end",
       title="the image is the same after the run", needs=("image.integrity",))  # fmt: skip
def unchanged(context: CheckContext) -> Verdict:
    """The image has the sha256 that it had at the beginning of the run."""
    after = context.keep_digest("after", digest(context.image))
    return judge_change(context.digests["before"], after)


def judge_change(before: str, after: str) -> Verdict:
    """Compare the image's sha256 at the beginning and at the end of the run."""
    problems = [] if before == after else [f"it was {before[:12]}… and is {after[:12]}… now"]
    return judge(problems, "the same sha256 before and after")


@check("boot.stages", phase="boot", viewpoint="host",
       title="the guest reported every stage under its own instance id",
       figures={"uptimes": "stage_seconds"})  # fmt: skip
def stages(context: CheckContext) -> Verdict:
    """The reports of the guest since the machine started. One that was started from a template, or
    went on from such a memory, has not booted: what was not seen is not claimed.
    """
    events = read_events(context.machine.stage_file)
    if (unseen := not_booted(context.machine, events)) is not None:
        return unseen
    return judge_stages(events, context.machine.spec.instance_id)


def not_booted(machine: Machine, events: Sequence[StageEvent]) -> Verdict | None:
    """Return the verdict on the boot of a machine that was started from a template, or went on from
    its memory, and has not been booted since; None of any other.
    """
    seen = {event.stage for event in events}
    origin = status.origin_of(machine)
    if origin in {"", "cold"} or "systemd" in seen:
        return None
    began = origin if origin == "resumed" else f"started from {origin}"
    unseen = [stage for stage in STAGES if stage not in seen]
    return Verdict("skip", f"not booted but {began}: {', '.join(unseen)} not seen")


def judge_stages(events: Sequence[StageEvent], instance: str) -> Verdict:
    """Read the reports: all stages, of this instance, in time order, no failure among them."""
    own = [event for event in events if event.instance == instance]
    seen = [event.stage for event in own]
    problems = [f"no report of {stage}" for stage in STAGES if stage not in seen]
    problems += [f"the guest failed: {e.reason}" for e in own if e.stage == "failed"]
    if len(own) != len(events):
        problems.append("another instance reported on this machine's port")
    uptimes = [event.uptime for event in own]
    if uptimes != sorted(uptimes):
        problems.append("the clock of the guest ran backwards")
    # The guest reports its services again when a verdict changes; the boot ended with the first.
    first = {event.stage: event for event in reversed(own)}
    if "services" in first:
        problems += [f"{name} was not healthy" for name in first["services"].failed_services]
    figures = {stage: first[stage].uptime for stage in dict.fromkeys(seen)}
    shown = ", ".join(f"{stage} {uptime:.1f} s" for stage, uptime in figures.items())
    return judge(problems, shown, uptimes=figures)


@check("performance.boot", phase="performance", viewpoint="host",
       title="every service was healthy within 60 s of the start",
       figures={"seconds": "services_healthy_seconds", "services": "service_seconds"})  # fmt: skip
def boot_time(context: CheckContext) -> Verdict:
    """When the last service of the profile became healthy, on the guest's clock."""
    reports = read_events(context.machine.stage_file)
    if (unseen := not_booted(context.machine, reports)) is not None:
        return unseen
    events = [e for e in reports if e.stage == "services"]
    if not events:
        return Verdict("error", "the guest did not report its services")
    return judge_boot(events[0], accelerator.detect().kind)


def judge_boot(event: StageEvent, kind: Kind) -> Verdict:
    """Read the report of the services. The limit is promised for KVM alone."""
    late = f"{event.uptime:.1f} s, more than {BOOT_LIMIT:.0f}"
    if event.uptime > BOOT_LIMIT and kind == "tcg":
        return Verdict("warn", f"{late}; the limit is promised for KVM, and this is TCG")
    problems = [late] if event.uptime > BOOT_LIMIT else []
    slowest = sorted(event.service_uptimes.items(), key=lambda item: -item[1])[:3]
    names = ", ".join(f"{name} {seconds:.1f}" for name, seconds in slowest)
    return judge(problems, f"{event.uptime:.1f} s; last: {names}", seconds=event.uptime,
                 services=event.service_uptimes)  # fmt: skip


@check("performance.qemu", phase="performance", viewpoint="host", step="end",
       title="QEMU uses the guest's memory and little more",
       figures={"resident_mib": "qemu_resident_mib"})  # fmt: skip
def qemu_memory(context: CheckContext) -> Verdict:
    """What QEMU holds of the host's memory."""
    found = processes.find(context.machine)
    if found is None:
        return Verdict("error", "QEMU is gone")
    ceiling = memory_ceiling(context.machine.spec, found.accelerator)
    return judge_resident(found.resident_mib, context.machine.spec.memory_mib, ceiling)


def judge_resident(resident_mib: int, memory_mib: int, most: int) -> Verdict:
    """Compare QEMU's resident memory with what the guest's and its own may come to, in MiB."""
    problems = [f"{resident_mib} MiB, more than {most}"] if resident_mib > most else []
    return judge(problems, f"{resident_mib} MiB for a guest of {memory_mib}",
                 resident_mib=resident_mib)  # fmt: skip


@check("performance.image", phase="performance", viewpoint="host",
       title="the image is no larger than a quarter of its disk",
       figures={"bytes": "image_bytes"})  # fmt: skip
def image_size(context: CheckContext) -> Verdict:
    """The size of the image against the disk of its machine."""
    return judge_size(context.image.size, context.machine.spec.disk_gib)


def judge_size(size: int, disk_gib: int) -> Verdict:
    """Compare the image's bytes with a quarter of the machine's disk."""
    most = disk_gib << 28
    problems = [f"{size >> 20} MiB, more than {most >> 20}"] if size > most else []
    return judge(problems, f"{size >> 20} MiB", bytes=size)


@check("networking.outward", phase="health", viewpoint="host", step="traces",
       title="listeners on the host hear nothing from the guest",
       needs=("networking.isolation",))  # fmt: skip
def decoys(context: CheckContext) -> Verdict:
    """The listeners that were held open heard nothing; then prove that they could have."""
    import socket

    visits = {f"{d.seen[0]}:{d.seen[1]}": d.visits() for d in context.decoys}
    deaf = []
    for decoy in context.decoys:
        with socket.create_connection(decoy.address, 2):
            if decoy.visits() != 1:
                deaf.append(f"the listener on {decoy.address[0]} does not hear anybody")
    return judge_decoys(visits, deaf)


def judge_decoys(visits: dict[str, int], deaf: list[str]) -> Verdict:
    """Read the connections per listener, and the listeners that proved unable to hear."""
    if not visits or deaf:
        return Verdict("error", "; ".join(deaf) or "no listener could be held open")
    problems = [f"{count} connections arrived at {name}" for name, count in visits.items() if count]
    return judge(problems, f"{len(visits)} listeners that work heard nothing", visits=visits)


def secret_names(plan: Plan) -> tuple[str, ...]:
    """Return the secrets whose values must stay hidden: all but certificates, which are public."""
    return tuple(n for n, s in plan.secrets.items() if s.generate["kind"] != "tls-certificate")


def hidden(plan: Plan, operator: Operator, machine: Machine) -> dict[str, str]:
    """Return the values that must turn up nowhere, by name: the operator's, and the private keys
    the machine was given. Without the operator's there is nothing: half a search proves nothing.

    Raises:
        RaveError: SECRETS if a key of the machine must not be trusted; HOST if it cannot be read.
    """
    found = {name: operator.values[name] for name in secret_names(plan) if name in operator.values}
    if not found:
        return {}
    for name, path in (("host key", machine.host_key), ("login key", machine.login_key)):
        found[f"machine/{name}"] = private_part(read_private(path).decode())
    found["machine/age key"] = read_private(machine.age_key).decode().strip().splitlines()[-1]
    if (shown := certificate.stored(machine)) is not None:
        found["machine/certificate key"] = "\n".join(shown.key.strip().splitlines()[1:-1])
    return found


def private_part(pem: str) -> str:
    """Return the lines of an OpenSSH Ed25519 key file that hold its seed.

    The first two of the five say what kind of key it is and repeat the public half (PROTOCOL.key
    of OpenSSH), which is no secret.
    """
    lines = [line for line in pem.strip().splitlines() if not line.startswith("-----")]
    return "\n".join(lines[2:])
