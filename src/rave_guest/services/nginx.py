"""nginx: the status document it serves, and its certificate."""

from __future__ import annotations

import json

from rave_guest import plan as plans
from rave_guest.check import Subject, check
from rave_guest.proof import TIMEOUT, Proof, Unproven
from rave_guest.verdict import ABSENT, Verdict, errored, failed, judge, passed, skipped
from rave_guest.wire import http

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

    from rave_guest.system import System

END = "-----END CERTIFICATE-----"


def _document(about: Subject) -> dict[str, Any]:
    port = plans.port_of(about.plan, "nginx", "status")
    return {"instance": about.instance, "url": f"https://127.0.0.1:{port}/status.json"}


@check("nginx.status-document", phase="health", title="nginx: shows this machine, all healthy",
       needs=("nginx.units",), retry_for=15, arguments=_document)  # fmt: skip
def status_document(arguments: Mapping[str, Any], _system: System) -> Verdict:
    """The status page gives this machine, all its services healthy."""
    answer = http.get(arguments["url"], arguments["timeout"])
    if answer.status != 200:
        return failed(f"status {answer.status}")
    try:
        document = json.loads(answer.body)
    except ValueError:
        return errored("the status document is not JSON")
    return judge_status(document, arguments["instance"])


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


def _pair(about: Subject) -> dict[str, Any]:
    return {
        "certificate": plans.secret(about.plan, "tls/certificate"),
        "key": plans.secret(about.plan, "tls/key"),
    }


@check("secrets.certificate", phase="secrets", title="the TLS key belongs to the certificate",
       arguments=_pair)  # fmt: skip
def certificate_pair(arguments: Mapping[str, Any], system: System) -> Verdict:
    """The key of nginx belongs to its certificate, and both are the installed ones."""
    if system.secret(arguments["certificate"]) is None:
        return skipped(ABSENT)
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(arguments["certificate"], arguments["key"])
    except ssl.SSLError as error:
        return failed(f"the key does not belong to the certificate: {error.reason}")
    return passed("the key belongs to the certificate")


def proofs(plan: Mapping[str, Any], secret: str) -> Iterator[Proof]:
    """The new certificate is served."""
    port = plans.port_of(plan, "nginx", "status")

    def ask(value: str, old: str | None) -> list[str]:
        import ssl

        served = ssl.get_server_certificate(("127.0.0.1", port), timeout=TIMEOUT)
        own = value[: value.index(END) + len(END)]  # the server's own comes first in a chain
        if ssl.PEM_cert_to_DER_cert(served) != ssl.PEM_cert_to_DER_cert(own):
            raise Unproven("it serves another certificate than the installed one")
        return ["previous"] if old else []

    yield Proof("nginx", secret, ask)
