"""NATS JetStream: its own view of itself, a round trip, and who is admitted."""

from __future__ import annotations

import json
import os
import re
import time
from base64 import b64decode
from contextlib import contextmanager

from rave_guest import plan as plans
from rave_guest.check import Subject, check
from rave_guest.proof import TIMEOUT, WRONG, Proof, call, demand
from rave_guest.refusal import Refused
from rave_guest.verdict import ABSENT, Verdict, failed, judge, missing, passed, skipped
from rave_guest.wire import http
from rave_guest.wire.nats import SNAPSHOT_PIECE, Nats, NatsError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import Any

    from rave_guest.system import System

UNITS = ("nats.units",)
KEEPS = 60.0  # seconds for JetStream's next answer
# What may be the name of a file, too; JetStream itself forbids dots, blanks and slashes.
STREAM = re.compile(r"[A-Za-z0-9_-]{1,100}")
MARKS, MARKED = "RAVE_RECOVERY", "rave.recovery"
SECRET = "nats/password"  # noqa: S105 - a name, not a value


def _client(about: Subject) -> dict[str, Any]:
    return {
        "user": about.plan["facts"]["nats"]["user"],
        "secret": plans.secret(about.plan, SECRET),
        "port": plans.port_of(about.plan, "nats", "client"),
    }


def _monitor(about: Subject) -> dict[str, Any]:
    return {"url": f"http://127.0.0.1:{plans.port_of(about.plan, 'nats', 'monitor')}"}


@check("nats.state", phase="health", title="NATS: JetStream is on, logins are required",
       needs=UNITS, arguments=_monitor)  # fmt: skip
def state(arguments: Mapping[str, Any], _system: System) -> Verdict:
    """The server's own view: JetStream on, nobody slow."""
    variables = http.get(f"{arguments['url']}/varz", arguments["timeout"])
    stream = http.get(f"{arguments['url']}/jsz", arguments["timeout"])
    return judge_nats(json.loads(variables.body), json.loads(stream.body))


def judge_nats(variables: Mapping[str, Any], stream: Mapping[str, Any]) -> Verdict:
    """Read /varz and /jsz."""
    problems = []
    if stream.get("disabled"):
        problems.append("JetStream is off")
    if variables.get("slow_consumers", 0):
        problems.append(f"{variables['slow_consumers']} slow consumers")
    if not variables.get("auth_required"):
        problems.append("it does not ask for a password")
    version = variables.get("version", "?")
    return judge(problems, f"version {version}, JetStream with {stream.get('streams', 0)} streams")


@check("nats.roundtrip", phase="health", title="NATS: a stream keeps and returns a message",
       needs=UNITS, arguments=_client)  # fmt: skip
def roundtrip(arguments: Mapping[str, Any], system: System) -> Verdict:
    """Create a stream, publish, read the message back, delete the stream: with the password."""
    password = system.secret(arguments["secret"])
    if password is None:
        return missing(arguments["secret"])
    token = os.urandom(6).hex()
    name, subject, body = f"rave-probe-{token}", f"rave.probe.{token}", os.urandom(16).hex()
    client = Nats(
        arguments["timeout"], user=arguments["user"], password=password, port=arguments["port"]
    )
    with client as nats:
        stream = {"name": name, "subjects": [subject], "storage": "memory", "max_age": 30 * 10**9}
        nats.jetstream(f"STREAM.CREATE.{name}", stream)
        try:
            acknowledged = json.loads(nats.request(subject, body.encode()))
            stored = nats.jetstream(f"STREAM.MSG.GET.{name}", {"seq": acknowledged["seq"]})
        finally:
            nats.jetstream(f"STREAM.DELETE.{name}")
    return judge_stored(stored, body)


def judge_stored(stored: Mapping[str, Any], body: str) -> Verdict:
    """Read JetStream's answer to STREAM.MSG.GET; its data is base64."""
    import base64

    data = base64.b64decode(stored["message"]["data"])
    if data != body.encode():
        return failed("the stream holds another message")
    return passed("published, stored, read back, deleted")


@check("secrets.nats", phase="secrets", title="NATS admits the new password only", needs=UNITS,
       arguments=_client)  # fmt: skip
def login(arguments: Mapping[str, Any], system: System) -> Verdict:
    """NATS admits the installed password, and nobody without it or with a wrong one."""
    port, user, timeout = arguments["port"], arguments["user"], arguments["timeout"]
    password = system.secret(arguments["secret"])
    problems = _admitted(port, user, WRONG, timeout)
    if password is None:
        return failed("; ".join(problems)) if problems else skipped(ABSENT)
    problems += _refused(port, user, password, timeout)
    return judge(problems, "admits the installed password only")


def proofs(plan: Mapping[str, Any], secret: str) -> Iterator[Proof]:
    """The new password is admitted; the previous one, and a client without any, are not."""
    port, user = plans.port_of(plan, "nats", "client"), plan["facts"]["nats"]["user"]

    def ask(value: str, old: str | None) -> list[str]:
        demand(_admitted(port, user, old or WRONG, TIMEOUT) + _refused(port, user, value, TIMEOUT))
        return ["none", "previous" if old else "wrong"]

    yield Proof("nats", secret, ask)


def renew(plan: Mapping[str, Any], _secret: str, _value: str, _old: str) -> Callable[[], None]:
    """Read its account anew. It knows one password for a name: clients of before are put out, and
    whoever uses it is restarted.

    Raises:
        Refused: it does not.
    """
    (unit, *_) = plan["services"]["nats"]["units"]
    call("systemctl", "reload", unit)
    return lambda: None


def _admitted(port: int, user: str, wrong: str, timeout: float) -> list[str]:
    """Return who is admitted and must not be: a client without a password, or with `wrong`."""
    tries = {"no password": (None, None), "another password": (user, wrong)}
    return [
        f"admits a client with {name}"
        for name, (login, word) in tries.items()
        if _log_in(port, login, word, timeout) is None
    ]


def _refused(port: int, user: str, password: str, timeout: float) -> list[str]:
    """Return that the password is refused, if it is."""
    refusal = _log_in(port, user, password, timeout)
    return [] if refusal is None else [f"refuses the installed password: {refusal}"]


def _log_in(port: int, user: str | None, password: str | None, timeout: float) -> str | None:
    """Log in; return the refusal, or None when admitted."""
    try:
        Nats(timeout, user=user, password=password, port=port).close()
    except NatsError as error:
        return str(error)
    return None


def keep(
    plan: Mapping[str, Any], _path: str, _folder: str
) -> Iterator[tuple[str, Iterator[bytes]]]:
    """What JetStream says of each stream that it keeps on the disk, consumers included.

    Raises:
        Refused: it does not.
    """
    with _ours(plan, KEEPS) as nats:
        for name in nats.streams():
            if not STREAM.fullmatch(name):
                raise Refused("provider", f"NATS has a stream of an odd name, {name[:80]!r}")
            if nats.jetstream(f"STREAM.INFO.{name}")["config"]["storage"] == "file":
                yield f"{name}.stream", nats.snapshot(name)


def put(_folder: str, _target: str, _ours: str) -> None:
    """Let it start with nothing: `pour` hands it the streams."""


def pour(plan: Mapping[str, Any], folder: str) -> None:
    """Let JetStream make the streams of what it said of them.

    Raises:
        Refused: it does not.
    """
    with _ours(plan, KEEPS) as nats:
        for item in sorted(os.listdir(folder)):
            with open(f"{folder}/{item}", "rb") as stream:
                head = json.loads(stream.readline())
                pieces = iter(lambda: stream.read(SNAPSHOT_PIECE), b"")
                name = item.removesuffix(".stream")
                if name in nats.streams():
                    # Somebody who uses it was quicker, and has made it with nothing in it.
                    nats.jetstream(f"STREAM.DELETE.{name}")
                nats.restore(name, head, pieces)


@contextmanager
def _ours(plan: Mapping[str, Any], timeout: float) -> Iterator[Nats]:
    """Log in as the operator of this machine; one that was just started is waited for."""
    try:
        with open(plans.secret(plan, SECRET), encoding="utf-8") as stream:
            password = stream.read().rstrip("\n")
    except OSError as error:
        raise Refused("secrets", "NATS lets nobody in as long as there are no secrets") from error
    until = time.monotonic() + timeout
    user, port = plan["facts"]["nats"]["user"], plans.port_of(plan, "nats", "client")
    while True:
        try:
            client = Nats(timeout, user=user, password=password, port=port)
            break
        except (OSError, ValueError) as error:
            if time.monotonic() > until:
                raise Refused("provider", f"NATS does not answer: {error}") from error
            time.sleep(0.1)
        except NatsError as error:
            raise Refused("provider", f"NATS does not let us in: {error}") from error
    try:
        with client:
            yield client
    except (NatsError, ValueError) as error:
        raise Refused("provider", f"NATS: {error}") from error


def marks(plan: Mapping[str, Any], _path: str, lines: list[str] | None) -> list[str]:
    """A stream of rave's own (state/marks.py).

    Raises:
        Refused: NATS does not do it.
    """
    with _ours(plan, KEEPS) as nats:
        if lines is not None and MARKS in nats.streams():
            nats.jetstream(f"STREAM.DELETE.{MARKS}")
        if lines:
            config = {"name": MARKS, "subjects": [MARKED], "storage": "file"}
            nats.jetstream(f"STREAM.CREATE.{MARKS}", config)
            for line in lines:
                nats.request(MARKED, line.encode())
        if MARKS not in nats.streams():
            return []
        state = nats.jetstream(f"STREAM.INFO.{MARKS}")["state"]
        return [
            b64decode(
                nats.jetstream(f"STREAM.MSG.GET.{MARKS}", {"seq": number})["message"]["data"]
            ).decode()
            for number in range(state["first_seq"], state["last_seq"] + 1)
            if state["messages"]
        ]
