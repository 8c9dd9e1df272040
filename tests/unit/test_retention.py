"""What a run of the tests leaves behind: images and the Nix roots to them once filled a disk."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.waiting import CEILING

ROOT = Path(__file__).resolve().parents[2]
CASES = """
def test_well(tmp_path):
    (tmp_path / "image").touch()

def test_ill(tmp_path):
    (tmp_path / "image").touch()
    assert not {ill}
"""


def run(place: Path, *, ill: bool) -> list[str]:
    """Run two tests, of which one may fail; return the tests that left an image."""
    cases, left = place / "test_cases.py", place / "left"
    cases.write_text(CASES.format(ill=ill))
    left.mkdir(exist_ok=True)
    words = ("-q", "-p", "no:cacheprovider", f"--rootdir={place}", f"-c{ROOT}/pyproject.toml")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *words, cases], cwd=place, timeout=CEILING, check=False,
        env=os.environ | {"PYTEST_DEBUG_TEMPROOT": str(left)}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == int(ill), done.stdout
    return sorted({path.parent.name for path in left.rglob("image") if "current" not in str(path)})


def test_what_passed_leaves_nothing_and_of_what_failed_the_last_run_is_kept(tmp_path: Path) -> None:
    assert run(tmp_path, ill=False) == []
    for _ in range(2):
        assert run(tmp_path, ill=True) == ["test_ill0"]
    assert len(list(tmp_path.glob("left/pytest-of-*/pytest-[0-9]*"))) == 1
