"""The account of rave's own programs, whose API token is a secret of the catalog."""

from __future__ import annotations

import datetime
from typing import Any

from pagure.lib import model, query

NAME = "rave"
# As a person's token: everything but what is for Pagure's own parts.
NOT = {"internal_access"}
# Without a zone, as Pagure keeps it: a secret is good until another is installed.
EXPIRES = datetime.datetime(2999, 1, 1)


def keep(session: Any, acls: dict[str, str], token: str) -> None:
    """Let the account have this token and no other."""
    user = query.set_up_user(
        session, username=NAME, fullname="RAVE", default_email=f"{NAME}@rave.invalid"
    )
    for old in user.tokens:
        if old.id != token:
            session.delete(old)
    if token and token not in {known.id for known in user.tokens}:
        made = model.Token(id=token, user_id=user.id, description=NAME, expiration=EXPIRES)
        wanted = model.ACL.name.in_(sorted(acls.keys() - NOT))
        made.acls = session.query(model.ACL).filter(wanted).all()
        session.add(made)
    session.commit()
