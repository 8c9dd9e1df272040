"""What this host has and lacks: named examinations that try things rather than look for them."""

from __future__ import annotations

import os
import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from rave_cli import nixstore, paths, process
from rave_cli.errors import ExitCode, RaveError
from rave_cli.settings import find_repository

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

Status = Literal["ok", "warn", "fail", "skip"]

# MiB: the demo profile in SAFE mode with QEMU's own share, and its image with room to build it.
MEMORY_NEEDED = 2048 + 640
DISK_NEEDED = 8 * 1024

# Unix socket addresses are 108 bytes with their NUL (unix(7)); the longest name of ours is
# "/" + a machine name of 63 + "/events.sock".
SOCKET_ROOM = 107 - 64 - len("/events.sock")


@dataclass(frozen=True)
class Diagnosis:
    """What one examination found. `fix` is a command that mends it, where there is one."""

    id: str
    status: Status
    detail: str
    fix: tuple[str, ...] = ()

    @property
    def document(self) -> dict[str, object]:
        """What `--json` carries."""
        return {"id": self.id, "status": self.status, "detail": self.detail, "fix": list(self.fix)}


def examine(names: Iterable[str] = ()) -> list[Diagnosis]:
    """Run the named examinations, or all, in the order of EXAMINATIONS.

    Raises:
        RaveError: USAGE for an unknown name.
    """
    wanted = list(names) or list(EXAMINATIONS)
    for name in wanted:
        if name not in EXAMINATIONS:
            raise RaveError(
                f"there is no examination {name!r}",
                hint=f"rave doctor [{'|'.join(EXAMINATIONS)}]",
                exit_code=ExitCode.USAGE,
            )
    return [_guarded(name) for name in EXAMINATIONS if name in wanted]


def mend(findings: Iterable[Diagnosis], on_fix: Callable[[Diagnosis], None]) -> list[Diagnosis]:
    """Run the fix of everything that is not ok, then examine those again."""
    again = []
    for finding in findings:
        if finding.status == "ok" or not finding.fix:
            continue
        on_fix(finding)
        process.run(finding.fix, env={"DEBIAN_FRONTEND": "noninteractive"}, timeout=900)
        again.append(finding.id)
    return examine(again) if again else []


def _guarded(name: str) -> Diagnosis:
    """Run one examination; a RaveError is its finding."""
    try:
        return EXAMINATIONS[name]()
    except RaveError as error:
        hint = f" ({error.hint})" if error.hint else ""
        return Diagnosis(name, "fail", f"{error.message}{hint}")


def _packages() -> Diagnosis:
    missing = _missing(process.APT_PACKAGE)
    if not missing:
        return Diagnosis(
            "packages", "ok", f"all {len(process.APT_PACKAGE)} host programs are there"
        )
    return Diagnosis("packages", "fail", f"missing: {', '.join(missing)}", _install(missing))


def _test_packages() -> Diagnosis:
    """Ask for what `make test` needs besides; nobody but a contributor misses it."""
    here = paths.working_dir()
    checkout = find_repository(here) if here else None
    if checkout is None:
        return Diagnosis("test-packages", "skip", "not inside a checkout, so there are no tests")
    wanted = process.read_packages((checkout / "infra/host/test-packages").read_text())
    missing = _missing(wanted)
    if not missing:
        return Diagnosis(
            "test-packages", "ok", f"all {len(wanted)} programs of `make test` are there"
        )
    detail = f"`make test` needs besides: {', '.join(missing)}"
    return Diagnosis("test-packages", "warn", detail, _install(missing))


def _missing(wanted: Mapping[str, str]) -> dict[str, str]:
    """Return the tools that are not there, with their packages; a path is a file to look for."""
    return {
        tool: package
        for tool, package in sorted(wanted.items())
        if not (Path(tool).exists() if tool.startswith("/") else process.find(tool))
    }


def _install(missing: Mapping[str, str]) -> tuple[str, ...]:
    packages = sorted(set(missing.values()))
    install = ("apt-get", "install", "--yes", "--no-install-recommends", *packages)
    return install if os.getuid() == 0 else ("sudo", "-n", *install)


def _nix() -> Diagnosis:
    from rave_cli.images import nix

    return Diagnosis("nix", "ok", nix.describe())


def _accelerator() -> Diagnosis:
    from rave_cli.machines.qemu import accelerator

    found = accelerator.detect(fresh=True)
    status: Status = "ok" if found.kind == "kvm" else "warn"
    return Diagnosis("accelerator", status, f"{found.kind}: {found.reason}")


def _caps() -> Diagnosis:
    from rave_cli.machines.qemu import caps

    why = caps.no_manager()
    if why is None:
        return Diagnosis("caps", "ok", "systemd caps memory, CPU and tasks of each QEMU")
    return Diagnosis("caps", "warn", f"{why}: only the guest's own memory size limits QEMU")


def _memory() -> Diagnosis:
    lines = Path("/proc/meminfo").read_text().splitlines()
    available = next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
    free = available // 1024
    status: Status = "ok" if free >= MEMORY_NEEDED else "fail"
    return Diagnosis("memory", status, f"{free} MiB available, demo needs {MEMORY_NEEDED} MiB")


def _disk() -> Diagnosis:
    places = {
        _existing(place) for place in (paths.data_dir(), paths.cache_dir(), nixstore.directory())
    }
    free = {place: shutil.disk_usage(place).free // 2**20 for place in sorted(places)}
    worst = min(free, key=lambda place: free[place])
    status: Status = "ok" if free[worst] >= DISK_NEEDED else "fail"
    detail = f"{free[worst]} MiB free at {worst}, demo needs up to {DISK_NEEDED} MiB"
    return Diagnosis("disk", status, detail)


def _existing(place: Path) -> Path:
    return next(path for path in (place, *place.parents) if path.exists())


def _runtime() -> Diagnosis:
    place = paths.private_dir(paths.runtime_dir())
    if len(os.fsencode(place)) > SOCKET_ROOM:
        return Diagnosis("runtime", "fail", f"{place} is too long for the sockets of machines")
    return Diagnosis("runtime", "ok", f"{place} is private")


def _sops() -> Diagnosis:
    from rave_cli.secrets import sops

    report = sops.report()
    detail = f"sops {report.version} from {report.tool.origin} ({report.tool.path})"
    if report.warnings:
        return Diagnosis("sops", "warn", "; ".join((detail, *report.warnings)))
    return Diagnosis("sops", "ok", detail)


def _identity() -> Diagnosis:
    from rave_cli.secrets import identity

    try:
        keys = identity.find()
    except RaveError as error:
        hint = error.hint or ""
        fix = tuple(shlex.split(hint)) if hint.startswith("chmod ") else ()
        return Diagnosis("identity", "fail", error.message, fix)
    if keys is None:
        place = identity.key_file()
        return Diagnosis("identity", "skip", f"no age identity at {place} yet: rave secrets init")
    return Diagnosis("identity", "ok", f"age identity: {keys.tried}")


def _signing() -> Diagnosis:
    from rave_cli.transcript import signing

    place = signing.default_path()
    if not place.exists():
        return Diagnosis(
            "signing", "skip", f"no signing key at {place} yet: rave smoke run makes it"
        )
    signing.load(place)
    return Diagnosis("signing", "ok", f"signing key at {place}")


EXAMINATIONS: Mapping[str, Callable[[], Diagnosis]] = {
    "packages": _packages,
    "test-packages": _test_packages,
    "nix": _nix,
    "accelerator": _accelerator,
    "caps": _caps,
    "memory": _memory,
    "disk": _disk,
    "runtime": _runtime,
    "sops": _sops,
    "identity": _identity,
    "signing": _signing,
}
