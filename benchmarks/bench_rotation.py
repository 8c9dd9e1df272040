"""How long services are not to be had while a secret is renewed: of a running demo machine.

Usage: python -m benchmarks.bench_rotation NAME [ROUNDS]

The service of the secret is asked again and again from within (guest_rotation.py) while `rave
secrets rotate` and `install` are called; the longest time between two answers is what a client
waited that has the new or the old value. The page is asked for from here, over new connections,
while `rave tls renew --now` is called. Beside it that time with nothing renewed: it is what a
question takes on this host, and no downtime. `refused` counts the questions that came to nothing,
which no load changes.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.measure import report, summary
from benchmarks.page_watch import PageWatch

PROBE = Path(__file__).parent / "guest_rotation.py"
RAVE = (sys.executable, "-m", "rave_cli")
SECRETS = (
    "redis/password", "nats/password", "database/prometheus-password", "oidc/smoke-client-secret",
)  # fmt: skip
LIMIT = 1.0  # seconds
# Seconds for one command: what uses a secret may take minutes to start on a busy host.
LONGEST = 1200.0
CERTIFICATES = 2  # that are seen while one is renewed


def rave(*words: str) -> str:
    """Run rave."""
    argv = [*RAVE, *words]
    return subprocess.run(argv, check=True, capture_output=True, text=True, timeout=LONGEST).stdout


def watched(name: str, secret: str, *, renewed: bool) -> tuple[float, int]:
    """Return the seconds that a secret's service was not to be had at the most, and how often it
    refused both values or did not answer.
    """
    argv = [*RAVE, "vm", "exec", name, "-i", "--sudo", "--timeout", f"{LONGEST:g}", "--"]
    argv += ["python3", "-I", "-", secret]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        if child.stdin is None or child.stdout is None:
            raise SystemExit("no pipes to the guest")
        child.stdin.write(PROBE.read_text())
        child.stdin.close()
        if child.stdout.readline() != "ready\n":
            raise SystemExit(f"{name}: what asks its services did not start")
        try:
            if renewed:
                rave("secrets", "rotate", secret)
                rave("secrets", "install", name)
            else:
                rave("vm", "exec", name, "--", "sleep", "5")
        finally:
            rave("vm", "exec", name, "--sudo", "--", "touch", "/run/rotation.stop")
        found: dict[str, dict[str, Any]] = json.loads(child.stdout.readline())
    return float(found[secret]["seconds"]), int(found[secret]["refused"])


def known(name: str) -> list[str]:
    """Return those of SECRETS that a machine has."""
    plan = json.loads(rave("vm", "exec", name, "--", "cat", "/usr/lib/rave/plan.json"))
    return [secret for secret in SECRETS if secret in plan["secrets"]]


def page(name: str, *, renewed: bool) -> tuple[float, int]:
    """Return the seconds that a machine's page was not to be had at the most while its certificate
    was renewed, and how often it was not.
    """
    watch = PageWatch(name)
    watch.start()
    if not watch.answered.wait(60):
        raise SystemExit(f"{name} does not show its page")
    if renewed:
        rave("tls", "renew", name, "--now")
    else:
        time.sleep(5)
    watch.ended.set()
    watch.join()
    if renewed and len(watch.certificates) != CERTIFICATES:
        raise SystemExit(f"{name} showed {len(watch.certificates)} certificates")
    return watch.longest, watch.failures


def main() -> int:
    """Measure, report, and judge."""
    name, rounds = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 3
    figures: dict[str, Any] = {}
    late = False
    asked = {secret: partial(watched, name, secret) for secret in known(name)}
    for what, ask in {**asked, "the page's certificate": partial(page, name)}.items():
        rows = [(ask(renewed=False), ask(renewed=True)) for _ in range(rounds)]
        figures[f"{what} nothing renewed"] = summary([still for (still, _), _ in rows])
        figures[f"{what} renewed"] = summary([moved for _, (moved, _) in rows])
        figures[f"{what} refused"] = summary([float(count) for _, (_, count) in rows])
        late |= max(moved - still for (still, _), (moved, _) in rows) > LIMIT
        sys.stderr.write(f"{what}: {rows}\n")
    report("rotation", figures)
    return int(late)


if __name__ == "__main__":
    sys.exit(main())
