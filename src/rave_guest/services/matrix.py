"""Matrix Synapse: its database, what it must not serve, and whether people can talk."""

from __future__ import annotations

from functools import partial

from rave_guest import conversing
from rave_guest import plan as plans
from rave_guest.check import Subject, check
from rave_guest.state import files
from rave_guest.verdict import Verdict, failed, judge, passed
from rave_guest.wire import http

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from typing import Any

    from rave_guest.system import System

UNITS = ("matrix.units",)
# Of no session.
TOKEN = "syt_none"  # noqa: S105 - it opens nothing
# What other servers ask for first, and what they verify with (Matrix, "Server-Server API").
FEDERATION = ("/_matrix/federation/v1/version", "/_matrix/key/v2/server")


def _port(about: Subject) -> dict[str, Any]:
    return {"port": plans.port_of(about.plan, "matrix", "client")}


@check("matrix.database", phase="health", title="Matrix Synapse: its database answers", needs=UNITS,
       timeout=20, retry_for=20, arguments=_port)  # fmt: skip
def database(arguments: Mapping[str, Any], _system: System) -> Verdict:
    """Whose session it is takes a look at the database, also where it is nobody's."""
    address = http.split(_address(arguments, "/_matrix/client/v3/account/whoami"))
    request = f"GET {address.path} HTTP/1.0\r\nAuthorization: Bearer {TOKEN}\r\n\r\n"
    answer = http.ask(address, request, arguments["timeout"])
    if answer.status == 401 and "M_UNKNOWN_TOKEN" in answer.text:
        return passed("it looked for a session that there is not")
    return failed(f"it answers {answer.status}")


@check("matrix.federation", phase="health", title="Matrix Synapse answers no other server",
       needs=UNITS, timeout=20, retry_for=20, arguments=_port)  # fmt: skip
def federation(arguments: Mapping[str, Any], _system: System) -> Verdict:
    """What other servers ask for is not there."""
    found = {path: http.get(_address(arguments, path), arguments["timeout"]).status
             for path in FEDERATION}  # fmt: skip
    problems = [
        f"{path} is answered with {status}" for path, status in found.items() if status != 404
    ]
    return judge(problems, "it has nothing for them")


def _address(arguments: Mapping[str, Any], path: str) -> str:
    return f"http://127.0.0.1:{arguments['port']}{path}"


_step = partial(conversing.step, phase="sign-in")


@_step("flows", "Matrix lets people in by single sign-on alone")
@_step("wrong-password", "a wrong password opens no chat")
@_step(
    "sign-in", "two people sign in to Matrix, as whom their accounts say",
    figures={"first_seconds": "chat_first_sign_in_seconds", "seconds": "chat_sign_in_seconds"},
)  # fmt: skip
@_step(
    "message", "what one of them says the other hears", figures={"seconds": "chat_message_seconds"}
)
@_step("media", "a file that one of them puts there the other gets")
@_step("sign-out", "whoever signs out of Matrix is nobody there any more")
def step(arguments: Mapping[str, Any], system: System) -> Verdict:
    """A step of the one conversation that all these checks are about."""
    return conversing.verdict(arguments, system)


def keep(
    _plan: Mapping[str, Any], path: str, _folder: str
) -> Iterator[tuple[str, Iterable[bytes]]]:
    """The files that people sent; what names them is in PostgreSQL, which is copied before."""
    return files.kept(path)


def put(folder: str, target: str, _ours: str) -> None:
    """Lay them where it looks."""
    files.put(folder, target)


def marks(_plan: Mapping[str, Any], path: str, lines: list[str] | None) -> list[str]:
    """A file of rave's own beside what people sent (state/marks.py)."""
    return files.marks(path, lines)
