"""After a first success nothing is needed from outside: `make demo` again, without any network.

How long it takes is benchmarks/bench_demo.py's question.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.e2e.conftest import qemu_processes

if TYPE_CHECKING:
    from tests.e2e.conftest import Site

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(600),
    pytest.mark.skipif(os.getuid() != 0, reason="taking the network away takes root"),
]

# Only the loopback is left, so the machine must be started, used and stopped in there.
OFFLINE = ["unshare", "--net", "sh", "-ec"]
SCRIPT = "ip link set lo up; make demo; .venv/bin/rave down"


@pytest.fixture
def stopped(site: Site) -> Site:
    """The site with its machine stopped."""
    site.rave("vm", "stop", "demo", check=False)
    return site


def test_make_demo_needs_no_network_the_second_time(stopped: Site) -> None:
    done = stopped.run([*OFFLINE, SCRIPT], timeout=300)
    assert "SUCCESS" in done.stdout or "WARNING" in done.stdout
    assert qemu_processes(stopped) == []
