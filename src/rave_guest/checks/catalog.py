"""What the record of any service can ask: its units, an HTTP page, a port, a program."""

from __future__ import annotations

import os
import re
import socket

from rave_guest.check import askable
from rave_guest.system import run
from rave_guest.verdict import ABSENT, PASS, Verdict, failed, judge, missing, passed, skipped
from rave_guest.wire import http as wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from rave_guest.system import System

# What nginx points at: the certificate in force.
CERTIFICATE = "/run/rave/tls/current.crt"

SECRETS = "/run/secrets"


@askable
def http(arguments: Mapping[str, Any], system: System) -> Verdict:
    """Ask a URL; over TLS the certificate must be the one that lies on this machine."""
    answer = wire.get(arguments["url"], arguments["timeout"])
    known = _known_certificate(system) if answer.certificate else None
    return judge_http(answer, arguments["status"], arguments["contains"], known)


def judge_http(
    answer: wire.Response, status: int, contains: str | None, known: bytes | None
) -> Verdict:
    """Compare an answer with what was expected of it."""
    problems = []
    if answer.status != status:
        problems.append(f"status {answer.status} instead of {status}")
    if contains and contains not in answer.text:
        problems.append(f"the answer does not contain {contains!r}")
    if answer.certificate is not None and answer.certificate != known:
        problems.append("another certificate than the machine's own")
    tls = f" over {answer.tls}" if answer.tls else ""
    return judge(problems, f"status {answer.status}{tls}, {len(answer.body)} bytes")


def _known_certificate(system: System) -> bytes | None:
    import ssl

    text = system.secret(CERTIFICATE)
    if text is None:
        return None
    return ssl.PEM_cert_to_DER_cert(text[: text.index(ssl.PEM_FOOTER) + 26].strip())


@askable
def tcp(arguments: Mapping[str, Any], _system: System) -> Verdict:
    """Connect to a port of this machine."""
    with socket.create_connection(("127.0.0.1", arguments["port"]), arguments["timeout"]):
        return passed(f"port {arguments['port']} accepts connections")


@askable
def command(arguments: Mapping[str, Any], system: System) -> Verdict:
    """Run a program that a record names; its output must match."""
    environment = {}
    for name, path in arguments["environment_secret"].items():
        value = system.secret(path)
        if value is None:
            return missing(path)
        environment[name] = value
    argv, timeout, user = arguments["argv"], arguments["timeout"], arguments["user"]
    try:
        done = run(argv, timeout, user=user, env=environment)
    except FileNotFoundError:
        return failed(f"{argv[0]} is not installed")
    # What a program that was given a secret says of its troubles is not repeated.
    stderr = "" if environment else done.stderr
    return judge_output(done.returncode, done.stdout, stderr, arguments["matches"])


def judge_output(returncode: int, stdout: str, stderr: str, matches: str) -> Verdict:
    """Compare a program's output with the pattern that must be found in it."""
    if re.search(matches, stdout, re.MULTILINE):
        return passed(f"its output matches {matches!r}")
    said = (stderr.strip() or stdout.strip()).splitlines()
    return failed(f"exit {returncode}: {said[-1][:200] if said else 'no output'}")


@askable
def units(arguments: Mapping[str, Any], system: System) -> Verdict:
    """Every unit of a service is active."""
    verdict = judge_units(system.units(arguments["units"]))
    if verdict.status != PASS and arguments.get("waits") and not os.path.exists(SECRETS):
        return skipped(f"it waits: {ABSENT}")
    if verdict.status != PASS:
        # Whoever asks again wants to know how it is then.
        system.forget_units()
    return verdict


def judge_units(found: Mapping[str, Mapping[str, str]]) -> Verdict:
    """Read systemd's properties."""
    if not found:
        return skipped("this base runs it without a unit of its own")
    problems = []
    for name, unit in found.items():
        if unit.get("LoadState", "not-found") != "loaded":
            problems.append(f"{name} is {unit.get('LoadState', 'not-found')}")
        elif unit["ActiveState"] != "active":
            result = unit.get("Result", "")
            problems.append(f"{name} is {unit['ActiveState']} ({unit['SubState']}, {result})")
    seconds = {name: round(_entered(unit), 2) for name, unit in found.items()}
    last = max(seconds.values())
    return judge(
        problems, f"{', '.join(found)} active since {last:.1f} s after boot", active_since=seconds
    )


def _entered(unit: Mapping[str, str]) -> float:
    text = unit.get("ActiveEnterTimestampMonotonic", "0")
    return int(text) / 1e6 if text.isdigit() else 0.0
