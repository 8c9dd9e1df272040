"""The health questions of the catalog, and whether units run and nginx serves the right status."""

from __future__ import annotations

import json
import re
import socket
import ssl
from typing import TYPE_CHECKING, Any

from rave_guest.system import run
from rave_guest.verdict import PASS, Verdict, errored, failed, judge, passed, skipped
from rave_guest.wire import http as wire

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rave_guest.system import System

# nginx points at the certificate in force: the secret, or the one made at boot.
CERTIFICATES = ("/run/rave/tls/current.crt", "/run/secrets/tls/certificate")


def http(ask: Mapping[str, Any], system: System) -> Verdict:
    """Ask a URL; over TLS the certificate must be the one that lies on this machine."""
    answer = wire.get(ask["url"], ask["timeout"])
    return judge_http(
        answer, ask.get("status", 200), ask.get("contains"), _known_certificate(system)
    )


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
    for path in CERTIFICATES:
        if text := system.secret(path):
            return ssl.PEM_cert_to_DER_cert(text[: text.index(ssl.PEM_FOOTER) + 26].strip())
    return None


def tcp(ask: Mapping[str, Any], _system: System) -> Verdict:
    """Connect to a port of this machine."""
    with socket.create_connection(("127.0.0.1", ask["port"]), ask["timeout"]):
        return passed(f"port {ask['port']} accepts connections")


def command(ask: Mapping[str, Any], system: System) -> Verdict:
    """Run a program of the catalog; its output must match."""
    environment = {}
    for name, path in (ask.get("environment_secret") or {}).items():
        value = system.secret(path)
        if value is None:
            return skipped(f"needs the secret {path}, which is not installed")
        environment[name] = value
    said = spoken(ask["argv"], ask["timeout"], environment)
    if said is not None:
        return judge_output(0, said, "", ask["matches"])
    try:
        done = run(ask["argv"], ask["timeout"], user=ask.get("user"), env=environment)
    except FileNotFoundError:
        return failed(f"{ask['argv'][0]} is not installed")
    if environment:
        return judge_output(done.returncode, done.stdout, "", ask["matches"])
    return judge_output(done.returncode, done.stdout, done.stderr, ask["matches"])


def spoken(argv: list[str], timeout: float, secrets: Mapping[str, str]) -> str | None:
    """Ask what a client program would ask, in the service's own protocol; None for other programs.

    Starting psql or fail2ban-client takes two CPU seconds under emulation, the question a
    hundredth of that.
    """
    match argv:
        case ["psql", "-XAtc", query]:
            from rave_guest.checks.database import superuser

            return superuser(query, timeout)
        case ["redis-cli", "ping"]:
            from rave_guest.wire.redis import Redis

            with Redis(timeout) as redis:
                if password := secrets.get("REDISCLI_AUTH"):
                    redis.ask("AUTH", password)
                return str(redis.ask("PING"))
        case ["fail2ban-client", "status", jail]:
            from rave_guest.wire.fail2ban import ask_fail2ban

            ask_fail2ban(["status", jail], timeout)
            return f"Status for the jail: {jail}"
    return None


def judge_output(returncode: int, stdout: str, stderr: str, matches: str) -> Verdict:
    """Compare a program's output with the pattern that must be found in it."""
    if re.search(matches, stdout, re.MULTILINE):
        return passed(f"its output matches {matches!r}")
    said = (stderr.strip() or stdout.strip()).splitlines()
    return failed(f"exit {returncode}: {said[-1][:200] if said else 'no output'}")


def prometheus_targets(ask: Mapping[str, Any], _system: System) -> Verdict:
    """Ask Prometheus which targets are up; all that the catalog scrapes must be there and up."""
    answer = wire.get(ask["url"], ask["timeout"])
    if answer.status != 200:
        return failed(f"status {answer.status}")
    return judge_targets(json.loads(answer.body), ask.get("expected", []))


def judge_targets(document: Any, expected: list[int]) -> Verdict:
    """Read the answer to the query `up`; `expected` are the ports that must be scraped."""
    up: dict[str, bool] = {}
    for series in document["data"]["result"]:
        up[series["metric"]["instance"]] = series["value"][1] == "1"
    ports = {int(name.rpartition(":")[2]) for name in up if name.rpartition(":")[2].isdigit()}
    problems = [f"{name} is down" for name, fine in sorted(up.items()) if not fine]
    problems += [f"no target on port {port}" for port in sorted(set(expected) - ports)]
    if not up:
        problems = ["Prometheus has no target"]
    return judge(problems, f"{len(up)} targets up", targets=up)


def units(ask: Mapping[str, Any], system: System) -> Verdict:
    """Every unit of a service is active."""
    verdict = judge_units(system.units(ask["units"]))
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


def status_document(ask: Mapping[str, Any], _system: System) -> Verdict:
    """The status page gives this machine, all its services healthy."""
    answer = wire.get(ask["url"], ask["timeout"])
    if answer.status != 200:
        return failed(f"status {answer.status}")
    try:
        document = json.loads(answer.body)
    except ValueError:
        return errored("the status document is not JSON")
    return judge_status(document, ask["instance"])


def judge_status(document: Any, instance: str) -> Verdict:
    """Read /status.json."""
    problems = []
    if document.get("instance") != instance:
        problems.append("it speaks of another machine")
    services = document.get("services") or {}
    ill = sorted(name for name, entry in services.items() if entry.get("state") != "healthy")
    problems += [f"{name} is {services[name].get('state')}" for name in ill]
    if not services:
        problems.append("it names no service")
    return judge(problems, f"{len(services)} services healthy")
