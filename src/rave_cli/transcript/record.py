"""What a run is about, and what it found: the values from which the transcript is written."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rave_cli.transcript.check import CheckResult, Status

RunStatus = Literal["SUCCESS", "WARNING", "FAILED", "ABORTED"]

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
SHA256 = re.compile(r"[0-9a-f]{64}")
SRI_SHA256 = re.compile(r"sha256-[A-Za-z0-9+/]{43}=")
# An OpenPGP key of version 4 (RFC 4880, 12.2).
FINGERPRINT = re.compile(r"[0-9A-F]{40}")


@dataclass(frozen=True)
class MachineRecord:
    """The machine that was checked.

    Args:
        name: its name.
        instance: the id that a machine gets when it is made; no other one ever has it.
        network: `isolated` or `nat`.
    """

    name: str
    instance: str
    network: str

    def __post_init__(self) -> None:
        _check_names(name=self.name, instance=self.instance, network=self.network)


@dataclass(frozen=True)
class ImageRecord:
    """The image the machine was made from, as its build described it.

    Args:
        name: file name of the qcow2.
        sha256: hex digest of the qcow2.
        store_path: the Nix output that holds it.
        nar_hash: the output's narHash, as Nix writes it (`sha256-…`).
    """

    name: str
    sha256: str
    store_path: str
    nar_hash: str

    def __post_init__(self) -> None:
        if not SHA256.fullmatch(self.sha256):
            raise ValueError(f"{self.sha256!r} is not a sha256 in hex")
        if not SRI_SHA256.fullmatch(self.nar_hash):
            raise ValueError(f"{self.nar_hash!r} is not a narHash of the form sha256-<base64>")


@dataclass(frozen=True)
class PackageOrigin:
    """Which packages an image was assembled from, and whom its build trusted for them.

    Args:
        lock: sha256 in hex of the lock of its packages; None if its output holds none, as on a base
            whose packages the flake's lock pins, or one that does not say whom it trusted.
        trusted: fingerprints of the archive keys that counted beside the distribution's, sorted.
    """

    lock: str | None
    trusted: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.lock is not None and not SHA256.fullmatch(self.lock):
            raise ValueError(f"{self.lock!r} is not a sha256 in hex")
        for key in self.trusted:
            if not FINGERPRINT.fullmatch(key):
                raise ValueError(f"{key!r} is not the fingerprint of an OpenPGP key")
        if list(self.trusted) != sorted(set(self.trusted)):
            raise ValueError("the trusted keys are not sorted, or one comes twice")


@dataclass(frozen=True)
class RunSubject:
    """What a run is about, known before its first check and written to the event log first.

    Args:
        profile: profile of the machine.
        base: base of the image.
        mode: `safe` or `full`.
        machine: the machine.
        image: the image it was made from.
        packages: what the image was assembled from; None in the second format, which does not say.
        tools: version of each tool used, by name.
        configuration: sha256 in hex of each thing that configured the run, by name (flake.lock,
            the plan, the suite).
        checks: ids of all checks, in the order of the suite, asked or not.
    """

    profile: str
    base: str
    mode: str
    machine: MachineRecord
    image: ImageRecord
    packages: PackageOrigin | None
    tools: Mapping[str, str]
    configuration: Mapping[str, str]
    checks: tuple[str, ...]

    def __post_init__(self) -> None:
        _check_names(profile=self.profile, base=self.base, mode=self.mode)
        check_digests(self.configuration)
        twice = [id_ for id_, n in Counter(self.checks).items() if n > 1]
        if twice:
            raise ValueError(f"check ids appear twice: {', '.join(twice)}")

    def document(self) -> dict[str, Any]:
        """Return it as JSON data, as the event log holds it."""
        return {k: v for k, v in asdict(self).items() if k != "packages" or v is not None}


@dataclass(frozen=True)
class ImageDigests:
    """The qcow2's sha256 in hex before the checks and after them, as it was read."""

    before: str
    after: str

    def __post_init__(self) -> None:
        for digest in (self.before, self.after):
            if not SHA256.fullmatch(digest):
                raise ValueError(f"{digest!r} is not a sha256 in hex")


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """Everything a run found; session, times and digests of the log come from the event log.

    No field has a default: one that is forgotten is a fault.

    Args:
        subject: what the run is about.
        checks: every check with its verdict, skipped ones included, in the suite's order.
        digests: what was read of the image; only an aborted run may have none.
        guest_boot_id: /proc/sys/kernel/random/boot_id of the guest, as text.
        system_info: facts about the host and the machine (hostname, kernel, arch, accelerator...).
        service_health: per service, what was found; see `skipped` for parts that do not exist.
        authentication_tests: the same for sign-in.
        agent_control_tests: the same for chat control of agents.
        sandbox_tests: the same for sandbox provisioning.
        performance_metrics: figures by name, with the unit in the name.
        security_validation: what the security phase found.
        aborted: why the run did not complete; None if it did.
    """

    subject: RunSubject
    checks: tuple[CheckResult, ...]
    digests: ImageDigests | None
    guest_boot_id: str | None
    system_info: Mapping[str, object]
    service_health: Mapping[str, object]
    authentication_tests: Mapping[str, object]
    agent_control_tests: Mapping[str, object]
    sandbox_tests: Mapping[str, object]
    performance_metrics: Mapping[str, object]
    security_validation: Mapping[str, object]
    aborted: str | None

    def __post_init__(self) -> None:
        ids = tuple(check.id for check in self.checks)
        if self.aborted is None and ids != self.subject.checks:
            raise ValueError("the checks of a run that completed are not those of its suite")
        if self.digests is None and self.aborted is None:
            raise ValueError("a run that completed has read its image")

    @property
    def status(self) -> RunStatus:
        """The verdict on the run; a run in which nothing passed is a failed one."""
        if self.aborted is not None:
            return "ABORTED"
        return overall_status([check.status for check in self.checks])


def overall_status(statuses: Sequence[Status]) -> RunStatus:
    """Return the verdict on a completed run from the verdicts of its checks."""
    if "fail" in statuses or "error" in statuses or "pass" not in statuses:
        return "FAILED"
    return "WARNING" if "warn" in statuses else "SUCCESS"


def summary(statuses: Sequence[Status]) -> dict[str, int]:
    """Return the `test_summary` of a document; `error` counts as failed."""
    return {
        "total_tests": len(statuses),
        "passed": statuses.count("pass"),
        "failed": statuses.count("fail") + statuses.count("error"),
        "warned": statuses.count("warn"),
        "skipped": statuses.count("skip"),
    }


def skipped(reason: str) -> dict[str, str]:
    """Return what stands for a part that a profile or base does not have."""
    return {"status": "skipped", "reason": reason}


def check_digests(configuration: Mapping[str, str]) -> None:
    """Refuse a configuration that names something else than digests.

    Raises:
        ValueError: if one of its values is not a sha256 in hex.
    """
    for name, digest in configuration.items():
        if not SHA256.fullmatch(digest):
            raise ValueError(f"the digest of {name!r} is not a sha256 in hex")


def _check_names(**names: str) -> None:
    for what, name in names.items():
        if not NAME.fullmatch(name):
            raise ValueError(f"{name!r} is not the name of a {what}")
