"""`make test`: every check of the repository in one run, ending with the counts.

Usage: python -m tests.run [--beside-a-burner] [lint|unit|integration|e2e]

Without a word, everything.

--beside-a-burner keeps every processor busy meanwhile, four times over: no test may need a quiet
host.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent

LINTERS = (
    (
        "format",
        ["ruff", "format", "--check", "--quiet", "src", "tests", "benchmarks", "docs", "infra"],
    ),
    ("lint", ["ruff", "check", "--quiet", "src", "tests", "benchmarks", "docs", "infra"]),
    ("types", ["mypy", "--no-error-summary"]),
    ("imports", ["lint-imports", "--no-cache"]),
)

# In the order they run. The end-to-end tests come before whatever else builds an image, so that
# their first `make demo` starts from nothing.
SUITES = {
    "unit": ["tests/unit"],
    "e2e": ["tests/e2e"],
    "integration": ["tests/nix", "tests/integration"],
}

BURNER = "--beside-a-burner"
# Endless loops for each processor.
BURNERS = 4


@dataclass(frozen=True)
class Outcome:
    """What a pytest run came to, read from its JUnit report."""

    counts: Counter[str]
    skips: Counter[str]


def main(words: list[str]) -> int:
    """Run what was asked for and print the closing lines."""
    if BURNER in words:
        with burning((os.cpu_count() or 1) * BURNERS):
            return main([word for word in words if word != BURNER])
    unknown = set(words) - {"lint", *SUITES}
    if unknown:
        sys.stderr.write(f"unknown: {', '.join(sorted(unknown))}\n{__doc__}")
        return 2
    failed = [] if words and "lint" not in words else lint()
    suites = [
        path for name, paths in SUITES.items() if not words or name in words for path in paths
    ]
    outcome = Outcome(Counter(), Counter())
    if suites:
        status, outcome = test(suites, measure=not words)
        failed += [] if status == 0 else ["pytest"]
    return close(failed, outcome)


@contextmanager
def burning(count: int) -> Iterator[None]:
    """Run this many endless loops meanwhile."""
    with ExitStack() as stack:
        for _ in range(count):
            child = stack.enter_context(
                subprocess.Popen(["/bin/sh", "-c", "while kill -0 $PPID; do :; done"])
            )
            stack.callback(child.kill)
        yield
        print(f"{count} endless loops went on beside it; load average {os.getloadavg()[0]:.0f}")


def lint() -> list[str]:
    """Run the linters; return the names of those that found something."""
    return [name for name, argv in LINTERS if not step(name, [str(BIN / argv[0]), *argv[1:]])]


def step(name: str, argv: list[str]) -> bool:
    """Run one program, say how long it took, and return whether it was content."""
    began = time.monotonic()
    done = subprocess.run(argv, cwd=ROOT, check=False, capture_output=True, text=True)
    print(f"{'ok  ' if done.returncode == 0 else 'FAIL'} {name} ({time.monotonic() - began:.1f} s)")
    if done.returncode != 0:
        print(done.stdout + done.stderr)
    return done.returncode == 0


def test(paths: list[str], *, measure: bool) -> tuple[int, Outcome]:
    """Run pytest over `paths`, with branch coverage if `measure`; return its status and counts."""
    existing = [path for path in paths if any((ROOT / path).rglob("test_*.py"))]
    with tempfile.TemporaryDirectory() as scratch:
        report = Path(scratch) / "junit.xml"
        runner = ["-m", "coverage", "run"] if measure else []
        argv = [sys.executable, *runner, "-m", "pytest", "-q", f"--junitxml={report}", *existing]
        status = subprocess.run(argv, cwd=ROOT, check=False).returncode
        if measure:
            step("coverage data", [sys.executable, "-m", "coverage", "combine", "--quiet"])
            subprocess.run([sys.executable, "-m", "coverage", "report"], cwd=ROOT, check=False)
        return status, read(report) if report.exists() else Outcome(Counter(), Counter())


def read(report: Path) -> Outcome:
    """Count the cases of a JUnit report, and why cases were skipped."""
    counts: Counter[str] = Counter()
    skips: Counter[str] = Counter()
    for case in ElementTree.parse(report).iter("testcase"):  # noqa: S314 - our own pytest wrote it
        skip = case.find("skipped")
        if skip is not None:
            counts["skipped"] += 1
            skips[skip.get("message", "no reason given")] += 1
        elif case.find("failure") is not None or case.find("error") is not None:
            counts["failed"] += 1
        else:
            counts["passed"] += 1
    return Outcome(counts, skips)


def close(failed: list[str], outcome: Outcome) -> int:
    """Print why tests were skipped and the closing line; return the exit status."""
    for reason, number in sorted(outcome.skips.items()):
        print(f"skipped {number}: {reason}")
    if failed:
        print(f"FAILED: {', '.join(failed)}")
    counts = outcome.counts
    print(f"{counts['passed']} passed, {counts['failed']} failed, {counts['skipped']} skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
