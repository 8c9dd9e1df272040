"""Clients of single sign-on as lines."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rave_cli.flows.accounts import SignInClient

COLUMNS = ("client", "service", "state", "secret", "back to")


def client_row(client: SignInClient) -> tuple[str, ...]:
    """Return a client as a row of COLUMNS."""
    state = "registered" if client.registered else "without secret"
    return (client.id, client.service, state, client.secret, " ".join(client.redirects))


def client_lines(client: SignInClient) -> list[str]:
    """Return a client as lines."""
    rows = [*zip(COLUMNS, client_row(client), strict=True), ("scopes", " ".join(client.scopes))]
    return [f"{head:<9} {value}" for head, value in rows]
