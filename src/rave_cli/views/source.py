"""How sources of a pool read, for people and as JSON."""

from __future__ import annotations

import shlex
import time
from typing import TYPE_CHECKING, Any

from rave_cli.views.pool import duration

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rave_cli.pool.sources.ledger import KnownRevision, PollState
    from rave_cli.pool.sources.source import ForgeSource
    from rave_cli.show import Line, Show


def source_document(source: ForgeSource, poll: PollState | None = None) -> dict[str, Any]:
    """Return what `--json` shows of a source."""
    document: dict[str, Any] = {
        "source": source.name,
        "forge": source.forge,
        "url": source.url,
        "repository": source.repository,
        "on": list(source.on),
        "refs": list(source.refs),
        "secrets": list(source.secrets),
        "token": source.token,
        "every": source.every,
        "forks": source.forks,
        "dispatcher": source.dispatcher,
        "sender": source.sender,
        "clone": source.fetched_from,
        "link": source.link,
        "hook": f"/v1/hooks/{source.name}" if source.secrets else "",
        "command": list(source.work.command),
        "script": bool(source.work.script),
        "jobSecrets": list(source.work.secrets),
    }
    if poll is not None:
        document["poll"] = {
            "done": poll.done, "due": poll.due or None, "failed": poll.tries, "why": poll.why,
        }  # fmt: skip
    return document


def revision_document(known: KnownRevision) -> dict[str, Any]:
    """Return what `--json` shows of a revision."""
    return {
        "kind": known.revision.kind,
        "name": known.revision.name,
        "commit": known.revision.commit,
        "fork": known.revision.fork,
        "toldBy": known.told_by,
        "seen": known.seen,
        "state": known.state,
        "why": known.why,
        "job": known.job,
    }


def source_rows(
    show: Show, sources: Sequence[ForgeSource], polls: Mapping[str, PollState]
) -> list[Line]:
    """Return a table of sources."""
    rows = [
        (
            one.name, one.forge, one.repository, " ".join(one.on), _polled(one, polls[one.name]),
            _command(one),
        )
        for one in sources
    ]  # fmt: skip
    return show.table(("source", "forge", "repository", "on", "poll", "command"), rows)


def source_lines(
    show: Show, source: ForgeSource, poll: PollState, known: Sequence[KnownRevision]
) -> list[Line]:
    """Return all that is known of a source."""
    heard = [f"/v1/hooks/{source.name}"] if source.secrets else []
    heard += [f"{source.sender} of machine {source.dispatcher}"] if source.dispatcher else []
    pairs = {
        "forge": f"{source.forge} at {source.url}",
        "repository": source.repository,
        "on": " ".join(source.on) + (f" of {' '.join(source.refs)}" if source.refs else ""),
        "forks": "built, without secrets" if source.forks else "not built",
        "hooks": ", ".join(heard) or "none",
        "signed with": " ".join(source.secrets),
        "asked with": source.token,
        "poll": _polled(source, poll),
        "fetched from": source.fetched_from,
        "command": _command(source),
        "its secrets": " ".join(source.work.secrets),
    }
    lines: list[Line] = [
        f"source {source.name}", *(f"  {name:<12} {said}" for name, said in pairs.items() if said)
    ]  # fmt: skip
    now = time.time()
    rows = [
        (
            one.state, one.revision.kind, one.revision.shown, one.told_by,
            f"{duration(now - one.seen)} ago", one.job or one.why,
        )
        for one in known
    ]  # fmt: skip
    if rows:
        lines += show.table(("state", "event", "revision", "told by", "when", "job"), rows)
    return lines


def _polled(source: ForgeSource, poll: PollState) -> str:
    if not source.every:
        return "never"
    if poll.why:
        return f"failed: {poll.why}"
    if poll.done is None:
        return "not yet"
    return f"{duration(time.time() - poll.done)} ago, each {duration(source.every)}"


def _command(source: ForgeSource) -> str:
    work = source.work
    return shlex.join([*(["SCRIPT"] if work.script else []), *work.command])
