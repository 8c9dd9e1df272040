"""Scanners for known holes that a host may have: what each is given, and what its answer says.

Where rave was made no vulnerability database could be reached. debsecan was run for real with data
of the same form; of grype and trivy the documented answers are read, and no more was tried.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

from rave_cli.images import sbom

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from rave_cli.images.lock import Lock

Severity = Literal["unknown", "low", "medium", "high", "critical"]
SEVERITIES: tuple[Severity, ...] = get_args(Severity)

# A line of `debsecan --format summary`: CVE-2026-1 nginx (remotely exploitable, high urgency)
_SUMMARY = re.compile(r"(?P<id>\S+) (?P<package>\S+)(?: \((?P<notes>[^()]*)\))?")


@dataclass(frozen=True, order=True)
class Hole:
    """A known hole in something of an image.

    Attributes:
        id: such as CVE-2026-1234.
        package: in which, by the lock's name.
        version: the one in the image; empty if nobody says.
        severity: as the scanner's source has it.
        fixed: the version without it, "yes" if only that there is one is known, or empty.
    """

    id: str
    package: str
    version: str
    severity: Severity
    fixed: str

    @property
    def document(self) -> dict[str, str]:
        """Return it as JSON carries it."""
        return {
            "id": self.id, "package": self.package, "version": self.version,
            "severity": self.severity, "fixed": self.fixed,
        }  # fmt: skip


@dataclass(frozen=True)
class Scanner:
    """A program of the host.

    Attributes:
        name: of the program.
        argv: its arguments, given the file to look at and the release of Debian.
        given: makes that file of a lock.
        read: makes holes of its standard output and the versions of the lock by name.
    """

    name: str
    argv: Callable[[str, str], list[str]]
    given: Callable[[Lock], bytes]
    read: Callable[[str, Mapping[str, str]], Iterator[Hole]]


def severity(word: str) -> Severity:
    """Return the severity that a scanner's word means; `negligible` is low (grype)."""
    low = word.lower()
    if low == "negligible":
        return "low"
    return next((known for known in SEVERITIES if known == low), "unknown")


def shipped(lock: Lock) -> Lock:
    """Return a lock without what the build alone uses: that is in no image."""
    return lock.model_copy(
        update={"packages": tuple(one for one in lock.packages if one.role != "tool")}
    )


def bill(lock: Lock) -> bytes:
    """Return what grype and trivy read."""
    return sbom.cyclonedx(lock, b"", "image")


def status(lock: Lock) -> bytes:
    """Return what debsecan reads: Debian's packages as dpkg(1) keeps its status."""
    stanzas = [
        f"Package: {one.name}\nStatus: install ok installed\nArchitecture: {one.architecture}\n"
        f"Version: {one.version}\n" + (f"Source: {one.source}\n" if one.source else "")
        for one in lock.packages
    ]
    return "\n".join(stanzas).encode()


def _debsecan(text: str, versions: Mapping[str, str]) -> Iterator[Hole]:
    """Debian's data know no critical: what is exploitable from afar and of high urgency is."""
    for line in text.splitlines():
        found = _SUMMARY.fullmatch(line.strip())
        if found is None:
            raise ValueError(line)
        notes = (found["notes"] or "").split(", ")
        urgency = next((note.split()[0] for note in notes if note.endswith(" urgency")), "unknown")
        if urgency == "high" and "remotely exploitable" in notes:
            urgency = "critical"
        fixed = "yes" if "fixed" in notes else ""
        version = versions.get(found["package"], "")
        yield Hole(found["id"], found["package"], version, severity(urgency), fixed)


def _grype(text: str, _versions: Mapping[str, str]) -> Iterator[Hole]:
    for match in json.loads(text)["matches"]:
        hole, artifact = match["vulnerability"], match["artifact"]
        fixed = ", ".join(hole.get("fix", {}).get("versions") or ())
        level = severity(hole.get("severity", ""))
        yield Hole(hole["id"], artifact["name"], artifact["version"], level, fixed)


def _trivy(text: str, _versions: Mapping[str, str]) -> Iterator[Hole]:
    results: list[dict[str, Any]] = json.loads(text).get("Results") or []
    for result in results:
        for one in result.get("Vulnerabilities") or ():
            level = severity(one.get("Severity", ""))
            fixed = one.get("FixedVersion", "")
            yield Hole(
                one["VulnerabilityID"], one["PkgName"], one["InstalledVersion"], level, fixed
            )


# In the order in which the first that the host has is taken.
SCANNERS = {
    scanner.name: scanner
    for scanner in (
        Scanner(
            "grype",
            lambda file, _suite: [f"sbom:{file}", "--output", "json", "--quiet"],
            bill, _grype,
        ),
        Scanner(
            "trivy",
            lambda file, _suite: ["sbom", "--format", "json", "--quiet", file],
            bill, _trivy,
        ),
        Scanner(
            "debsecan",
            lambda file, suite: ["--status", file, "--suite", suite, "--format", "summary"],
            status, _debsecan,
        ),
    )
}  # fmt: skip


def holes(scanner: Scanner, text: str, lock: Lock) -> tuple[Hole, ...]:
    """Return what a scanner found, the worst first.

    Raises:
        ValueError: its answer is not of its form.
    """
    versions = {one.name: one.version for one in lock.packages}
    try:
        found = set(scanner.read(text, versions))
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(repr(error)) from error
    return tuple(sorted(found, key=lambda hole: (-SEVERITIES.index(hole.severity), hole)))
