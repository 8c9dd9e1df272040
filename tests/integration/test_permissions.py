"""Commands run by a caller whose umask takes nothing away, as in some CI runners."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.integration

COMMANDS = (
    ("secrets", "init"),
    ("secrets", "validate"),
    ("secrets", "rotate", "redis/password"),
    ("secrets", "edit", "--reencrypt"),
    ("secrets", "init", "--file", "repository/secrets/prod.sops.yaml"),
    ("doctor", "runtime", "sops", "identity"),
    ("vm", "list"),
    ("vm", "status", "nothing"),
    ("config",),
)


def test_nothing_that_a_command_makes_can_be_changed_by_others(tmp_path: Path) -> None:
    env = {
        "HOME": str(tmp_path),
        "PATH": os.environ["PATH"],
        "XDG_RUNTIME_DIR": str(tmp_path / "r"),
    }
    (tmp_path / "r").mkdir(mode=0o700)
    for words in COMMANDS:
        subprocess.run(
            [sys.executable, "-m", "rave_cli", *words],
            cwd=tmp_path, env=env, umask=0, capture_output=True, check=False,
        )  # fmt: skip
    made = [path for path in tmp_path.rglob("*") if not path.is_symlink()]
    assert {"keys.txt", "secrets.sops.yaml", "prod.sops.yaml", "ledger.json"} <= {
        path.name for path in made
    }
    loose = [str(path) for path in made if stat.S_IMODE(path.stat().st_mode) & 0o022]
    assert loose == []
