"""A clean clone in which somebody runs rave, with a home of its own."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


@dataclass(frozen=True)
class CleanClone:
    """A clean clone and a home of its own."""

    checkout: Path
    env: dict[str, str]

    def rave(self, *words: str, timeout: float = 300) -> str:
        """Run rave in the clone and return its results."""
        done = subprocess.run(
            [sys.executable, "-m", "rave_cli", *words], cwd=self.checkout, env=self.env,
            timeout=timeout, check=False, capture_output=True, text=True, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert done.returncode == 0, f"{words}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def transcript(self) -> Path:
        """Return the only one."""
        (found,) = (self.checkout / "artifacts").glob("boot_transcript_*Z.json")
        return found
