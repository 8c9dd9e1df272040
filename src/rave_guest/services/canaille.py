"""Canaille: how accounts are asked for and changed, how it proves that it took a secret, and
whether people can sign in to a service.
"""

from __future__ import annotations

import json
import socket
from base64 import b64encode

from rave_guest import plan as plans
from rave_guest import report
from rave_guest.check import Subject, check
from rave_guest.journey import ALONE
from rave_guest.proof import WRONG, Proof, call, demand
from rave_guest.refusal import Refused
from rave_guest.report import ORIGIN
from rave_guest.verdict import Verdict, missing, skipped
from rave_guest.wire import http

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import Any

    from rave_guest.system import System

    Step = Callable[[Mapping[str, Any], System], Verdict]

# Where its own process takes requests of root (rave_accounts/control.py).
CONTROL = "/run/canaille/control"
# Writes the hashes of the clients' secrets in force, as it does before each start.
RENDERS = "/usr/lib/rave/canaille-clients"
TIMEOUT = 90.0  # seconds for one request; an emulated guest on a busy host takes its time
MAX_ANSWER = 8 << 20  # bytes
PROVES = 20.0  # seconds for one request to the token endpoint, as its health question has

JOURNEY = 240.0  # seconds that one takes at most, in an emulated guest on a busy host


def accounts(action: str, arguments: Mapping[str, Any], address: str = CONTROL) -> dict[str, Any]:
    """Let Canaille carry out an action on accounts, and return its answer.

    Raises:
        Refused: at stage `exists`, `absent` or `system` if it says so; at `provider` if it does not
            answer.
    """
    request = json.dumps({"action": action, "arguments": arguments}).encode()
    try:
        reply = json.loads(_exchange(address, request))
    except (OSError, ValueError) as error:
        raise Refused("provider", f"Canaille does not answer: {error}") from error
    if not reply["ok"]:
        raise Refused(reply["reason"], reply["error"])
    answer: dict[str, Any] = reply["answer"]
    return answer


def proofs(plan: Mapping[str, Any], secret: str) -> Iterator[Proof]:
    """Whoever shows the new secret is taken for the client, whoever shows another is not."""
    port = plans.port_of(plan, "canaille", "web")
    client = client_of(plan, secret)

    def ask(value: str, old: str | None) -> list[str]:
        problems = [] if taken(port, client, value) else ["it does not take the installed secret"]
        if taken(port, client, old or WRONG):
            problems.append("it takes another secret")
        demand(problems)
        return ["previous" if old else "wrong"]

    yield Proof(f"canaille:{client}", secret, ask)


def renew(plan: Mapping[str, Any], secret: str, value: str, old: str) -> Callable[[], None]:
    """Know the client by the new secret and by the old one.

    Raises:
        Refused: Canaille does not, or what it reads at its next start cannot be written.
    """
    from hashlib import sha256

    client = client_of(plan, secret)
    shown = {"client": client, "sha256": sha256(value.encode()).hexdigest()}
    accounts("take-client-secret", shown)
    call(RENDERS)
    forgotten = {"client": client, "sha256": sha256(old.encode()).hexdigest()}

    def forget() -> None:
        accounts("forget-client-secret", forgotten)

    return forget


def client_of(plan: Mapping[str, Any], secret: str) -> str:
    """Return the client whose secret this is, by its id."""
    declared = [service["oidcClient"] for service in plan["services"].values()]
    return str(next(one["id"] for one in declared if one and one["secret"] == secret))


def taken(port: int, client: str, secret: str) -> bool:
    """Return whether a client is known by a secret: then its code is what is wrong (RFC 6749)."""
    basic = b64encode(f"{client}:{secret}".encode()).decode()
    answer = http.post(
        f"http://127.0.0.1:{port}/oauth/token",
        "grant_type=authorization_code&code=none&redirect_uri=none&code_verifier=" + "n" * 43,
        {"Authorization": f"Basic {basic}"}, PROVES,
    )  # fmt: skip
    error = json.loads(answer.body).get("error")
    if error not in ("invalid_grant", "invalid_client"):
        raise ValueError(f"the token endpoint answers {answer.status} {error}")
    return bool(error == "invalid_grant")


def _client(about: Subject) -> dict[str, Any]:
    own = about.plan["services"]["canaille"]
    return {
        "site": own["site"],
        "client": own["oidcClient"],
        "secret": plans.secret(about.plan, own["oidcClient"]["secret"]),
        "port": plans.port_of(about.plan, "nginx", "status"),
    }


def _step(name: str, title: str) -> Callable[[Step], Step]:
    return check(
        f"sign-in.{name}", phase="sign-in", title=title, needs=("canaille.units", "nginx.units"),
        timeout=JOURNEY, arguments=lambda about: _client(about) | {"step": name},
    )  # fmt: skip


_travelled: dict[str, Verdict] = {}


@_step("discovery", "single sign-on says where everything is")
@_step(
    "code-flow", "somebody signs in to a service: a one-time password, a code with PKCE, a token"
)
@_step("reused-code", "a code that was used is refused")
@_step("wrong-verifier", "a code is refused to whoever did not ask for it")
@_step("wrong-redirect", "nobody is sent to an address that is not the service's")
@_step("expired-token", "a token that has expired is refused")
@_step("sign-out", "whoever signs out is asked again")
@_step("disabled", "whoever is disabled does not come in")
@_step("wrong-password", "a wrong password opens nothing")
def step(arguments: Mapping[str, Any], system: System) -> Verdict:
    """A step of the one journey that all these checks are about."""
    secret = system.secret(arguments["secret"])
    if secret is None:
        return missing(arguments["secret"])
    origin = report.read(ORIGIN)
    if not origin:
        return skipped("this machine has no public origin: start it with a rave that gives it one")
    with ALONE:
        if not _travelled:
            _travelled.update(_travel(arguments, origin, secret))
    return _travelled[arguments["step"]]


def _travel(arguments: Mapping[str, Any], origin: str, secret: str) -> dict[str, Verdict]:
    """Make the journey, through nginx as people come."""
    from rave_guest import signin
    from rave_guest.wire import trusted

    scheme, _, place = origin.partition("://")
    site = f"{scheme}://{arguments['site']}.{place}"
    client = arguments["client"]
    client = {**client, "back": f"{site}{client['redirects'][0]}"}
    return signin.travel(
        signin.Journey(
            site, client, secret, accounts,
            connect=lambda: trusted.to(site, arguments["port"], TIMEOUT),
        )
    )  # fmt: skip


def _exchange(address: str, request: bytes) -> bytes:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as channel:
        channel.settimeout(TIMEOUT)
        channel.connect(address)
        channel.sendall(request)
        channel.shutdown(socket.SHUT_WR)
        data = b""
        while len(data) <= MAX_ANSWER:
            piece = channel.recv(1 << 16)
            if not piece:
                break
            data += piece
        return data
