"""`rave-guest state`: sends what is kept, or takes it back in; the verb state says what there is.

Its standard input begins with one line, a request as of the door: {"v": 2, "verb": "keep", "put" or
"log", "arguments": {…}}. `keep` answers with the stream (wire.py), `put` reads that behind the line
and answers as the door does, `log` answers with a stream of PostgreSQL's log alone (log.py).
"""

from __future__ import annotations

import fcntl
import json
import os
import sys

from rave_guest import audit, backups, plan
from rave_guest.refusal import Refused
from rave_guest.state import keeping, wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

VERSION = 2
LONGEST = 64 << 20  # bytes of a request: it names each piece of the last backup
LOG = "/var/log/rave/backups.log"
LOCK = "/run/rave/state.lock"
LOG_LOCK = "/run/rave/state-log.lock"  # the log is sent while a backup is


def verb(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Say what there is to keep; with `marks` what marks there are (marks.py), put and taken away
    as it says; with `kept` note what the host says of the backups that it has.
    """
    if "marks" in arguments:
        from rave_guest.state import marks

        return {"marks": marks.carried_out(plan.own(), arguments["marks"])}
    if "kept" in arguments:
        backups.note(arguments["kept"])
        return {"kept": True}
    return keeping.about(plan.own())


def main(_argv: list[str]) -> int:
    """Carry out the request on standard input."""
    os.nice(keeping.NICENESS)
    try:
        name, arguments = parse(sys.stdin.buffer.readline(LONGEST))
        fd = _locked(LOG_LOCK if name == "log" else LOCK)
    except Refused as error:
        return _refuse(error)
    try:
        return {"keep": _keep, "put": _put, "log": _log}[name](arguments)
    finally:
        os.close(fd)


def parse(line: bytes) -> tuple[str, dict[str, Any]]:
    """Return what is asked for.

    Raises:
        Refused: it is no request.
    """
    try:
        request = json.loads(line)
    except (ValueError, RecursionError):
        request = None
    if not isinstance(request, dict) or request.get("v") != VERSION:
        raise Refused("request", f"this guest understands requests of version {VERSION} alone")
    name, arguments = request.get("verb"), request.get("arguments")
    if name not in ("keep", "put", "log") or not isinstance(arguments, dict):
        raise Refused("request", "a request on state is keep, put or log, with its arguments")
    by, rate, only = arguments.get("by"), arguments.get("rate", 0), arguments.get("only", [])
    if not isinstance(by, str) or not 0 < len(by) <= 200:
        raise Refused("request", "it is not said who asks")
    if type(rate) is not int or rate < 0:
        raise Refused("request", "a rate is a number of bytes a second")
    if not isinstance(only, list) or not all(isinstance(name, str) for name in only):
        raise Refused("request", "services are a list of names")
    known, nonce = arguments.get("known", []), arguments.get("nonce", "")
    if not isinstance(known, list) or not isinstance(nonce, str):
        raise Refused("request", "what is known is a list of sums")
    if name == "log":
        return name, {"by": by, "rate": rate, **_wanted(arguments)}
    return name, {
        "by": by, "rate": rate, "only": only, "known": known, "nonce": nonce.encode(),
        "backup": str(arguments.get("backup", "")),
    }  # fmt: skip


def _keep(arguments: Mapping[str, Any]) -> int:
    out = wire.Writer(
        sys.stdout.buffer, arguments["rate"], known=arguments["known"], nonce=arguments["nonce"]
    )
    try:
        with audit.entry(LOG, action="keep", by=arguments["by"]) as entry:
            with open(keeping.INSTANCE, encoding="utf-8") as stream:
                instance = stream.read().strip()
            keeping.send(plan.own(), out, instance=instance)
            entry.result = "sent"
    except Refused as error:
        return _refuse(error)
    return 0


def _wanted(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is asked for of the log (log.py).

    Raises:
        Refused: it is no request.
    """
    from rave_guest.state import log

    forms = {"chain": log.CHAIN, "end": log.LSN, "tail": log.SUM}
    texts = {name: arguments.get(name, "") for name in forms}
    numbers = {name: arguments.get(name, 0) for name in ("until", "allowed")}
    given = any(texts.values())
    if not all(type(text) is str for text in texts.values()) or (
        given and not all(form.fullmatch(texts[name]) for name, form in forms.items())
    ):
        raise Refused("request", "of a log the host says chain, end and tail of what it has")
    if not all(type(number) is int and 0 <= number < 1 << 40 for number in numbers.values()):
        raise Refused("request", "times are seconds since 1970")
    return {**texts, **numbers, "stop": arguments.get("stop") is True}


def _log(arguments: Mapping[str, Any]) -> int:
    from rave_guest.state import log

    out = wire.Writer(sys.stdout.buffer, arguments["rate"])
    try:
        with open(keeping.INSTANCE, encoding="utf-8") as stream:
            instance = stream.read().strip()
        log.answer(plan.own(), out, arguments, instance)
    except Refused as error:
        return _refuse(error)
    return 0


def _put(arguments: Mapping[str, Any]) -> int:
    from rave_guest.state.putting import Restore

    try:
        with audit.entry(
            LOG, action="put", by=arguments["by"], backup=arguments["backup"],
            only=arguments["only"],
        ) as entry:  # fmt: skip
            restore = Restore(plan.own())
            names = restore.take(sys.stdin.buffer, arguments["only"])
            entry.result = f"put back {', '.join(names)}"
    except Refused as error:
        return _refuse(error)
    _answer({"v": VERSION, "ok": True, "answer": {"services": names, "troubled": restore.troubled}})
    return 0


def _refuse(error: Refused) -> int:
    _answer({"v": VERSION, "ok": False, "stage": error.stage, "error": str(error)[:1000]})
    return 1


def _answer(document: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(document) + "\n")
    sys.stdout.flush()


def _locked(place: str) -> int:
    """Keep others out; returns what holds the lock.

    Raises:
        Refused: another backup or restore is under way.
    """
    fd = os.open(place, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(fd)
        raise Refused("busy", "another backup or restore is under way in this machine") from error
    return fd
