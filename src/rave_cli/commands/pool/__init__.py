"""`rave pool`: a file per verb."""

from __future__ import annotations

import click

from rave_cli.lazy import CONTEXT, Lazy, LazyGroup


@click.group(
    cls=LazyGroup,
    context_settings=CONTEXT,
    lazy={
        "serve": Lazy("rave_cli.commands.pool.serve:serve", "Run the jobs of the pool."),
        "work": Lazy("rave_cli.commands.pool.work:work", "Run a job of another host's pool."),
        "submit": Lazy("rave_cli.commands.pool.submit:submit", "Submit a command as a job."),
        "run": Lazy("rave_cli.commands.pool.run:run", "Submit a command and follow it."),
        "list": Lazy("rave_cli.commands.pool.list:list_", "The jobs that there are."),
        "show": Lazy("rave_cli.commands.pool.show:show", "All that is known of a job."),
        "logs": Lazy("rave_cli.commands.pool.logs:logs", "What a job printed."),
        "cancel": Lazy("rave_cli.commands.pool.cancel:cancel", "Cancel a job."),
        "artifacts": Lazy("rave_cli.commands.pool.artifacts:artifacts", "What a job left."),
        "push": Lazy("rave_cli.commands.pool.push:push", "Push what a job left to a registry."),
        "pull": Lazy("rave_cli.commands.pool.pull:pull", "Pull what a job left from there."),
        "explain": Lazy("rave_cli.commands.pool.explain:explain", "Why a job waits."),
        "trace": Lazy("rave_cli.commands.pool.trace:trace", "Where the time of a job went."),
        "status": Lazy("rave_cli.commands.pool.status:status", "How the pool stands."),
        "top": Lazy("rave_cli.commands.pool.top:top", "Watch the pool."),
        "retry": Lazy("rave_cli.commands.pool.retry:retry", "Submit jobs again."),
        "dead": Lazy("rave_cli.commands.pool.dead:dead", "Jobs that were given up."),
        "drain": Lazy("rave_cli.commands.pool.drain:drain", "Let no job begin any more."),
        "scale": Lazy("rave_cli.commands.pool.scale:scale", "How many jobs run at a time."),
        "bench": Lazy("rave_cli.commands.pool.bench:bench", "Measure it, or its crash matrix."),
        "verify": Lazy("rave_cli.commands.pool.verify:verify", "Verify the proof of a job."),
        "token": Lazy("rave_cli.commands.pool.token:token", "Who else may ask the pool."),
        "guest": Lazy("rave_cli.commands.pool.guest:guest", "Machines that may ask the pool."),
        "cache": Lazy("rave_cli.commands.pool.cache:cache", "What jobs leave for the next."),
        "export": Lazy(
            "rave_cli.commands.pool.export:export", "Files for others who run or watch it."
        ),
        "source": Lazy("rave_cli.commands.pool.source:source", "Forges whose pushes become jobs."),
        "executor": Lazy(
            "rave_cli.commands.pool.executor:executor", "What GitLab Runner asks of it."
        ),
    },
)
def pool() -> None:
    """Run jobs, each in a machine of its own that is made for it and deleted afterwards."""
