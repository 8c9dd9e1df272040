"""Reports that other programs read: each is parsed back."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rave_cli.smoke import reports
from rave_cli.smoke.model import SmokeRun
from rave_cli.transcript.check import STATUSES
from tests.transcripts import make_check

if TYPE_CHECKING:
    from pathlib import Path


def xml(text: str) -> ElementTree.Element:
    return ElementTree.fromstring(text)  # noqa: S314 - our own


def run(detail: str = "d", *, aborted: str | None = None) -> SmokeRun:
    results = tuple(
        make_check(
            f"a.{status}", status, phase="health", title="it works", detail=detail, seconds=0.25
        )
        for status in STATUSES
    )
    return SmokeRun(
        session="spinup-20260124-143052", profile="demo", base="debian", mode="safe", machine="m",
        started="2026-01-24T14:30:52Z", seconds=2.5, results=results,
        phase_seconds={"health": 1.5}, aborted=aborted,
    )  # fmt: skip


def test_junit_has_what_gitlab_reads() -> None:
    root = xml(reports.as_junit(run()))
    assert root.tag == "testsuites"
    (suite,) = root.findall("testsuite")
    assert suite.attrib["name"] == "Service health"
    counts = {name: suite.attrib[name] for name in ("tests", "failures", "errors", "skipped")}
    assert counts == {"tests": "5", "failures": "1", "errors": "1", "skipped": "1"}
    cases = {case.attrib["name"].split(":")[0]: case for case in suite.findall("testcase")}
    assert cases["a.fail"].find("failure") is not None
    assert cases["a.error"].find("error") is not None
    assert cases["a.skip"].find("skipped") is not None
    assert [child.tag for child in cases["a.pass"]] == ["system-out"]
    assert (cases["a.warn"].findtext("system-out") or "").startswith("warning:")
    assert cases["a.pass"].attrib["time"] == "0.250"
    assert cases["a.pass"].attrib["classname"] == "health"


def test_an_aborted_run_is_an_error_in_junit_and_bails_out_in_tap() -> None:
    root = xml(reports.as_junit(run(aborted="interrupted")))
    error = root.find("testsuite[@name='run']/testcase/error")
    assert error is not None
    assert error.attrib["message"] == "interrupted"
    assert reports.as_tap(run(aborted="interrupted")).endswith("Bail out! interrupted\n")


@given(st.text())
def test_no_text_breaks_a_report(text: str) -> None:
    xml(reports.as_junit(run(text)))
    assert json.loads(reports.as_json(run(text)))["checks"][0]["detail"] == text
    lines = reports.as_tap(run(text)).rstrip("\n").split("\n")
    assert sum(bool(re.match(r"(not )?ok \d+ - ", line)) for line in lines) == len(STATUSES)


def test_tap() -> None:
    lines = reports.as_tap(run("why # not")).splitlines()
    assert lines[:3] == ["TAP version 14", "1..5", "ok 1 - a.pass: it works"]
    assert "not ok 2 - a.fail: it works" in lines
    assert "ok 3 - a.warn: it works" in lines
    assert "ok 4 - a.skip: it works # SKIP why \\# not" in lines
    assert "not ok 5 - a.error: it works" in lines
    assert lines.count("  ---") == lines.count("  ...") == 4


def test_prometheus_lines_are_well_formed() -> None:
    text = reports.as_prometheus(run())
    metric = re.compile(r'[a-z_]+\{([a-z]+="[^"\\\n]*",?)+\} [0-9.]+')
    for line in text.splitlines():
        assert line.startswith("# ") or metric.fullmatch(line), line
    assert 'rave_smoke_success{profile="demo",base="debian",machine="m"} 0' in text
    passed = re.findall(r'check="a\.(\w+)",status="\w+"\} (\d)', text)
    assert dict(passed) == {"pass": "1", "warn": "1", "fail": "0", "skip": "0", "error": "0"}


def test_every_report_is_written_beside_the_transcript(tmp_path: Path) -> None:
    stem = tmp_path / "boot_transcript_20260124T143052Z"
    reports.write(run(), stem)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f"{stem.name}.junit.xml", f"{stem.name}.prom", f"{stem.name}.report.json",
        f"{stem.name}.tap",
    ]  # fmt: skip


@pytest.mark.parametrize("name", sorted(reports.FORMATS))
def test_places_are_told(tmp_path: Path, name: str) -> None:
    assert name in reports.places(tmp_path / "x")
