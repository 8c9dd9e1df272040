"""Does what takes longer than a request may: makes projects, merges, tells hooks of projects.

One process, one task after another, for both of Pagure's kinds of tasks: each would have a worker
of its own, of 100 MB.
"""

from __future__ import annotations

from celery.signals import worker_ready
from pagure.config import config
from pagure.lib import tasks, tasks_services

from rave_forge.systemd import notify

QUEUES = ("celery", config["WEBHOOK_CELERY_QUEUE"], config["LOGCOM_CELERY_QUEUE"])


@worker_ready.connect  # type: ignore[untyped-decorator]
def ready(**_: object) -> None:
    """Say that tasks are taken."""
    notify("READY=1")


def main() -> None:
    """Work until the end."""
    for name, task in tasks_services.conn.tasks.items():
        tasks.conn.tasks.setdefault(name, task)
    tasks.conn.worker_main(
        [
            "worker", "--pool=solo", "--loglevel=WARNING", f"--queues={','.join(QUEUES)}",
            # There is no other worker to hear of.
            "--without-gossip", "--without-mingle", "--without-heartbeat",
        ]
    )  # fmt: skip
