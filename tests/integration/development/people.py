"""People of a running development machine, at this host: they sign in as a browser does that trusts
the machine's authority, and talk in its chat.
"""

from __future__ import annotations

import socket
import ssl
from contextlib import closing, contextmanager, suppress
from http.client import HTTPSConnection
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from rave_cli.errors import RaveError
from rave_cli.flows import accounts
from rave_cli.tls import authority
from rave_guest import chat, commanding

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from rave_cli.machines.spec import Machine
    from rave_guest.wire.matrix import Matrix

# Seconds for one answer of an emulated machine on a busy host.
TIMEOUT = 120.0
LOOPBACK = "127.0.0.1"


class Site(HTTPSConnection):
    """A connection to a site of the machine under its own name, wherever that name leads."""

    def __init__(self, site: str, trust: ssl.SSLContext) -> None:
        host, _, port = site.partition("://")[2].partition(":")
        self.trust = trust
        super().__init__(host, int(port or 443), timeout=TIMEOUT, context=trust)

    def connect(self) -> None:
        """Connect to this host's port."""
        plain = socket.create_connection((LOOPBACK, self.port), TIMEOUT)
        self.sock = self.trust.wrap_socket(plain, server_hostname=self.host)


def trusting(machine: Machine) -> ssl.SSLContext:
    """Return what trusts the authority of a machine alone."""
    found = authority.of(machine.spec.public_host)
    return ssl.create_default_context(cafile=str(authority.certificate_file(found.domain)))


def origin(machine: Machine) -> str:
    """Return where people open a machine's pages."""
    found = machine.spec.public_origin
    assert found, f"{machine.name} has no public origin"
    return found


def site(machine: Machine, name: str) -> str:
    """Return where people find an application of a machine."""
    return origin(machine).replace("://", f"://{name}.")


@contextmanager
def chatting(machine: Machine, user: str, *groups: str) -> Iterator[chat.Chat]:
    """Have somebody signed in who is in these groups and in the room of the smoke suite; the
    account is deleted afterwards, and was before.
    """
    trust = trusting(machine)

    def ask(action: str, wanted: Mapping[str, Any]) -> dict[str, Any]:
        return accounts.ask(machine.name, action, **wanted).model_dump()

    talk = chat.Chat(
        site(machine, "matrix"), site(machine, "auth"), ask,
        provider="oidc-canaille", connect=lambda there: Site(there, trust),
    )  # fmt: skip
    gone = {"user": user}
    with suppress(RaveError):
        ask("delete", gone)
    try:
        with closing(talk.one), closing(talk.two):
            chat.signed_in(talk, user, talk.one)
            ask("groups", {**gone, "add": list(groups), "remove": []})
            commanding.enter(talk, talk.one)
            yield talk
            leave(talk, talk.one)
    finally:
        with suppress(RaveError):
            ask("delete", gone)


def leave(talk: chat.Chat, client: Matrix) -> None:
    """Leave the rooms, and sign out, whoever still may."""
    if not client.token:
        return
    for room in talk.rooms:
        client.ask("POST", f"/rooms/{quote(room)}/leave", {})
    client.ask("POST", "/logout/all", {})
