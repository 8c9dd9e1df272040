"""What a run found: the values from which the transcript is written."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rave_cli.transcript.check import CheckResult, Status

RunStatus = Literal["SUCCESS", "WARNING", "FAILED", "ABORTED"]

SHA256 = re.compile(r"[0-9a-f]{64}")
SRI_SHA256 = re.compile(r"sha256-[A-Za-z0-9+/]{43}=")


@dataclass(frozen=True)
class ImageRecord:
    """The image a run was made from.

    Args:
        name: file name of the qcow2.
        sha256: hex digest of the qcow2 before the machine started.
        sha256_after: the same after it stopped (or at the end of the checks).
        store_path: the Nix output that holds it.
        nar_hash: the output's narHash, as Nix writes it (`sha256-…`).
    """

    name: str
    sha256: str
    sha256_after: str
    store_path: str
    nar_hash: str

    def __post_init__(self) -> None:
        for digest in (self.sha256, self.sha256_after):
            if not SHA256.fullmatch(digest):
                raise ValueError(f"{digest!r} is not a sha256 in hex")
        if not SRI_SHA256.fullmatch(self.nar_hash):
            raise ValueError(f"{self.nar_hash!r} is not a narHash of the form sha256-<base64>")


@dataclass(frozen=True)
class RunRecord:
    """Everything a run found; session, times and digests of the log come from the event log.

    Args:
        profile: profile of the machine.
        base: base of the image.
        mode: `safe` or `full`.
        checks: every check with its verdict, skipped ones included.
        image: the image; only an aborted run may have none.
        guest_boot_id: /proc/sys/kernel/random/boot_id of the guest, as text.
        system_info: facts about the host and the machine (hostname, kernel, arch, accelerator...).
        tools: version of each tool used, by name.
        configuration: sha256 in hex of each thing that configured the run, by name (flake.lock,
            the catalog, the suite).
        service_health: per service, what was found; see `skipped` for parts that do not exist.
        authentication_tests: the same for sign-in.
        agent_control_tests: the same for chat control of agents.
        sandbox_tests: the same for sandbox provisioning.
        performance_metrics: figures by name, with the unit in the name.
        security_validation: what the security phase found.
        aborted: why the run did not complete; None if it did.
    """

    profile: str
    base: str
    mode: str
    checks: tuple[CheckResult, ...]
    image: ImageRecord | None
    guest_boot_id: str | None = None
    system_info: Mapping[str, object] = field(default_factory=dict)
    tools: Mapping[str, str] = field(default_factory=dict)
    configuration: Mapping[str, str] = field(default_factory=dict)
    service_health: Mapping[str, object] = field(default_factory=dict)
    authentication_tests: Mapping[str, object] = field(default_factory=dict)
    agent_control_tests: Mapping[str, object] = field(default_factory=dict)
    sandbox_tests: Mapping[str, object] = field(default_factory=dict)
    performance_metrics: Mapping[str, object] = field(default_factory=dict)
    security_validation: Mapping[str, object] = field(default_factory=dict)
    aborted: str | None = None

    def __post_init__(self) -> None:
        twice = [id_ for id_, n in Counter(check.id for check in self.checks).items() if n > 1]
        if twice:
            raise ValueError(f"check ids appear twice: {', '.join(twice)}")
        if self.image is None and self.aborted is None:
            raise ValueError("a run that completed has an image")
        for name, digest in self.configuration.items():
            if not SHA256.fullmatch(digest):
                raise ValueError(f"the digest of {name} is not a sha256 in hex")

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
