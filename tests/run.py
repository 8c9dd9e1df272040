"""`make test`: every check of the repository in one run, ending with the counts.

Usage: python -m tests.run [--coverage] [--beside-a-burner] [lint|unit|integration|e2e]

Without a word, everything.

--coverage says at the end which lines and branches no test reached; measuring that takes as long
as the tests themselves.

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
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from tests import kills

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


@dataclass(frozen=True)
class Suite:
    """What one run of pytest is given, how many files of it are tested at a time, and how often at
    least something that does something to a machine is killed in it (tests/kills.py).
    """

    paths: tuple[str, ...]
    workers: int
    kills: int = 0


# In the order they run. The end-to-end tests come before whatever else builds an image, so that
# their first `make demo` starts from nothing; they share one machine. A unit test waits, too: hence
# several for each processor, but each more of them lists and imports all tests anew.
SUITES = {
    "unit": Suite(("tests/unit",), workers=2 * (os.cpu_count() or 1), kills=200),
    "e2e": Suite(("tests/e2e",), workers=1),
    "integration": Suite(("tests/nix", "tests/integration"), workers=os.cpu_count() or 1),
}

COVERAGE, BURNER = "--coverage", "--beside-a-burner"
# Endless loops for each processor.
BURNERS = 4


@dataclass(frozen=True)
class Outcome:
    """What a pytest run came to, read from its JUnit report."""

    counts: Counter[str]
    skips: Counter[str]

    def __add__(self, other: Outcome) -> Outcome:
        """Both together."""
        return Outcome(self.counts + other.counts, self.skips + other.skips)


def main(words: list[str]) -> int:
    """Run what was asked for and print the closing lines."""
    if BURNER in words:
        with burning((os.cpu_count() or 1) * BURNERS):
            return main([word for word in words if word != BURNER])
    measure = COVERAGE in words
    words = [word for word in words if word != COVERAGE]
    unknown = set(words) - {"lint", *SUITES}
    if unknown:
        sys.stderr.write(f"unknown: {', '.join(sorted(unknown))}\n{__doc__}")
        return 2
    suites = [suite for name, suite in SUITES.items() if not words or name in words]
    # Looking at the types takes one processor; the tests have the others meanwhile.
    with ThreadPoolExecutor(1) as beside:
        linting = beside.submit(lint) if not words or "lint" in words else None
        status, outcome = test(suites, measure=measure)
        failed = [] if linting is None else linting.result()
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


def test(suites: list[Suite], *, measure: bool) -> tuple[int, Outcome]:
    """Run pytest over each, with branch coverage if `measure`; return worst status and counts."""
    status, outcome = 0, Outcome(Counter(), Counter())
    if measure:
        step("coverage erase", [sys.executable, "-m", "coverage", "erase"])
    with tempfile.TemporaryDirectory() as scratch:
        for number, suite in enumerate(suites):
            report = Path(scratch) / f"{number}.xml"
            status = max(status, run(suite, report, measure=measure))
            status = max(status, enough(suite, report.with_suffix(".kills")))
            if report.exists():
                outcome = outcome + read(report)
    if measure:
        subprocess.run([sys.executable, "-m", "coverage", "report"], cwd=ROOT, check=False)
    return status, outcome


def run(suite: Suite, report: Path, *, measure: bool) -> int:
    """Run pytest over one suite and return its status; files stay whole, each in one process.

    They are taken in their own order: by the number of their tests the few that take longest, which
    kill at every step, would come last and alone.
    """
    workers = [f"-n{suite.workers}", "--dist=loadfile", "--no-loadscope-reorder"]
    side_by_side = workers if suite.workers > 1 else []
    coverage = ["--cov", "--cov-append", "--cov-report="] if measure else []
    words = ["-q", f"--junitxml={report}", *side_by_side, *coverage, *suite.paths]
    env = {**os.environ, kills.FILE: str(report.with_suffix(".kills"))}
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-m", "pytest", *words], cwd=ROOT, check=False, env=env)
    print(f"{' '.join(suite.paths)} ({time.monotonic() - began:.0f} s)", flush=True)
    # Of one that a signal ended it is negative.
    return abs(done.returncode)


def enough(suite: Suite, counted: Path) -> int:
    """Return 1 if fewer were killed in a suite than is promised, and say so; else 0."""
    found = int(counted.read_text()) if counted.exists() else 0
    if found < suite.kills * kills.USUAL // max(kills.STRIDE, kills.USUAL):
        print(f"FAIL kills: {found} of machines, {suite.kills} are promised")
        return 1
    return 0


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
