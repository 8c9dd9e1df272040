"""A password that is used once: it leads to nothing but the page on which it is changed.

It is dated back, beyond the lifetime of any password (PASSWORD_LIFETIME in canaille.toml). When it
was made can still be told, and with it which sessions are older: those end, or whoever has one
could choose the new password.
"""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, Any

from canaille.app.session import current_user_session, logout_user
from flask import g, redirect, request, session, url_for

if TYPE_CHECKING:
    from flask import Flask

# Two centuries; the lifetime is one.
DATED_BACK = datetime.timedelta(days=73000)
# Where somebody with an open session gets something for it. Canaille looks for itself at its own
# pages, which are for those who are signed in.
SIGN_INS = ("oidc.endpoints.authorize",)


def enforce(app: Flask) -> None:
    """End sessions that are older than their password, and let nobody sign in to a service before
    one that is used once is changed.
    """
    app.before_request(end_older_sessions)
    app.before_request(change_first)


def end_older_sessions() -> None:
    """Sign out whoever signed in with a password that has been replaced since."""
    while (signed_in := g.get("session")) and older(signed_in):
        logout_user()
        g.session = current_user_session()


def older(signed_in: Any) -> bool:
    """Return whether a session began before its account's password was set."""
    began, since = signed_in.last_login_datetime, signed_in.user.password_last_update
    if began is None or since is None:
        return False
    if signed_in.user.has_expired_password():
        since += DATED_BACK
    return bool(began < since)


def change_first() -> Any:
    """Lead whoever has signed in with such a password to where it is changed, and then on."""
    signed_in = g.get("session")
    if request.endpoint not in SIGN_INS or not signed_in:
        return None
    if not signed_in.user.has_expired_password():
        return None
    session["redirect-after-login"] = request.url
    return redirect(url_for("core.account.reset", user=signed_in.user))
