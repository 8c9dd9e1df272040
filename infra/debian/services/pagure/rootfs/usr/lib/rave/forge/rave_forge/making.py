"""A project is made to its end, although whoever makes it may be killed.

Pagure 5.14.1 takes a task for done once it has begun, and does one that finds what is left of a try
of its own no more: it removes the project and leaves the repositories, whose name nobody can have
from then on (`create_project` in pagure/lib/tasks.py).
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pygit2
from pagure.config import config
from pagure.lib import git, model_base, query, tasks

if TYPE_CHECKING:
    from pagure.lib import model


def put_back() -> None:
    """Put back what a worker had taken that has gone: there is no other, and Redis alone would wait
    for as long as any task may take.
    """
    with tasks.conn.connection_for_read() as connection:
        taken = connection.default_channel.qos
        taken.visibility_timeout = 0
        taken.restore_visible(num=None)


def see_to_end() -> None:
    """Have a project made to its end by the task that is brought again."""
    task = tasks.create_project
    task.acks_late = True
    make = task.run

    def run(user: str, namespace: str | None, name: str, readme: bool, *rest: Any) -> Any:
        if not (task.request.delivery_info or {}).get("redelivered"):
            return make(user, namespace, name, readme, *rest)
        session = model_base.create_session(config["DB_URL"])
        try:
            project = query._get_project(session, namespace=namespace, name=name)  # noqa: SLF001 - as Pagure's own
            if project is None:
                return None
            if is_made(project):
                git.generate_gitolite_acls(project=project)
                return tasks.ret("ui_ns.view_repo", repo=name, namespace=namespace)
        finally:
            session.remove()
        # What is left there is of the try before.
        return make(user, namespace, name, readme, True, *rest[1:])

    task.run = run


def is_made(project: model.Project) -> bool:
    """Return whether somebody can clone a project; if not, clear away what holds nothing of it."""
    main = Path(project.repopath("main"))
    if main.exists() and not empty(main):
        return bool(list(pygit2.Repository(str(main)).branches.local))
    for kind in query.get_repotypes():
        place = project.repopath(kind)
        if place and Path(place).exists() and empty(Path(place)):
            shutil.rmtree(place)
    return False


def empty(repository: Path) -> bool:
    """Return whether a repository holds no object, however little of it is there."""
    return not any(found.is_file() for found in (repository / "objects").rglob("*"))
