"""Put a backup into a machine that runs: the one that it is of, or one that was made for it."""

from __future__ import annotations

import os
import threading
import time
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rave_cli.backups import parts
from rave_cli.backups.kept import STREAM, TIME
from rave_cli.backups.stream import StateStream, item, whole
from rave_cli.errors import ExitCode, RaveError
from rave_cli.flows import asking
from rave_cli.flows import backup as backups
from rave_cli.flows import log as logs
from rave_cli.flows import vault as vaults
from rave_cli.flows.events import step
from rave_cli.machines import store
from rave_cli.machines.guest import connection, door
from rave_cli.machines.guest.call import Refusal

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from datetime import datetime

    from rave_cli.backups.kept import Backup
    from rave_cli.backups.vault import Vault
    from rave_cli.flows.events import OnEvent, Step
    from rave_cli.flows.log import LogReplay
    from rave_cli.machines.spec import Machine
    from rave_cli.settings import Settings


TOLD = 4 << 20  # bytes between two tellings of how far it is


@dataclass(frozen=True)
class RestoredBackup:
    """A machine that has what a backup kept, and the seconds that putting it there took."""

    machine: str
    backup: Backup
    services: tuple[str, ...]
    seconds: float
    at: datetime | None = None  # the moment that PostgreSQL is of, if that is a later one

    def document(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {
            "machine": self.machine,
            "backup": self.backup.name,
            "at": parts.said(self.at) if self.at else None,
            "services": list(self.services),
            "seconds": round(self.seconds, 3),
        }


def into(
    name: str,
    wanted: str,
    settings: Settings,
    *,
    at: datetime | None = None,
    only: tuple[str, ...] = (),
    instance: str | None = None,
    on_event: OnEvent,
) -> RestoredBackup:
    """Put a backup of a machine back into it, while it runs.

    Args:
        name: the machine.
        wanted: the backup's name, or `latest`.
        settings: where the backups are.
        at: the moment that PostgreSQL is to be of; None for the backup's own.
        only: the services; all of the backup's if none is named.
        instance: the instance that the backup is of, if that is another one than the machine.
        on_event: told what happens.

    Raises:
        RaveError: USAGE if there is no such backup, or it is of another machine; VERIFICATION if it
            is damaged; NOT_READY if the machine does not take it. What the machine had is there.
    """
    machine = store.load(name)
    target = vaults.opened(settings)
    recovery = None
    if at is None:
        found = vaults.find(target.listing(), name, wanted)
    else:
        found, recovery = logs.recovery(target, name, at, wanted)
    vaults.missing_services(found, only)
    demand_log_wanted(recovery, only)
    _same(machine, found, instance)
    return put(machine, target, found, only=only, recovery=recovery, on_event=on_event)


def demand_log_wanted(recovery: LogReplay | None, only: tuple[str, ...]) -> None:
    """Refuse a moment for services that have none.

    Raises:
        RaveError: USAGE.
    """
    if recovery is not None and only and parts.SERVICE not in only:
        raise RaveError(
            f"--at is a moment of PostgreSQL, and {', '.join(only)} is to be restored alone",
            hint=f"--only {parts.SERVICE}; or without --at",
            exit_code=ExitCode.USAGE,
        )


def _same(machine: Machine, found: Backup, instance: str | None) -> None:
    own = machine.spec.instance_id
    if found.instance == own or (instance is not None and found.instance == instance):
        return
    raise RaveError(
        f"backup {found.name} is of another machine: of the instance {found.instance}, and"
        f" {machine.name} is {own}",
        hint=f"rave backup restore {found.machine} --from {found.name} --to NEW; or, to replace"
        f" what {machine.name} has: --instance {found.instance}",
        exit_code=ExitCode.USAGE,
    )


def put(
    machine: Machine,
    target: Vault,
    found: Backup,
    *,
    only: tuple[str, ...] = (),
    recovery: LogReplay | None = None,
    on_event: OnEvent,
) -> RestoredBackup:
    """Put a backup into a machine, whichever it is of; with `recovery` PostgreSQL goes on from
    there to a moment.

    Raises:
        RaveError: as `into`.
    """
    began = time.monotonic()
    title = f"Putting {found.name} into {machine.name}"
    request = asking.request("put", only=list(only), backup=found.name)
    answer, said = bytearray(), bytearray()

    def take(number: int, data: bytes) -> None:
        kept = answer if number == 1 else said
        kept.extend(data[: door.MOST_ANSWER - len(kept)])

    with step(on_event, "restore", title) as doing, connection.connect(machine) as session:
        about = backups.about(machine, session)
        if recovery is not None and about.get("log") is not True:
            raise RaveError(
                f"machine {machine.name} was made by an older rave, whose guests restore no"
                " moments",
                hint=f"rave vm update {machine.name}; or without --at",
                exit_code=ExitCode.HOST,
            )
        pieces = composed(target, found, recovery, doing)
        with _feeding(pieces, request) as feeder:
            status = session.stream(
                asking.PROGRAM, stdin=feeder.source, on_output=take, timeout=asking.LONGEST,
                sudo=True,
            )  # fmt: skip
        feeder.demand()
        services, troubled = _services(machine, bytes(answer), bytes(said), status)
        for name in troubled:
            doing.warning(f"{name} does not start with what was put back: rave vm logs"
                          f" {machine.name}")  # fmt: skip
    at = recovery.at if recovery is not None else None
    return RestoredBackup(machine.name, found, services, time.monotonic() - began, at)


def _services(
    machine: Machine, answer: bytes, said: bytes, status: int
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return what the guest has put back, and what does not start with that."""
    try:
        found = door.read(door.decode(answer))
        if isinstance(found, Refusal):
            raise asking.refused(machine, found.stage, found.why)
        return tuple(map(str, found["services"])), tuple(map(str, found.get("troubled", ())))
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        why = said.decode(errors="replace").strip().splitlines()[-1:] or [f"exit status {status}"]
        raise RaveError(
            f"machine {machine.name} does not say that it took the backup: {why[0]}",
            hint=f"rave vm status {machine.name}; the same command again takes back what was left",
            exit_code=ExitCode.NOT_READY,
        ) from error


@contextmanager
def _feeding(pieces: Generator[bytes], request: bytes) -> Iterator[_Feeder]:
    """Let a backup be read meanwhile, for whoever reads the feeder's `source`."""
    feeder = _Feeder(pieces, request)
    feeder.thread.start()
    try:
        yield feeder
    finally:
        # Whoever writes into it then hears that nobody reads any more.
        os.close(feeder.source)
        feeder.thread.join(5.0)


class _Feeder:
    """Hands a request and what follows to whoever reads `source`."""

    def __init__(self, pieces: Generator[bytes], request: bytes) -> None:
        self._pieces, self._request = pieces, request
        self._fault: BaseException | None = None
        self.source, self._sink = os.pipe()
        self.thread = threading.Thread(target=self._run, daemon=True)

    def demand(self) -> None:
        """Raise what went wrong, if something did."""
        if self._fault is not None:
            raise self._fault

    def _run(self) -> None:
        try:
            with os.fdopen(self._sink, "wb") as sink, closing(self._pieces) as pieces:
                sink.write(self._request)
                for piece in pieces:
                    sink.write(piece)
        except BrokenPipeError:
            pass
        except BaseException as error:  # noqa: BLE001 - raised again where it can be handled
            self._fault = error


def composed(
    target: Vault, found: Backup, recovery: LogReplay | None, doing: Step
) -> Generator[bytes]:
    """Yield a backup for a guest, with the log behind it; its end only when all is known to be what
    was written.

    Raises:
        RaveError: VERIFICATION if it is not; as the engine fails.
    """
    stream = StateStream(vaults.bound(found), packs=True)
    size = found.size + (recovery.size if recovery is not None else 0)
    held, told = b"", 0
    with target.engine.read(found.stream, STREAM) as reading:
        for piece in reading.pieces():
            given = stream.feed(piece)
            if given:
                yield held
                held = given
            if stream.size - told > TOLD:
                told = stream.size
                doing.progress(f"{told >> 20} MiB", told, size)
    stream.finish()
    if stream.sha256 != found.sha256:
        raise vaults.unsound(found)
    if recovery is None:
        yield held
        return
    # The line that says how many items there are is the last one.
    yield held[: held.rindex(b'{"whole"')]
    at = recovery.at.strftime(TIME)
    yield from item(parts.SERVICE, "log.json", at, iter([recovery.facts()]))
    yield from item(parts.SERVICE, "log", at, recovery.pieces(target))
    yield whole(len(stream.items) + 2)
