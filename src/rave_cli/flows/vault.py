"""The backups that there are: found, looked at, taken away; and the key that opens them."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from rave_cli.backups import engine, ledger, log, parts, retention, vault
from rave_cli.backups.kept import STREAM, TIME
from rave_cli.backups.stream import StateStream
from rave_cli.errors import ExitCode, RaveError
from rave_cli.flows.events import Event, step
from rave_cli.secrets import identity

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rave_cli.backups.kept import Backup, KnownBackups
    from rave_cli.backups.log import LogChain, LogGap
    from rave_cli.backups.parts import LogPart
    from rave_cli.backups.retention import RetentionPolicy
    from rave_cli.backups.vault import Vault
    from rave_cli.flows.events import OnEvent
    from rave_cli.settings import Settings

# Bytes: a stream has more than the files it is of, but not much.
MOST_MORE = 256 << 20


def folder(settings: Settings) -> Path:
    """Return the folder of the backups."""
    named = settings.text("RAVE_BACKUP_FOLDER")
    return Path(named).expanduser().absolute() if named else vault.default_folder()


def opened(settings: Settings) -> Vault:
    """Open the folder of the backups.

    Raises:
        RaveError: HOST if there is none; SECRETS if its key cannot be had.
    """
    place = folder(settings)
    if not vault.exists(place) and not settings.text("RAVE_BACKUP_FOLDER"):
        raise RaveError(
            "there are no backups yet", hint="rave backup now NAME", exit_code=ExitCode.USAGE
        )
    return vault.open_vault(place, identity.load(), sparing=settings.mode == "safe")


def opened_or_made(settings: Settings, on_event: OnEvent) -> Vault:
    """Open the folder of the backups, made with its key if there is none; what is to be kept
    elsewhere is told then.

    Raises:
        RaveError: as `opened`; HOST if the medium that was named is not there.
    """
    place, sparing = folder(settings), settings.mode == "safe"
    if vault.exists(place):
        return opened(settings)
    if settings.text("RAVE_BACKUP_FOLDER") and not place.is_dir():
        # A medium that is not mounted must not be taken for a new one.
        raise engine.gone(place)
    keys, _ = identity.ensure()
    with step(on_event, "backup", f"Making the folder of backups {place}"):
        made = vault.create(place, keys, sparing=sparing)
    for text in must_be_kept(place, keys.own.place):
        on_event(Event("warning", "backup", text))
    return made


def must_be_kept(place: Path, key: str) -> tuple[str, str]:
    """Return what an operator has to keep in another place than this host."""
    own = f"keep a copy of your age identity ({key}) outside of this host, or what `rave backup key"
    return (
        f"{own} --show` prints: nobody reads the backups without one of them",
        f"keep a copy of {place} outside of this host: rave backup copy; or set RAVE_BACKUP_FOLDER",
    )


def listed(settings: Settings) -> KnownBackups:
    """Return the backups that there are.

    Raises:
        RaveError: as `opened`.
    """
    return opened(settings).listing()


def find(listing: KnownBackups, machine: str | None, wanted: str) -> Backup:
    """Return a backup by its name; or the `latest` of a machine, or its last that is of no later
    time than a moment in UTC (`2026-11-26T06:00Z`).

    Raises:
        RaveError: USAGE if there is none.
    """
    found, what = listing.of_machine(machine), f"backup of {machine}"
    if (moment := _moment(wanted)) is not None:
        found = tuple(one for one in found if one.moment <= moment)
        what = f"backup of {machine} from {wanted} or before"
    elif wanted != "latest":
        found = tuple(one for one in listing.backups if one.name == wanted)
        what = f"backup {wanted}"
    if not found:
        raise RaveError(f"there is no {what}", hint="rave backup list", exit_code=ExitCode.USAGE)
    return found[-1]


def _moment(text: str) -> datetime | None:
    """Return a moment that is told as backups tell theirs, seconds or none; None if it is none."""
    for form in (TIME, TIME.replace(":%S", "")):
        with suppress(ValueError):
            return datetime.strptime(text, form).replace(tzinfo=UTC)
    return None


def missing_services(backup: Backup, only: Sequence[str]) -> None:
    """Refuse services that a backup has nothing of.

    Raises:
        RaveError: USAGE.
    """
    if absent := sorted(set(only) - set(backup.services)):
        raise RaveError(
            f"backup {backup.name} has nothing of {', '.join(absent)}",
            hint=f"rave backup show {backup.name}   (it has {', '.join(backup.services)})",
            exit_code=ExitCode.USAGE,
        )


@dataclass(frozen=True)
class VerifiedBackups:
    """What was looked at: the engine's own data, of each machine the latest backup, and what leads
    on from backups; and where something of that is missing.
    """

    everything: bool
    backups: tuple[Backup, ...]
    broken: int
    chains: tuple[LogChain, ...] = ()
    gaps: tuple[LogGap, ...] = ()


def verify(
    name: str | None, settings: Settings, *, everything: bool, on_event: OnEvent
) -> VerifiedBackups:
    """Look whether the backups are what was written, to the last byte with `everything`.

    Raises:
        UnsoundRepositoryError: VERIFICATION if something is not.
        RaveError: as `opened`.
    """
    target = opened(settings)
    with target.changing():
        listing = target.listing()
        with step(on_event, "backup", "Looking at all that is kept"):
            target.engine.check(everything=everything)
        latest = {one.machine: one for one in listing.of_machine(name)}
        if name is not None and not latest:
            find(listing, name, "latest")
        for backup in latest.values() if everything else ():
            _read(target, backup, on_event)
    chains = log.chains(listing.logs_of(name))
    gaps = log.gaps(chains)
    for gap in gaps:
        base = latest.get(gap.after.machine)
        if base is not None and base.moment < parts.moment_of(gap.before.since):
            raise engine.UnsoundRepositoryError(
                missing_log(gap),
                hint=f"rave backup now {gap.after.machine}",
                exit_code=ExitCode.VERIFICATION,
            )
        on_event(Event("warning", "backup", missing_log(gap)))
    return VerifiedBackups(everything, tuple(latest.values()), len(listing.broken), chains, gaps)


def missing_log(gap: LogGap) -> str:
    """Return what a gap means."""
    first = parts.said(parts.moment_of(gap.after.until))
    last = parts.said(parts.moment_of(gap.before.since))
    return (
        f"PostgreSQL's log of {gap.after.machine} lacks {gap.before.start - gap.after.end} bytes"
        f" between {first} and {last}: no moment after that can be reached from a backup before it"
    )


def _read(target: Vault, backup: Backup, on_event: OnEvent) -> None:
    def untold(fault: RaveError) -> None:
        on_event(Event("warning", "backup", f"it cannot be noted: {fault.message}"))

    with (
        step(on_event, "backup", f"Reading {backup.name}"),
        ledger.noted(backup.machine, "read", untold) as about_it,
    ):
        about_it(backup.name)
        read_through(target, backup)


def read_through(
    target: Vault, backup: Backup, on_piece: Callable[[bytes], None] = lambda _data: None
) -> None:
    """Read a backup from its beginning to its end; each piece of it is told.

    Raises:
        UnsoundRepositoryError: VERIFICATION if it is not what was written.
        RaveError: HOST if it cannot be read.
    """
    stream = StateStream(bound(backup), on_piece=on_piece)
    with target.engine.read(backup.stream, STREAM) as reading:
        for piece in reading.pieces():
            stream.feed(piece)
    stream.finish()
    if stream.sha256 != backup.sha256:
        raise unsound(backup)


def bound(backup: Backup) -> int:
    """Return how many bytes the stream of a backup has at most."""
    return 2 * backup.size + MOST_MORE


def unsound(backup: Backup) -> engine.UnsoundRepositoryError:
    """Return the error of a backup whose content is not what was written."""
    return engine.UnsoundRepositoryError(
        f"backup {backup.name} is not what was written",
        hint=f"rave backup list {backup.machine} names others",
        exit_code=ExitCode.VERIFICATION,
    )


def unsound_log(part: LogPart) -> engine.UnsoundRepositoryError:
    """Return the error of a part of a log whose content is not what was written."""
    return engine.UnsoundRepositoryError(
        f"PostgreSQL's log of {part.machine} up to {parts.said(parts.moment_of(part.until))} is not"
        " what was written",
        hint=f"rave backup now {part.machine}; what came before this part can still be reached",
        exit_code=ExitCode.VERIFICATION,
    )


@dataclass(frozen=True)
class PrunedBackups:
    """What goes (or went), what stays, how many snapshots belonged to no backup, and the parts of
    logs that go.
    """

    gone: tuple[Backup, ...]
    stay: tuple[Backup, ...]
    broken: int
    logs: tuple[LogPart, ...] = ()


def pruning(
    settings: Settings, policy: RetentionPolicy, machine: str | None = None
) -> PrunedBackups:
    """Return what pruning would do, to the backups of all machines or of one.

    Raises:
        RaveError: as `opened`.
    """
    return _pruning(opened(settings).listing(), policy, machine)


def _pruning(listing: KnownBackups, policy: RetentionPolicy, machine: str | None) -> PrunedBackups:
    backups = listing.of_machine(machine)
    stay = retention.staying(backups, policy)
    logs = listing.logs_of(machine)
    staying = tuple(one for one in backups if one.name in stay)
    needed = log.staying(logs, staying, policy.log, datetime.now(UTC))
    return PrunedBackups(
        tuple(one for one in backups if one.name not in stay),
        staying,
        len(listing.broken),
        tuple(part for part in logs if part.snapshot not in needed),
    )


def prune(
    settings: Settings,
    policy: RetentionPolicy,
    *,
    machine: str | None = None,
    on_event: OnEvent,
) -> PrunedBackups:
    """Take away the backups that the policy does not keep, of all machines or of one, and what
    belongs to none.

    Raises:
        RaveError: as `opened`; HOST if another command is at work there.
    """
    target = opened(settings)
    with target.changing(), step(on_event, "backup", "Taking old backups away"):
        listing = target.listing()
        found = _pruning(listing, policy, machine)
        # What names a backup goes first: without it none is listed that is no longer whole.
        names = [one.snapshot for one in found.gone]
        streams = [one.stream for one in found.gone]
        logs = [part.snapshot for part in found.logs]
        target.engine.drop([*names, *streams, *listing.broken, *logs])
    return found


def forget(settings: Settings, backup: Backup) -> None:
    """Take one backup away; what only it held is freed when others are pruned.

    Raises:
        RaveError: as `opened`.
    """
    target = opened(settings)
    with target.changing(patient=True):
        # One that was just made does not know the snapshot that names it.
        found = find(target.listing(), backup.machine, backup.name)
        target.engine.forget((found.snapshot, found.stream))


def key(settings: Settings) -> str:
    """Return what opens the repository.

    Raises:
        RaveError: as `opened`.
    """
    return opened(settings).engine.key.decode()


def put_key_back(settings: Settings, given: str) -> None:
    """Seal a key, of which it is seen first that it opens the repository, to today's recipients.

    Raises:
        RaveError: SECRETS if it is none, or does not open it; HOST if there is no repository.
    """
    place = folder(settings)
    if vault.KEY.fullmatch(given) is None:
        raise RaveError(
            "this is no key to backups: it has 64 characters of 0 to 9 and a to f",
            hint="rave backup key --put-back <KEYFILE",
            exit_code=ExitCode.SECRETS,
        )
    if not engine.is_there(place / "repository"):
        raise engine.gone(place)
    engine.Engine(place / "repository", given.encode()).snapshots()
    keys, _ = identity.ensure()
    vault.seal(place, given, vault.recipients(keys))
