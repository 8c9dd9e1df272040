"""Reports of a run for other programs: JSON, JUnit XML, TAP 14, Prometheus' text format.

JUnit: what the schemas of Jenkins allow (jenkins-junit.xsd and the xUnit plugin's junit-10.xsd), of
which GitLab reads a part (docs.gitlab.com/ci/testing/unit_test_reports). TAP:
testanything.org/tap-version-14-specification. Prometheus: node exporter's textfile collector.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from rave_cli.paths import atomic_write
from rave_cli.smoke.phases import PHASES
from rave_cli.transcript.check import BAD

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from rave_cli.smoke.model import SmokeRun
    from rave_cli.smoke.phases import Phase
    from rave_cli.transcript.check import CheckResult

# XML 1.0 cannot carry these, not even escaped (w3.org/TR/xml, section 2.2).
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def places(stem: Path) -> dict[str, Path]:
    """Return where the reports of a run go; `stem` is the common start of its file names."""
    return {name: stem.with_name(stem.name + ending) for name, (ending, _) in FORMATS.items()}


def write(run: SmokeRun, stem: Path) -> None:
    """Write every report.

    Raises:
        RaveError: HOST if the disk is full or the place cannot be written.
    """
    for name, path in places(stem).items():
        atomic_write(path, FORMATS[name][1](run).encode())


def as_json(run: SmokeRun) -> str:
    """Return the run as one JSON document."""
    return json.dumps(run.document(), indent=2, ensure_ascii=False) + "\n"


def as_junit(run: SmokeRun) -> str:
    """Return JUnit XML: one suite per phase, one case per check.

    It keeps to what every strict reader takes: no `skipped` on the root, and a skipped case whose
    reason is its text, since some schemas allow that element no attribute.
    """
    root = ElementTree.Element("testsuites", {"name": f"rave smoke {run.session}"})
    for phase in PHASES:
        if run.of(phase.id):
            root.append(_suite(run, phase))
    if run.aborted is not None:
        root.append(_aborted(run, run.aborted))
    for name in ("tests", "failures", "errors"):
        root.set(name, str(sum(int(suite.attrib[name]) for suite in root)))
    root.set("time", f"{run.seconds:.3f}")
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, "unicode") + "\n"


def _suite(run: SmokeRun, phase: Phase) -> ElementTree.Element:
    counts = run.count(phase.id)
    spent = run.phase_seconds.get(phase.id, 0.0)
    suite = ElementTree.Element(
        "testsuite",
        {"name": phase.title, "tests": str(sum(counts.values())), "failures": str(counts["fail"]),
         "errors": str(counts["error"]), "skipped": str(counts["skip"]), "time": f"{spent:.3f}",
         "timestamp": run.started.rstrip("Z"), "hostname": run.machine},
    )  # fmt: skip
    suite.extend(_case(result) for result in run.of(phase.id))
    return suite


def _aborted(run: SmokeRun, reason: str) -> ElementTree.Element:
    """Return a suite with one case: that the run did not complete."""
    suite = ElementTree.Element(
        "testsuite",
        {"name": "run", "tests": "1", "failures": "0", "errors": "1", "skipped": "0",
         "time": f"{run.seconds:.3f}"},
    )  # fmt: skip
    case = ElementTree.SubElement(suite, "testcase", {"classname": "run", "name": "completed"})
    ElementTree.SubElement(case, "error", {"message": _xml(reason), "type": "aborted"})
    return suite


def _case(result: CheckResult) -> ElementTree.Element:
    attributes = {"classname": result.phase, "name": f"{result.id}: {result.title}",
                  "time": f"{result.seconds:.3f}"}  # fmt: skip
    case = ElementTree.Element("testcase", {k: _xml(v) for k, v in attributes.items()})
    if result.status in BAD:
        tag = "failure" if result.status == "fail" else "error"
        element = ElementTree.SubElement(case, tag, {"message": _xml(result.detail),
                                                     "type": result.severity})  # fmt: skip
        element.text = _xml(result.detail)
    elif result.status == "skip":
        ElementTree.SubElement(case, "skipped").text = _xml(result.detail)
    else:
        element = ElementTree.SubElement(case, "system-out")
        element.text = _xml(f"{'warning: ' if result.status == 'warn' else ''}{result.detail}")
    return case


def _xml(text: str) -> str:
    return _NOT_XML.sub("\ufffd", text)


def as_tap(run: SmokeRun) -> str:
    """Return TAP 14. A warning is ok with a note, an error is not ok."""
    lines = ["TAP version 14", f"1..{len(run.results)}"]
    for number, result in enumerate(run.results, start=1):
        good = result.status in ("pass", "warn", "skip")
        directive = f" # SKIP {_tap(result.detail)}" if result.status == "skip" else ""
        name = _tap(f"{result.id}: {result.title}")
        lines.append(f"{'ok' if good else 'not ok'} {number} - {name}{directive}")
        if result.status != "skip":
            # JSON is YAML, so that no value needs thought about quoting.
            lines += ["  ---", f"  status: {result.status}", f"  severity: {result.severity}",
                      f"  duration_ms: {result.seconds * 1000:.0f}",
                      f"  message: {json.dumps(result.detail)}", "  ..."]  # fmt: skip
    if run.aborted is not None:
        lines.append(f"Bail out! {_tap(run.aborted)}")
    return "\n".join(lines) + "\n"


def _tap(text: str) -> str:
    """Return text for one line of TAP: no line end, no accidental directive."""
    line = " ".join(text.split())
    return line.replace("\\", "\\\\").replace("#", "\\#")


def as_prometheus(run: SmokeRun) -> str:
    """Return metrics in Prometheus' text format, for the textfile collector."""
    common = f'profile="{run.profile}",base="{run.base}",machine="{run.machine}"'
    counts = run.count()
    lines = [
        "# HELP rave_smoke_success Whether the last smoke run had no failure and no error.",
        "# TYPE rave_smoke_success gauge",
        f"rave_smoke_success{{{common}}} {int(run.status in ('SUCCESS', 'WARNING'))}",
        "# HELP rave_smoke_duration_seconds Duration of the last smoke run.",
        "# TYPE rave_smoke_duration_seconds gauge",
        f"rave_smoke_duration_seconds{{{common}}} {run.seconds:.3f}",
        "# HELP rave_smoke_checks Checks of the last smoke run, by status.",
        "# TYPE rave_smoke_checks gauge",
        *(f'rave_smoke_checks{{{common},status="{s}"}} {n}' for s, n in counts.items()),
        "# HELP rave_smoke_check_passed Whether a check passed; skips and errors are 0.",
        "# TYPE rave_smoke_check_passed gauge",
        *(f'rave_smoke_check_passed{{{common},phase="{r.phase}",check="{r.id}",'
          f'status="{r.status}"}} {int(r.status in ("pass", "warn"))}' for r in run.results),
        "# HELP rave_smoke_check_seconds Time a check took.",
        "# TYPE rave_smoke_check_seconds gauge",
        *(f'rave_smoke_check_seconds{{{common},phase="{r.phase}",check="{r.id}"}} {r.seconds:.3f}'
          for r in run.results),
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


FORMATS: dict[str, tuple[str, Callable[[SmokeRun], str]]] = {
    "json": (".report.json", as_json),
    "junit": (".junit.xml", as_junit),
    "tap": (".tap", as_tap),
    "prometheus": (".prom", as_prometheus),
}
