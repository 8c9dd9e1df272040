"""Reports that other programs read: each is parsed back."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
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

    from rave_cli.transcript.check import Status


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


@dataclass(frozen=True)
class Rule:
    """What an element of JUnit may hold: attributes, then children in this order, and text."""

    required: frozenset[str] = frozenset()
    optional: frozenset[str] = frozenset()
    children: tuple[str, ...] = ()
    once: frozenset[str] = frozenset()
    text: bool = False


def names(text: str) -> frozenset[str]:
    return frozenset(text.split())


# What Jenkins' two schemas (jenkins-junit.xsd, and junit-10.xsd of the xUnit plugin) both allow.
STRICT = {
    "testsuites": Rule(optional=names("name time tests failures errors"), children=("testsuite",)),
    "testsuite": Rule(
        required=names("name tests failures errors"),
        optional=names("time skipped timestamp hostname id package"),
        children=("testcase", "system-out", "system-err"),
        once=names("system-out system-err"),
    ),
    "testcase": Rule(
        required=names("name"),
        optional=names("time classname"),
        children=("skipped", "error", "failure", "system-out", "system-err"),
        once=names("skipped"),
    ),
    "skipped": Rule(text=True),
    "error": Rule(optional=names("type message"), text=True),
    "failure": Rule(optional=names("type message"), text=True),
    "system-out": Rule(text=True),
    "system-err": Rule(text=True),
}


def breaches(element: ElementTree.Element) -> list[str]:
    """Return where an element and those within it do not keep to the rules."""
    if element.tag not in STRICT:
        return [f"{element.tag}: no such element"]
    rule, found = STRICT[element.tag], []
    attributes = set(element.attrib)
    if odd := (attributes - rule.required - rule.optional) | (rule.required - attributes):
        found.append(f"{element.tag}: attributes {sorted(odd)}")
    if not rule.text and (
        (element.text or "").strip() or any((e.tail or "").strip() for e in element)
    ):
        found.append(f"{element.tag}: text")
    tags = [child.tag for child in element]
    order = [rule.children.index(tag) if tag in rule.children else -1 for tag in tags]
    if -1 in order or order != sorted(order) or any(tags.count(tag) > 1 for tag in rule.once):
        found.append(f"{element.tag}: children {tags}")
    time = element.attrib.get("time")
    if time is not None and not re.fullmatch(r"[0-9]+\.[0-9]+", time):
        found.append(f"{element.tag}: time {time}")
    return [*found, *(breach for child in element for breach in breaches(child))]


@pytest.mark.parametrize("aborted", [None, "interrupted"])
def test_junit_keeps_to_the_strictest_schema(aborted: str | None) -> None:
    root = xml(reports.as_junit(run("why not", aborted=aborted)))
    assert root.tag == "testsuites"
    assert breaches(root) == []
    for name in ("tests", "failures", "errors"):
        assert int(root.attrib[name]) == sum(int(suite.attrib[name]) for suite in root)
    for suite in root:
        cases = suite.findall("testcase")
        assert int(suite.attrib["tests"]) == len(cases)
        for name, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
            assert int(suite.attrib[name]) == len(suite.findall(f"testcase/{tag}"))


@given(st.text(), st.lists(st.sampled_from(STATUSES), max_size=8))
def test_junit_keeps_to_the_strictest_schema_whatever_was_found(
    text: str, statuses: list[Status]
) -> None:
    results = tuple(
        make_check(f"a.{n}", status, phase="health", title=text, detail=text, seconds=n / 3)
        for n, status in enumerate(statuses)
    )
    assert breaches(xml(reports.as_junit(replace(run(), results=results)))) == []


@pytest.mark.parametrize(
    "broken",
    [
        '<testsuites skipped="1"/>',
        '<testsuites><testsuite name="a" tests="0" failures="0"/></testsuites>',
        '<testcase name="a"><skipped message="b"/></testcase>',
        '<testcase name="a"><system-out/><failure/></testcase>',
        '<testcase name="a"><skipped/><skipped/></testcase>',
        '<testcase name="a"><properties/></testcase>',
        '<testcase name="a" time="-1.0"/>',
        "<testcase/>",
        "<testsuites>text</testsuites>",
    ],
)
def test_the_rules_see_what_is_wrong(broken: str) -> None:
    assert breaches(xml(broken)) != []


def test_gitlab_tells_all_cases_apart() -> None:
    """It keeps the first of those with the same class and name, and shows the class as suite."""
    cases = list(xml(reports.as_junit(run(aborted="interrupted"))).iter("testcase"))
    assert len({(case.attrib["classname"], case.attrib["name"]) for case in cases}) == len(cases)
    assert cases[0].attrib["classname"] == "health"
    (skipped,) = [case for case in cases if case.find("skipped") is not None]
    assert skipped.findtext("skipped") == "d"


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
