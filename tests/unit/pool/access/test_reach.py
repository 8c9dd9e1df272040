"""What it takes to reach a pool: little for one's own."""

from __future__ import annotations

import subprocess
import sys

# Each costs a command a good part of a second, and belongs to whoever serves or asks elsewhere.
COSTLY = ("redis", "paramiko", "pydantic", "starlette", "uvicorn", "cryptography", "httpx", "jwt")


def test_a_command_that_asks_its_own_pool_loads_nothing_of_what_serves_it() -> None:
    words = f"import sys, rave_cli.pool.access.reach as _; print({{*{COSTLY}}} & {{*sys.modules}})"
    argv = [sys.executable, "-c", words]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
