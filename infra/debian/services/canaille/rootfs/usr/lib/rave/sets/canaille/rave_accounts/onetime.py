"""A password that is used once: it leads to nothing but the page on which it is changed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flask import g, redirect, request, session, url_for

if TYPE_CHECKING:
    from flask import Flask

# Where somebody with an open session gets something for it. Canaille looks for itself at its own
# pages, which are for those who are signed in.
SIGN_INS = ("oidc.endpoints.authorize",)


def enforce(app: Flask) -> None:
    """Let nobody sign in to a service before the password is changed."""
    app.before_request(change_first)


def change_first() -> Any:
    """Lead whoever has signed in with such a password to where it is changed, and then on."""
    signed_in = g.get("session")
    if request.endpoint not in SIGN_INS or not signed_in:
        return None
    if not signed_in.user.has_expired_password():
        return None
    session["redirect-after-login"] = request.url
    return redirect(url_for("core.account.reset", user=signed_in.user))
