"""Put a backup into a machine that runs: the one that it is of, or one that was made for it."""

from __future__ import annotations

import os
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rave_cli.backups.kept import STREAM
from rave_cli.backups.stream import StateStream
from rave_cli.errors import ExitCode, RaveError
from rave_cli.flows import backup as backups
from rave_cli.flows import vault as vaults
from rave_cli.flows.events import step
from rave_cli.machines import store
from rave_cli.machines.guest import connection, door
from rave_cli.machines.guest.call import Refusal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rave_cli.backups.kept import Backup
    from rave_cli.backups.vault import Vault
    from rave_cli.flows.events import OnEvent, Step
    from rave_cli.machines.spec import Machine
    from rave_cli.settings import Settings


@dataclass(frozen=True)
class RestoredBackup:
    """A machine that has what a backup kept, and the seconds that putting it there took."""

    machine: str
    backup: Backup
    services: tuple[str, ...]
    seconds: float

    def document(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {
            "machine": self.machine,
            "backup": self.backup.name,
            "services": list(self.services),
            "seconds": round(self.seconds, 3),
        }


def into(
    name: str,
    wanted: str,
    settings: Settings,
    *,
    only: tuple[str, ...] = (),
    instance: str | None = None,
    on_event: OnEvent,
) -> RestoredBackup:
    """Put a backup of a machine back into it, while it runs.

    Args:
        name: the machine.
        wanted: the backup's name, or `latest`.
        settings: where the backups are.
        only: the services; all of the backup's if none is named.
        instance: the instance that the backup is of, if that is another one than the machine.
        on_event: told what happens.

    Raises:
        RaveError: USAGE if there is no such backup, or it is of another machine; VERIFICATION if it
            is damaged; NOT_READY if the machine does not take it. What the machine had is there.
    """
    machine = store.load(name)
    target = vaults.opened(settings)
    found = vaults.find(target.listing(), name, wanted)
    vaults.missing_services(found, only)
    _same(machine, found, instance)
    return put(machine, target, found, only=only, on_event=on_event)


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
    machine: Machine, target: Vault, found: Backup, *, only: tuple[str, ...] = (), on_event: OnEvent
) -> RestoredBackup:
    """Put a backup into a machine, whichever it is of.

    Raises:
        RaveError: as `into`.
    """
    began = time.monotonic()
    title = f"Putting {found.name} into {machine.name}"
    request = backups.request("put", only=list(only), backup=found.name)
    answer, said = bytearray(), bytearray()

    def take(number: int, data: bytes) -> None:
        kept = answer if number == 1 else said
        kept.extend(data[: door.MOST_ANSWER - len(kept)])

    with step(on_event, "restore", title) as doing, connection.connect(machine) as session:
        backups.about(machine, session)
        with _feeding(target, found, request, doing) as feeder:
            status = session.stream(
                backups.PROGRAM, stdin=feeder.source, on_output=take, timeout=backups.LONGEST,
                sudo=True,
            )  # fmt: skip
        feeder.demand()
        services, troubled = _services(machine, bytes(answer), bytes(said), status)
        for name in troubled:
            doing.warning(f"{name} does not start with what was put back: rave vm logs"
                          f" {machine.name}")  # fmt: skip
    return RestoredBackup(machine.name, found, services, time.monotonic() - began)


def _services(
    machine: Machine, answer: bytes, said: bytes, status: int
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return what the guest has put back, and what does not start with that."""
    try:
        found = door.read(door.decode(answer))
        if isinstance(found, Refusal):
            raise backups.refused(machine, found.stage, found.why)
        return tuple(map(str, found["services"])), tuple(map(str, found.get("troubled", ())))
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        why = said.decode(errors="replace").strip().splitlines()[-1:] or [f"exit status {status}"]
        raise RaveError(
            f"machine {machine.name} does not say that it took the backup: {why[0]}",
            hint=f"rave vm status {machine.name}; the same command again takes back what was left",
            exit_code=ExitCode.NOT_READY,
        ) from error


@contextmanager
def _feeding(target: Vault, found: Backup, request: bytes, doing: Step) -> Iterator[_Feeder]:
    """Let a backup be read meanwhile, for whoever reads the feeder's `source`."""
    with target.engine.read(found.stream, STREAM) as reading:
        feeder = _Feeder(reading.pieces(), found, request, doing)
        feeder.thread.start()
        try:
            yield feeder
        finally:
            # Whoever writes into it then hears that nobody reads any more.
            os.close(feeder.source)
            feeder.thread.join(5.0)


class _Feeder:
    """Hands a request and a backup to whoever reads `source`; its end only if all of it is what was
    written.
    """

    def __init__(self, pieces: Iterator[bytes], found: Backup, request: bytes, doing: Step) -> None:
        self._pieces, self._found, self._request, self._doing = pieces, found, request, doing
        self._fault: BaseException | None = None
        self.source, self._sink = os.pipe()
        self.thread = threading.Thread(target=self._run, daemon=True)

    def demand(self) -> None:
        """Raise what went wrong, if something did."""
        if self._fault is not None:
            raise self._fault

    def _run(self) -> None:
        try:
            with os.fdopen(self._sink, "wb") as sink:
                sink.write(self._request)
                for piece in self._sound():
                    sink.write(piece)
        except BrokenPipeError:
            pass
        except BaseException as error:  # noqa: BLE001 - raised again where it can be handled
            self._fault = error

    def _sound(self) -> Iterator[bytes]:
        """Yield the backup, its last piece only when it is known to be what was written."""
        stream = StateStream(vaults.bound(self._found), packs=True)
        held, told = b"", 0
        for piece in self._pieces:
            given = stream.feed(piece)
            if given:
                yield held
                held = given
            if stream.size - told > 4 << 20:
                told = stream.size
                self._doing.progress(f"{told >> 20} MiB", told, self._found.size)
        stream.finish()
        if stream.sha256 != self._found.sha256:
            raise vaults.unsound(self._found)
        yield held
