"""Fetch PostgreSQL's write-ahead log from a machine, so that it can be restored to any moment.

The guest holds it until this host says that it has it; each fetch says so of the one before.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import IO, TYPE_CHECKING, Any

from rave_cli import paths
from rave_cli.backups import log, parts, standing
from rave_cli.backups.parts import LogPart
from rave_cli.backups.stream import BrokenStreamError, StateStream
from rave_cli.errors import ExitCode, RaveError
from rave_cli.flows import asking, vault
from rave_cli.flows.events import step
from rave_cli.machines import store
from rave_cli.machines.guest import connection

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from rave_cli.backups.kept import Backup
    from rave_cli.backups.log import LogChain
    from rave_cli.backups.vault import Vault
    from rave_cli.flows.events import OnEvent, Step
    from rave_cli.machines.guest.channel import CommandChannel
    from rave_cli.machines.guest.session import Session
    from rave_cli.machines.spec import Machine
    from rave_cli.settings import Settings

# Bytes of one fetch at most: more than PostgreSQL holds for a host that stays away.
MOST = 2 << 30
MOST_FACTS = 4 << 10
# Seconds by which a guest's clock may be ahead.
AHEAD = 300


@dataclass(frozen=True)
class FetchedLog:
    """What a fetch brought.

    Attributes:
        part: it.
        begun: why it does not go on from what was there; None if it does.
        based: whether there is a backup from which it leads on.
        seconds: what it took.
    """

    part: LogPart
    begun: str | None
    based: bool
    seconds: float

    def document(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {
            "machine": self.part.machine,
            "chain": self.part.chain,
            "start": parts.told(self.part.start),
            "end": parts.told(self.part.end),
            "bytes": self.part.size,
            "until": self.part.until,
            "begun": self.begun,
            "based": self.based,
            "seconds": round(self.seconds, 3),
        }


def fetch(name: str, settings: Settings, *, on_event: OnEvent) -> FetchedLog:
    """Fetch what there is of a machine's log beyond what is kept.

    Raises:
        RaveError: USAGE if it has no PostgreSQL; NOT_READY if it does not send it; HOST if it
            cannot be kept; SECRETS if the key cannot be had. What was kept before is there.
    """
    machine, began = store.load(name), time.monotonic()
    has_log(machine)
    target = vault.opened_or_made(settings, on_event)
    with (
        paths.lock(_lock(machine), busy=f"another rave fetches the log of {name}"),
        step(on_event, "log", f"Fetching PostgreSQL's log of {name}") as doing,
        tempfile.TemporaryFile(dir=paths.make_dir(paths.data_dir())) as spool,
    ):
        listing = target.listing()
        known = [one for one in log.chains(listing.logs) if _is_of(one, machine)]
        last = known[-1].last if known else None
        with connection.connect(machine) as session:
            rate = asking.SAFE_RATE if settings.mode == "safe" else 0
            part = _received(machine, session, spool, asked(last, rate))
        begun = _begun(last, part)
        if begun is not None and last is not None:
            doing.warning(begun)
        target.engine.unlock()
        kept = target.engine.keep(spool, parts.FILE, host=name, tags=part.tags())
        there = [*listing.logs, replace(part, snapshot=kept)]
        chain = [one for one in log.chains(there) if _is_of(one, machine)][-1]
        _fold(target, name, chain, doing)
        based = any(chain.is_behind(one) for one in listing.backups)
        doing.note(f"{part.size >> 10} KiB, up to {parts.said(parts.moment_of(part.until))}")
    return FetchedLog(part, begun, based, time.monotonic() - began)


def stop(name: str, *, on_event: OnEvent) -> None:
    """Let a machine hold nothing of its log for this host any more; what is kept stays.

    Raises:
        RaveError: as `fetch`.
    """
    machine = store.load(name)
    has_log(machine)
    with (
        step(on_event, "log", f"Letting {name} hold no log any more"),
        connection.connect(machine) as session,
    ):
        _answered(machine, session, StateStream(MOST_FACTS), asking.request("log", stop=True))


def _lock(machine: Machine) -> Path:
    return paths.state_dir() / "backups" / f".{machine.spec.instance_id}.log.lock"


def has_log(machine: Machine) -> None:
    """Refuse a machine that has no log.

    Raises:
        RaveError: USAGE.
    """
    plan = store.plan(machine)
    found = None if plan is None else plan.services.get(parts.SERVICE)
    if found is None or not found.state:
        spec = machine.spec
        raise RaveError(
            f"machine {machine.name} has no PostgreSQL whose log could be fetched: {spec.profile}"
            f" on {spec.base}",
            hint="rave up --profile demo --base debian makes one that has",
            exit_code=ExitCode.USAGE,
        )


def _is_of(chain: LogChain, machine: Machine) -> bool:
    return chain.last.instance == machine.spec.instance_id


def asked(last: LogPart | None, rate: int) -> bytes:
    """Return the request for what comes after a part; None: for all from now on."""
    said: dict[str, object] = {"rate": rate, "allowed": standing.LOG_WITHIN}
    if last is not None:
        until = int(parts.moment_of(last.until).timestamp())
        said |= {
            "chain": last.chain,
            "end": parts.told(last.end),
            "tail": last.tail,
            "until": until,
        }
    return asking.request("log", **said)


def _begun(last: LogPart | None, part: LogPart) -> str | None:
    """Return why a part does not go on from the one before; None if it does."""
    if last is None:
        return "it is the first that is fetched of this machine"
    if part.chain == last.chain:
        return None
    return (
        f"the log goes on from {parts.said(parts.moment_of(part.since))} alone: the machine was"
        " restored meanwhile, or nobody fetched for so long that PostgreSQL has given up what came"
        f" after {parts.said(parts.moment_of(last.until))}; a new backup is needed"
    )


def _received(
    machine: Machine, session: CommandChannel | Session, spool: IO[bytes], request: bytes
) -> LogPart:
    """Let the guest send it into a file; what it says of it is held against that."""
    facts = bytearray()
    summed = hashlib.sha256()

    def take(data: bytes) -> None:
        if not stream.items:
            if len(facts) + len(data) > MOST_FACTS:
                raise _broken("it says too much of it")
            facts.extend(data)
            return
        summed.update(data)
        spool.write(data)

    stream = StateStream(MOST, on_piece=take)
    _answered(machine, session, stream, request)
    if stream.instance != machine.spec.instance_id:
        raise asking.unusable(machine, "it says that it is another machine")
    if [(one.service, one.name) for one in stream.items] != [
        (parts.SERVICE, "log.json"),
        (parts.SERVICE, "log"),
    ]:
        raise _broken("it has other parts than a log has")
    spool.seek(max(0, stream.items[1].size - parts.TAIL))
    tail = hashlib.sha256(spool.read()).hexdigest()
    part = _part(machine, bytes(facts), json.loads(request)["arguments"], summed.hexdigest(), tail)
    if part.size != stream.items[1].size:
        raise _broken("it is not as long as it says")
    return part


def _part(
    machine: Machine, facts: bytes, wanted: dict[str, Any], sha256: str, tail: str
) -> LogPart:
    """Return what came as a part, if it is what was asked for.

    Raises:
        BrokenStreamError: NOT_READY if it is not.
    """
    try:
        found = json.loads(facts)
        goes_on = found["chain"] == wanted.get("chain")
        since = found["since"]
        if goes_on:
            until = datetime.fromtimestamp(wanted["until"], UTC)
            since = until.strftime(parts.TIME)
        part = LogPart(
            machine.name, machine.spec.instance_id, str(found["chain"]), int(found["timeline"]),
            int(found["segment"]), str(int(found["system"])), parts.place_of(found["start"]),
            parts.place_of(found["end"]), since, found["until"], sha256, tail,
        )  # fmt: skip
        _ = parts.moment_of(since)
        ahead = parts.moment_of(part.until) - datetime.now(UTC)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise _broken("what it says of it is no description of a log") from error
    if not parts.CHAIN.fullmatch(part.chain) or part.size < parts.TAIL or part.segment < 1 << 20:
        raise _broken("what it says of it is no description of a log")
    if goes_on and found["start"] != wanted["end"]:
        raise _broken("it does not go on where the last one ended")
    if ahead > timedelta(seconds=AHEAD):
        raise RaveError(
            f"the clock of machine {machine.name} is {ahead.total_seconds():.0f} s ahead of this"
            " host's: its log cannot be told by the time",
            hint=f"rave vm exec {machine.name} -- date -u; date -u",
            exit_code=ExitCode.NOT_READY,
        )
    return part


def _answered(
    machine: Machine, session: CommandChannel | Session, stream: StateStream, request: bytes
) -> None:
    said = bytearray()

    def take(number: int, data: bytes) -> None:
        if number == 1:
            stream.feed(data)
        else:
            said.extend(data[: 4096 - len(said)])

    with asking.given(request) as source:
        session.stream(
            asking.PROGRAM, stdin=source, on_output=take, timeout=asking.LONGEST, sudo=True
        )
    if stream.refusal is not None and stream.refusal[0] == "request":
        raise RaveError(
            f"machine {machine.name} was made by an older rave, whose guests do not send"
            " PostgreSQL's log",
            hint=f"rave vm update {machine.name}",
            exit_code=ExitCode.HOST,
        )
    asking.demand(machine, stream.refusal, said)
    stream.finish()


def _broken(why: str) -> BrokenStreamError:
    return BrokenStreamError(
        f"PostgreSQL's log did not come as it should: {why}",
        hint="try again; rave vm logs NAME says what the machine saw",
        exit_code=ExitCode.NOT_READY,
    )


def read(target: Vault, part: LogPart) -> Iterator[bytes]:
    """Yield the bytes of a part.

    Raises:
        UnsoundRepositoryError: VERIFICATION if they are not what was written; some came by then.
        RaveError: HOST if they cannot be read.
    """
    summed, size = hashlib.sha256(), 0
    with target.engine.read(part.snapshot, parts.FILE) as reading:
        for piece in reading.pieces():
            summed.update(piece)
            size += len(piece)
            yield piece
    if size != part.size or summed.hexdigest() != part.sha256:
        raise vault.unsound_log(part)


def _fold(target: Vault, name: str, chain: LogChain, doing: Step) -> None:
    """Make the small parts at a chain's end one; it stays as it is if that fails."""
    small = chain.small()
    if len(small) < log.MOST_SMALL:
        return
    first, last, summed = small[0], small[-1], hashlib.sha256()
    try:
        with tempfile.TemporaryFile(dir=paths.data_dir()) as spool:
            for part in small:
                for piece in read(target, part):
                    summed.update(piece)
                    spool.write(piece)
            whole = replace(
                first, end=last.end, until=last.until, sha256=summed.hexdigest(), tail=last.tail,
                timeline=last.timeline,
            )  # fmt: skip
            target.engine.keep(spool, parts.FILE, host=name, tags=whole.tags())
        # Only now: each byte is in one that stays.
        target.engine.forget([part.snapshot for part in small])
    except RaveError as error:
        doing.note(f"its parts stay as they are for now: {error.message}")


@dataclass(frozen=True)
class LogReplay:
    """How a backup becomes what the machine was at a later moment."""

    at: datetime
    chain: LogChain

    @property
    def size(self) -> int:
        """Bytes of the log."""
        return sum(part.size for part in self.chain.parts)

    def facts(self) -> bytes:
        """Return what the guest is told (rave_guest/state/log.py)."""
        first, last = self.chain.parts[0], self.chain.last
        return json.dumps(
            {
                "timeline": last.timeline,
                "segment": last.segment,
                "start": parts.told(first.start),
                "end": parts.told(last.end),
                "at": self.at.astimezone(UTC).strftime(parts.TIME),
            }
        ).encode()

    def pieces(self, target: Vault) -> Iterator[bytes]:
        """Yield the bytes of the log.

        Raises:
            RaveError: as `read`.
        """
        for part in self.chain.parts:
            yield from read(target, part)


def recovery(
    target: Vault, machine: str, at: datetime, wanted: str = "latest"
) -> tuple[Backup, LogReplay]:
    """Return by which backup and log a machine is as it was at a moment.

    Raises:
        RaveError: USAGE if it cannot be, with what can; or there is no such backup.
    """
    listing = target.listing()
    backups, known = listing.of_machine(machine), log.chains(listing.logs_of(machine))
    if wanted != "latest":
        backups = (vault.find(listing, machine, wanted),)
    if (found := log.choose(backups, known, at)) is not None:
        return found[0], LogReplay(at, found[1])
    spans = log.spans(backups, known)
    near = log.nearest(spans, at)
    if near is None:
        raise RaveError(
            f"machine {machine} cannot be restored to a moment: there is no backup of it with"
            " PostgreSQL's log behind it",
            hint=f"rave backup schedule set {machine} --log 7   fetches the log from now on;"
            f" rave backup list {machine} has what there is",
            exit_code=ExitCode.USAGE,
        )
    raise RaveError(
        f"{machine} cannot be restored to {parts.said(at)}, but to {'; '.join(map(str, spans))}",
        hint=f"the nearest: --at {parts.said(near)}",
        exit_code=ExitCode.USAGE,
    )
