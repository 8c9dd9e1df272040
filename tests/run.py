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
from functools import partial
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

    name: str
    paths: tuple[str, ...]
    workers: int
    kills: int = 0


# Two rows of suites, which run side by side, each in its order. The end-to-end tests share one
# machine, so that one of them runs at a time, and that waits for its guest or the guest for it:
# alone they leave half of two processors idle. Whatever else builds an image is behind the unit
# tests, so that their first `make demo` starts from nothing. A unit test waits, too: hence several
# for each processor, but each more of them lists and imports all tests anew.
E2E = Suite("e2e", ("tests/e2e",), workers=1)
UNIT = Suite("unit", ("tests/unit",), workers=2 * (os.cpu_count() or 1), kills=200)
INTEGRATION = Suite("integration", ("tests/nix", "tests/integration"), workers=os.cpu_count() or 1)
ROWS = ((UNIT, INTEGRATION), (E2E,))
SUITES = {suite.name: suite for row in ROWS for suite in row}

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
    rows = [[suite for suite in row if not words or suite.name in words] for row in ROWS]
    # Looking at the types takes one processor; the tests have the others meanwhile.
    with ThreadPoolExecutor(1) as beside:
        linting = beside.submit(lint) if not words or "lint" in words else None
        status, outcome = test([row for row in rows if row], measure=measure)
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


def test(rows: list[list[Suite]], *, measure: bool) -> tuple[int, Outcome]:
    """Run the suites of each row, with branch coverage if `measure`; return the worst status and
    the counts.
    """
    if measure:
        step("coverage erase", [sys.executable, "-m", "coverage", "erase"])
        # What is measured is added to one file.
        rows = [[suite for row in rows for suite in row]]
    with (
        tempfile.TemporaryDirectory() as scratch,
        ThreadPoolExecutor(max(1, len(rows))) as side_by_side,
    ):
        go = partial(in_turn, scratch=Path(scratch), measure=measure, told=len(rows) > 1)
        done = [result for row in side_by_side.map(go, rows) for result in row]
    if measure:
        subprocess.run([sys.executable, "-m", "coverage", "report"], cwd=ROOT, check=False)
    counted = sum((outcome for _, outcome in done), Outcome(Counter(), Counter()))
    return max((status for status, _ in done), default=0), counted


def in_turn(
    row: list[Suite], scratch: Path, *, measure: bool, told: bool
) -> list[tuple[int, Outcome]]:
    """Run one suite after the other; return the status and the counts of each."""
    done = []
    for suite in row:
        report = scratch / f"{suite.name}.xml"
        status = max(run(suite, report, measure=measure, told=told), enough(suite, report))
        done.append((status, read(report) if report.exists() else Outcome(Counter(), Counter())))
    return done


def run(suite: Suite, report: Path, *, measure: bool, told: bool) -> int:
    """Run pytest over one suite and return its status; files stay whole, each in one process.

    They are taken in their own order: by the number of their tests the few that take longest, which
    kill at every step, would come last and alone. With `told`, each line says whose it is.
    """
    workers = [f"-n{suite.workers}", "--dist=loadfile", "--no-loadscope-reorder"]
    side_by_side = workers if suite.workers > 1 else []
    coverage = ["--cov", "--cov-append", "--cov-report="] if measure else []
    words = ["-q", f"--junitxml={report}", *side_by_side, *coverage, *suite.paths]
    env = {**os.environ, kills.FILE: str(report.with_suffix(".kills"))}
    began = time.monotonic()
    argv = [sys.executable, "-m", "pytest", *words]
    with subprocess.Popen(
        argv, cwd=ROOT, env=env, text=True, errors="replace",
        stdout=subprocess.PIPE if told else None, stderr=subprocess.STDOUT if told else None,
    ) as child:  # fmt: skip
        for line in child.stdout or ():
            print(f"{suite.name}: {line}", end="", flush=True)
    print(f"{' '.join(suite.paths)} ({time.monotonic() - began:.0f} s)", flush=True)
    # Of one that a signal ended it is negative.
    return abs(child.wait())


def enough(suite: Suite, report: Path) -> int:
    """Return 1 if fewer were killed in a suite than is promised, and say so; else 0."""
    counted = report.with_suffix(".kills")
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
