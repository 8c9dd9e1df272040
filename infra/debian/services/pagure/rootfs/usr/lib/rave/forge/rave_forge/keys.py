"""The keys by which webhooks of projects are signed: they follow from one secret.

Pagure gives each project a key of its own at random, which whoever takes its webhooks in would have
to be told. That program works them out from the secret instead (rave_platform/domain/signatures.py,
`project_key`). Who maintains a project sees its key, and with it can say nothing of another.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Any

from pagure.lib import model
from sqlalchemy import event

LENGTH = 40  # of the column


def key_of(secret: str, name: str) -> str:
    """Return the key of a project, by its path with the namespace."""
    return hmac.new(secret.encode(), name.encode(), hashlib.sha256).hexdigest()[:LENGTH]


def keep(session: Any, secret: str) -> None:
    """Give each project its key, those that are there and whatever will be.

    Forks keep theirs: no agent works in one.
    """

    def give(_mapper: object, _connection: object, project: Any) -> None:
        if not project.is_fork:
            project.hook_token = key_of(secret, project.fullname)

    for project in session.query(model.Project).filter_by(is_fork=False):
        give(None, None, project)
    session.commit()
    # Whoever asks Pagure for another key gets the same: the secret is what is exchanged.
    for when in ("before_insert", "before_update"):
        event.listen(model.Project, when, give)
