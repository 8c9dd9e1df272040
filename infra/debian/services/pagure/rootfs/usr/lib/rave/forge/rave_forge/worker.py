"""Does what takes longer than a request may: makes projects, merges, tells hooks of projects.

One process, one task after another, for both of Pagure's kinds of tasks: each would have a worker
of its own, of 100 MB.
"""

from __future__ import annotations

from contextlib import suppress

from celery.signals import worker_ready
from pagure.config import config
from pagure.lib import git, model, model_base, tasks, tasks_services
from sqlalchemy.exc import ProgrammingError

from rave_forge import database, making
from rave_forge.systemd import notify

QUEUES = ("celery", config["WEBHOOK_CELERY_QUEUE"], config["LOGCOM_CELERY_QUEUE"])


@worker_ready.connect  # type: ignore[untyped-decorator]
def ready(**_: object) -> None:
    """Say that tasks are taken."""
    notify("READY=1")


def take_up() -> None:
    """See to what a worker that was broken off had begun: a project that it was making could be
    neither pushed to nor deleted. It is free when what was asked for earlier is done.
    """
    session = model_base.create_session(config["DB_URL"])
    # Before the first start of what serves it there are no tables.
    with suppress(ProgrammingError):
        for project in session.query(model.Project).filter(model.Project.read_only):
            git.generate_gitolite_acls(project=project)
    session.remove()


def main() -> None:
    """Work until the end."""
    database.wait(config["DB_URL"])
    making.see_to_end()
    making.put_back()
    take_up()
    for name, task in tasks_services.conn.tasks.items():
        tasks.conn.tasks.setdefault(name, task)
    tasks.conn.worker_main(
        [
            "worker", "--pool=solo", "--loglevel=WARNING", f"--queues={','.join(QUEUES)}",
            # There is no other worker to hear of.
            "--without-gossip", "--without-mingle", "--without-heartbeat",
        ]
    )  # fmt: skip
