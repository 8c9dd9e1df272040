"""Scanners' answers: each of its documented form, and whatever else a program may say."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rave_cli.errors import ExitCode, RaveError
from rave_cli.flows import image, scanning
from rave_cli.images import lock as locks
from rave_cli.images import scanners
from rave_cli.images.scanners import SCANNERS, Hole
from rave_cli.settings import Settings
from tests.unit.images.test_sbom import LOCKS

if TYPE_CHECKING:
    from pathlib import Path

    from rave_cli.images.lock import Lock
    from rave_cli.profiles.catalog import Plan

GRYPE = json.dumps({"matches": [
    {"vulnerability": {"id": "CVE-2026-2", "severity": "Negligible", "fix": {"versions": []}},
     "artifact": {"name": "nginx", "version": "1.26.3-3"}},
    {"vulnerability": {"id": "CVE-2026-1", "severity": "Critical", "fix": {"versions": ["2.1"]}},
     "artifact": {"name": "authlib", "version": "2.0"}},
]})  # fmt: skip
TRIVY = json.dumps({"Results": [
    {"Target": "debian", "Vulnerabilities": [
        {"VulnerabilityID": "CVE-2026-2", "PkgName": "nginx", "InstalledVersion": "1.26.3-3",
         "Severity": "LOW"},
        {"VulnerabilityID": "CVE-2026-1", "PkgName": "authlib", "InstalledVersion": "2.0",
         "FixedVersion": "2.1", "Severity": "CRITICAL"}]},
    {"Target": "nothing here"},
]})  # fmt: skip


@pytest.fixture
def lock() -> Lock:
    """One of the locks of the repository."""
    found, _ = locks.load(LOCKS[0])
    return found


@pytest.mark.parametrize(("name", "text"), [("grype", GRYPE), ("trivy", TRIVY)])
def test_an_answer_is_read_the_worst_first(lock: Lock, name: str, text: str) -> None:
    assert scanners.holes(SCANNERS[name], text, lock) == (
        Hole("CVE-2026-1", "authlib", "2.0", "critical", "2.1"),
        Hole("CVE-2026-2", "nginx", "1.26.3-3", "low", ""),
    )


def test_what_debian_calls_high_and_can_be_used_from_afar_is_critical(lock: Lock) -> None:
    package = lock.packages[0]
    text = (
        f"CVE-2026-3 {package.name}\n"
        f"CVE-2026-2 {package.name} (high urgency)\n"
        f"CVE-2026-1 {package.name} (fixed, remotely exploitable, high urgency)\n"
    )
    assert scanners.holes(SCANNERS["debsecan"], text, lock) == (
        Hole("CVE-2026-1", package.name, package.version, "critical", "yes"),
        Hole("CVE-2026-2", package.name, package.version, "high", ""),
        Hole("CVE-2026-3", package.name, package.version, "unknown", ""),
    )


@given(text=st.text() | st.recursive(
    st.none() | st.integers() | st.text(),
    lambda one: st.lists(one) | st.dictionaries(st.sampled_from(["matches", "Results", "x"]), one),
).map(json.dumps))  # fmt: skip
def test_whatever_a_scanner_says_is_read_or_refused(text: str) -> None:
    for scanner in SCANNERS.values():
        try:
            found = list(scanner.read(text, {}))
        except (ValueError, KeyError, TypeError, AttributeError):
            continue
        assert all(hole.severity in scanners.SEVERITIES for hole in found)


def test_what_the_build_alone_uses_is_not_asked_about(lock: Lock) -> None:
    tools = {package.name for package in lock.packages if package.role == "tool"}
    assert tools
    shipped = scanners.shipped(lock)
    for given_ in (scanners.bill(shipped), scanners.status(shipped)):
        assert not any(f"/{name}@".encode() in given_ for name in tools)
        assert not any(f"Package: {name}\n".encode() in given_ for name in tools)


@pytest.fixture
def asked(lock: Lock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Settings]:
    """A host that has a grype, and one lock."""
    monkeypatch.setattr(image, "locked", lambda _plan, _settings: (lock, b"", "the lock"))
    program = tmp_path / "grype"
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return program, Settings({}, None)


def says(program: Path, text: str, code: int = 0) -> None:
    """Make a program that says something and ends."""
    program.write_text(f"#!/bin/sh\ncat <<'END'\n{text}\nEND\nexit {code}\n")
    program.chmod(0o755)


def test_what_is_as_severe_as_that_is_refused_unless_it_is_accepted(
    asked: tuple[Path, Settings], plan: Plan
) -> None:
    program, settings = asked
    says(program, GRYPE)

    def refused(level: scanners.Severity | None, *accept: str) -> list[str]:
        found = scanning.scan(plan, settings, scanner=None, refuse=level, accept=accept)
        assert len(found.holes) == 2
        return [hole.id for hole in found.refused]

    assert refused("critical") == ["CVE-2026-1"]
    assert refused("low") == ["CVE-2026-1", "CVE-2026-2"]
    assert refused("critical", "CVE-2026-1") == []
    assert refused(None) == []
    found = scanning.scan(plan, settings, scanner="grype", refuse=None, accept=["CVE-1"])
    assert found.unmet == ("CVE-1",)


@pytest.mark.parametrize(("text", "code"), [("", 1), ("nothing of its form", 0), ("{}", 0)])
def test_a_scanner_that_fails_or_babbles_is_no_good_news(
    asked: tuple[Path, Settings], plan: Plan, text: str, code: int
) -> None:
    program, settings = asked
    says(program, text, code)
    with pytest.raises(RaveError, match="nothing is known of the lock") as caught:
        scanning.scan(plan, settings, scanner="grype", refuse="critical", accept=())
    assert caught.value.exit_code == ExitCode.HOST


def test_a_host_without_one_is_told_where_they_come_from(
    asked: tuple[Path, Settings], plan: Plan, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _, settings = asked
    monkeypatch.setenv("PATH", str(tmp_path))
    for name in (None, "trivy"):
        with pytest.raises(RaveError, match=r"not on PATH: .*trivy") as caught:
            scanning.scan(plan, settings, scanner=name, refuse=None, accept=())
        assert "debsecan" in (caught.value.hint or "")


def test_the_command_offers_what_there_is() -> None:
    from rave_cli.commands.image import scan

    assert tuple(SCANNERS) == scan.NAMES
    assert (*scanners.SEVERITIES[1:], "never") == scan.LEVELS
