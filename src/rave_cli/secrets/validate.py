"""`rave secrets validate`: a keyless pass, then a pass with the key, against policy and catalog."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rave_cli.errors import ExitCode, RaveError
from rave_cli.secrets import ledger, own, policy, sops, store, structure, values
from rave_cli.secrets.findings import Finding, error, warning

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime
    from pathlib import Path

    from rave_cli.profiles.catalog import Secret
    from rave_cli.secrets.identity import Keys
    from rave_cli.secrets.policy import SopsPolicy


@dataclass(frozen=True)
class Report:
    """The verdict on a secrets file.

    `keyed` says whether a key took part; a file that is refused without one never meets it.
    """

    file: Path
    keyed: bool
    names: tuple[str, ...]
    recipients: tuple[str, ...]
    findings: tuple[Finding, ...]

    @property
    def errors(self) -> tuple[Finding, ...]:
        """The findings that make the file unfit for use."""
        return tuple(finding for finding in self.findings if finding.severity == "error")

    def document(self) -> dict[str, Any]:
        """Return the report for JSON."""
        return {
            "file": str(self.file),
            "valid": not self.errors,
            "keyed": self.keyed,
            "secrets": list(self.names),
            "recipients": list(self.recipients),
            "findings": [finding.document() for finding in self.findings],
        }


def validate(
    file: Path,
    catalog: Mapping[str, Secret],
    keys: Keys | None,
    *,
    now: datetime | None = None,
) -> Report:
    """Check a secrets file and, if nothing is wrong with it, remember the version.

    Raises:
        RaveError: SECRETS if there is no file or no usable policy; HOST if sops is missing.
    """
    data = store.read(file)
    report, _ = examine(file, data, policy.load(file), catalog, keys, now=now)
    return report


def require(
    file: Path, catalog: Mapping[str, Secret], keys: Keys
) -> tuple[store.Opened, tuple[Finding, ...]]:
    """Return a file's values if they are fit for use, and the warnings about it.

    Raises:
        RaveError: SECRETS with every error as detail if they are not; otherwise as `validate`.
    """
    data = store.read(file)
    report, opened = examine(file, data, policy.load(file), catalog, keys)
    if report.errors or opened is None:
        raise refusal(report)
    return opened, report.findings


def refusal(report: Report) -> RaveError:
    """Return the error that lists what is wrong with a file."""
    first = report.errors[0]
    return RaveError(
        f"{report.file} is refused: {first.place + ': ' if first.place else ''}{first.message}",
        hint=first.hint or "rave secrets validate",
        exit_code=ExitCode.SECRETS,
        detail=tuple(describe(finding) for finding in report.errors[1:]),
    )


def describe(finding: Finding) -> str:
    """Return a finding as one line."""
    place = f"{finding.place}: " if finding.place else ""
    return f"{place}{finding.message} [{finding.code}]"


def examine(
    file: Path,
    data: bytes,
    allowed: SopsPolicy,
    catalog: Mapping[str, Secret],
    keys: Keys | None,
    *,
    now: datetime | None = None,
) -> tuple[Report, store.Opened | None]:
    """Check bytes that were read from `file`; also return the values if a key opened them.

    The bytes that were checked are the bytes that are used: nothing is read a second time.

    Raises:
        RaveError: HOST if sops is missing or the ledger cannot be read or written.
    """
    found = structure.inspect(data, allowed)
    findings = [*found.findings, *_against_catalog(found, catalog)]
    known = ledger.recall(file)
    digest = hashlib.sha256(data).hexdigest()
    doubts = () if known is None else tuple(ledger.compare(known, digest, found))
    findings += doubts
    opened: store.Opened | None = None
    # sops acts on what stands in a file, so it never gets one that was refused already.
    usable = keys if not any(finding.severity == "error" for finding in found.findings) else None
    if usable is not None:
        opened, faults = _open(data, usable, catalog, now)
        findings += faults
    names, recipients = tuple(found.names), found.recipients
    report = Report(file, usable is not None, names, recipients, tuple(findings))
    if opened is not None and not report.errors and not doubts:
        store.remember(file, data, found)
    return report, opened


def _open(
    data: bytes, keys: Keys, catalog: Mapping[str, Secret], now: datetime | None
) -> tuple[store.Opened | None, list[Finding]]:
    result = store.try_decrypt(data, keys, output="json")
    if isinstance(result, sops.Fault):
        return None, [error(result.code, result.message, hint=result.hint)]
    try:
        opened = store.Opened(data, store.names_of(result))
    except RaveError as fault:
        return None, [error("type", fault.message, hint=fault.hint)]
    return opened, list(values.check(opened.values, catalog, now=now))


def _against_catalog(
    found: structure.Structure, catalog: Mapping[str, Secret]
) -> Iterator[Finding]:
    if not found.names:
        return
    for name in catalog:
        if name not in found.names:
            yield error("missing", "the catalog's secret is missing", place=name,
                        hint="rave secrets init   (adds what is missing)")  # fmt: skip
    for name, line in found.names.items():
        if name not in catalog and not own.is_own(name):
            yield warning(
                "unknown",
                "the catalog knows no such secret; nothing will use it",
                place=f"line {line}: {name}",
                hint="rave secrets edit",
            )
