"""Options that say what a job does and which Redis server hosts share, and what they ask for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from rave_cli.options import complete_secret

if TYPE_CHECKING:
    from collections.abc import Callable

    from rave_cli.pool.jobs.work import JobInput, Work
    from rave_cli.pool.queue.address import RedisAddress


def redis_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that name a Redis server which several hosts share; `redis_address` takes
    their values.
    """
    for option in (
        click.option(
            "--redis-secret", "url_secret", metavar="NAME",
            help="As --redis-file; the URL is one of your secrets.",
        ),
        click.option(
            "--redis-file", "url_file", metavar="FILE",
            type=click.Path(exists=True, dir_okay=False, path_type=Path),
            help="As --redis, with a password: the URL stands in that file, which is yours alone.",
        ),
        click.option(
            "--redis", "url", envvar="RAVE_POOL_REDIS", metavar="URL",
            help="A Redis server that several hosts share, instead of one of its own.",
        ),
    ):  # fmt: skip
        command = option(command)
    return command


def lend_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the option that names what jobs of other hosts may read."""
    return click.option(
        "--lend", "lends", multiple=True, metavar="NAME", shell_complete=complete_secret,
        help="Let jobs of other hosts that name this secret read that of this host (repeatable).",
    )(command)  # fmt: skip


def redis_address(url: str | None, file: Path | None, secret: str | None) -> RedisAddress | None:
    """Return the server that the options of `redis_options` name, if they name one.

    Raises:
        click.UsageError: they name two.
    """
    from rave_cli.pool.queue import address

    typed = click.get_current_context().get_parameter_source("url") is ParameterSource.COMMANDLINE
    if sum(one is not None for one in (url if typed else None, file, secret)) > 1:
        raise click.UsageError("--redis, --redis-file and --redis-secret do not go together.")
    if file is not None:
        return address.of_file(file)
    if secret is not None:
        return address.of_secret(secret)
    if url is None:
        return None
    return address.given(url) if typed else address.RedisAddress(url)


def work_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the command of a job, what it gets and its limits; `work_of` takes their values."""
    for option in reversed((
        click.option(
            "--input", "given", metavar="FOLDER",
            help="Unpack a copy of this where the command runs; - is a tar on standard input.",
        ),
        click.option(
            "--git", "repository", metavar="URL",
            help="The same, of a commit, which is fetched now, by this host's git.",
        ),
        click.option(
            "--revision", metavar="REV", default="HEAD", show_default=True,
            help="Branch, tag or commit of --git.",
        ),
        click.option(
            "--expires", type=click.FloatRange(min=0), metavar="SECONDS",
            help="Skip it if it has not begun by then.",
        ),
        click.option(
            "--traceparent", metavar="CONTEXT",
            help="The span that it is a part of, as W3C Trace Context writes it; else that of the"
            " variable TRACEPARENT, if there is one.",
        ),
    )):  # fmt: skip
        command = option(command)
    return recurring_work_options(command)


def recurring_work_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """As `work_options`, for jobs that are made again and again: without what holds for one."""
    for option in reversed((
        click.argument("command", nargs=-1, type=click.UNPROCESSED),
        click.option(
            "--script", type=click.File("rb"), metavar="FILE",
            help="A program's text to run, - from standard input; COMMAND are its arguments.",
        ),
        click.option(
            "--env", "environment", multiple=True, metavar="NAME=VALUE",
            help="A variable for the command; no secret (repeatable).",
        ),
        click.option(
            "--secret", "secrets", multiple=True, metavar="NAME", shell_complete=complete_secret,
            help="Lay out this secret in a file below $RAVE_SECRETS (repeatable).",
        ),
        click.option(
            "--artifact", "artifacts", multiple=True, metavar="PATH",
            help="Keep this file or folder that the command leaves where it runs (repeatable).",
        ),
        click.option(
            "--timeout", type=click.FloatRange(min=0, min_open=True, max=7 * 86400), default=600,
            show_default=True, metavar="SECONDS", help="Time for each attempt, all in all.",
        ),
        click.option(
            "--retries", type=click.IntRange(0, 100), default=0, show_default=True, metavar="N",
            help="Try it again so often if it fails or takes too long.",
        ),
        click.option(
            "--most-output", type=click.IntRange(1, 16384), default=1024, show_default=True,
            metavar="KIB", help="How much output of an attempt is kept.",
        ),
        click.option(
            "--most-artifacts", type=click.IntRange(1, 65536), default=64, show_default=True,
            metavar="MIB", help="How large its artifacts may be.",
        ),
        click.option(
            "--memory", type=click.Choice(["1024", "2048", "3072", "4096"]), metavar="MIB",
            help="Memory of its machine: 1024, 2048, 3072 or 4096; else what the pool gives.",
        ),
        click.option(
            "--cpus", type=click.IntRange(1, 2), metavar="N",
            help="Processors of its machine, 1 or 2; else what the pool gives.",
        ),
        click.option(
            "--allow", "allow", multiple=True, metavar="HOST:PORT",
            help="Let it reach this, which whoever serves must allow, too (repeatable).",
        ),
        click.option(
            "--cache", default="", metavar="KEY",
            help="Mount what your last job with this key left in $RAVE_CACHE, and keep what this"
            " one leaves there if it succeeds.",
        ),
        click.option(
            "--cache-read-only", is_flag=True,
            help="Keep nothing of what it leaves in its cache.",
        ),
        click.option(
            "--most-disk", type=click.IntRange(1, 1 << 20), default=8192, show_default=True,
            metavar="MIB", help="How much its machine may write to its disk.",
        ),
    )):  # fmt: skip
        command = option(command)
    return command


def _check_key(_ctx: click.Context, _parameter: click.Parameter, key: str) -> str:
    from rave_cli.pool.jobs.submission import check_key

    return check_key(key) if key else ""


idempotency_option = click.option(
    "--idempotency-key", "key", default="", metavar="KEY", callback=_check_key,
    help="Whoever asks for the same again with this gets the same job, not another.",
)  # fmt: skip


def work_of(asked: dict[str, Any]) -> Work:
    """Return the work that the options of `work_options` ask for; what it is given is kept.

    Raises:
        click.UsageError: options that do not go together.
        RaveError: USAGE if the command is no text, or too long; as keeping what it is given.
    """
    import time

    from rave_cli.pool.jobs.work import Work, pair_of, script_of

    script, expires = asked["script"], asked.get("expires")
    sources = [asked.get("given"), asked.get("repository")]
    if all(sources):
        raise click.UsageError("Either --input or --git.")
    if asked.get("cache_read_only") and not asked.get("cache"):
        raise click.UsageError("--cache-read-only goes with --cache.")
    if asked.get("given") == "-" and script is not None and script.name == "<stdin>":
        raise click.UsageError("Standard input is either the script or what the job is given.")
    work = Work(
        command=asked["command"],
        timeout=asked["timeout"],
        retries=asked["retries"],
        most_output=asked["most_output"] << 10,
        expires=None if expires is None else time.time() + expires,
        script="" if script is None else script_of(script.read()),
        environment=tuple(map(pair_of, asked["environment"])),
        secrets=asked["secrets"],
        artifacts=asked["artifacts"],
        most_artifacts=asked["most_artifacts"] << 20,
        most_disk=asked["most_disk"] << 20,
        memory_mib=None if asked["memory"] is None else int(asked["memory"]),
        cpus=asked["cpus"],
        cache=asked["cache"],
        keeps_cache=not asked["cache_read_only"],
        allow=asked["allow"],
        traceparent=_traceparent(asked["traceparent"]) if "traceparent" in asked else "",
    )
    return replace(work, given=_given(asked)) if any(sources) else work


def _traceparent(asked: str | None) -> str:
    """Return the span that a job is a part of. What the environment says counts if it is one."""
    import os

    from rave_cli.pool.jobs import tracecontext

    if asked is not None:
        return asked
    found = os.environ.get(tracecontext.VARIABLE, "")
    return found if tracecontext.parse(found) else ""


def _given(asked: dict[str, Any]) -> JobInput:
    import sys

    from rave_cli.pool.files import inputs

    if asked["repository"]:
        return inputs.keep_commit(asked["repository"], asked["revision"])
    if asked["given"] == "-":
        return inputs.keep_stream(sys.stdin.fileno())
    return inputs.keep_folder(Path(asked["given"]))
