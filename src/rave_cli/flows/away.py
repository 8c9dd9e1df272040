"""Keep a copy of the backups in another place, see whether it is whole, and get it back."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rave_cli import paths, signals
from rave_cli.backups import vault as folders
from rave_cli.backups.away import mirror, place, record, s3, sftp
from rave_cli.backups.away.store import ApartStore
from rave_cli.backups.engine import Engine, UnsoundRepositoryError, gone, is_there
from rave_cli.errors import ExitCode, RaveError
from rave_cli.flows import vault as vaults
from rave_cli.flows.events import Event, step
from rave_cli.secrets import identity, listing, own, store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from rave_cli.backups.away.mirror import CheckedCopy, FetchedCopy
    from rave_cli.backups.away.place import AwayPlace
    from rave_cli.backups.away.store import Store
    from rave_cli.flows.events import OnEvent, Step
    from rave_cli.settings import Settings

STEP = "backup"
# Seconds between two tellings of how far it is, and how many names of what is wrong are told.
TELLS = 0.2
MOST_TOLD = 8


@dataclass(frozen=True)
class CopiedBackups:
    """What a copy did: objects and bytes that were written, that are there now, and that went; and
    how many are there that the folder does not have any more.
    """

    place: str
    written: int
    written_bytes: int
    objects: int
    size: int
    gone: int
    extra: int
    seconds: float

    def document(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {
            "place": self.place,
            "written": self.written,
            "writtenBytes": self.written_bytes,
            "objects": self.objects,
            "bytes": self.size,
            "gone": self.gone,
            "extra": self.extra,
            "seconds": round(self.seconds, 3),
        }


def is_named() -> bool:
    """Return whether the operator's secrets name another place; no key is needed to see it.

    Raises:
        RaveError: SECRETS if the file cannot be read.
    """
    return f"{own.BACKUP_COPY}/{place.PLACE}" in listing.names(store.place(None))


def named() -> AwayPlace:
    """Return the place that the operator's secrets name.

    Raises:
        RaveError: SECRETS if they name none, or cannot be opened.
    """
    file = store.place(None)
    values = store.open_values(store.read(file), identity.load()).values if file.exists() else {}
    return place.of_secrets(values)


@contextmanager
def reached(found: AwayPlace) -> Iterator[Store]:
    """Reach a place.

    Raises:
        RaveError: as it.
    """
    if found.scheme == "sftp":
        with sftp.opened(found) as files:
            yield ApartStore(files)
    else:
        with s3.opened(found) as objects:
            yield ApartStore(objects)


@contextmanager
def _goes_on(on_event: OnEvent, command: str) -> Iterator[None]:
    """Say what a call that is broken off leaves."""
    try:
        yield
    except signals.Interrupted:
        text = f"what was copied by then is whole, and stays: {command} goes on"
        on_event(Event("note", STEP, text))
        raise


def copy(settings: Settings, *, prune: bool = False, on_event: OnEvent) -> CopiedBackups:
    """Write what the other place lacks; with `prune` what the folder no longer has goes there, too.

    Raises:
        RaveError: SECRETS if no place is named or it does not let us in; NOT_READY if it does not
            answer; HOST if it is full; USAGE if it has the copy of another folder; VERIFICATION if
            the folder is damaged, or the place is not the one that was pinned.
    """
    began, folder, found = time.monotonic(), _folder(settings), named()
    with (
        _alone(folder),
        record.noted(folder, str(found), "copied", _untold(on_event)),
        _goes_on(on_event, "rave backup copy"),
        step(on_event, STEP, f"Copying the backups to {found}") as doing,
        reached(found) as target,
    ):
        there = target.listing()
        mirror.refuse_another(folder, target, there, str(found))
        for left in reversed(range(mirror.LISTED)):
            wanted = mirror.compared(_listed(folder), there)
            try:
                mirror.send_changed(folder, target, there)
                mirror.send(folder, target, wanted, _told(doing))
                break
            except mirror.VanishedError as error:
                if left == 0:
                    raise _restless(folder, error) from error
                there = target.listing()
        if prune:
            _refuse_empty(folder, wanted.objects)
            mirror.drop(target, wanted.extra)
    went = len(wanted.extra) if prune else 0
    return CopiedBackups(
        str(found), len(wanted.missing), wanted.size, len(wanted.objects),
        sum(wanted.objects.values()), went, len(wanted.extra) - went, time.monotonic() - began,
    )  # fmt: skip


def _alone(folder: Path) -> AbstractContextManager[None]:
    """Let nobody else copy a folder, or into it, meanwhile.

    Raises:
        RaveError: HOST if somebody does.
    """
    busy = f"another rave copies the backups in {folder}, or gets them back"
    return paths.lock(folder / "copy.lock", busy=busy)


def _listed(folder: Path) -> dict[str, int]:
    """List a folder while nobody takes anything away: what is named is there, too."""
    with paths.lock(folder / "lock", busy=None):
        return mirror.listed(folder)


def _restless(folder: Path, error: Exception) -> RaveError:
    return RaveError(
        f"{folder} changes faster than it can be copied: {error} is gone",
        hint="rave backup copy, when no other command prunes",
        exit_code=ExitCode.HOST,
    )


def _refuse_empty(folder: Path, objects: Mapping[str, int]) -> None:
    if not any(name.startswith("repository/snapshots/") for name in objects):
        raise RaveError(
            f"{folder} has no backup any more: nothing is taken away where its copy is",
            hint="ls -la the folder; rave backup fetch gets the copy back into an empty one",
            exit_code=ExitCode.USAGE,
        )


def check(settings: Settings, *, mend: bool = False, on_event: OnEvent) -> CheckedCopy:
    """Read all that is in the other place; with `mend` what is damaged is replaced.

    Raises:
        UnsoundRepositoryError: VERIFICATION if something is not what was written, and was not
            replaced, or is not there.
        RaveError: as `copy`.
    """
    folder, found = _folder(settings), named()
    with (
        _alone(folder),
        record.noted(folder, str(found), "checked", _untold(on_event)),
    ):
        with (
            step(on_event, STEP, f"Reading all that is in {found}") as doing,
            reached(found) as target,
        ):
            mirror.refuse_another(folder, target, target.listing(), str(found))
            done = mirror.check(folder, target, mend=mend, told=_told(doing))
        for name in done.mended:
            on_event(Event("warning", STEP, f"{name} was damaged there, and was replaced"))
        left = [name for name in done.damaged if name not in done.mended]
        if left:
            raise _damaged(str(found), left, mended=mend)
    return done


def _damaged(found: str, names: Sequence[str], *, mended: bool) -> UnsoundRepositoryError:
    hint = "rave backup copy --check --mend   (replaces it from the folder)"
    if mended:
        hint = "the folder does not have it (whole) either; rave backup verify"
    return UnsoundRepositoryError(
        f"{len(names)} objects in {found} are not what was written",
        hint=hint,
        exit_code=ExitCode.VERIFICATION,
        detail=tuple(names[:MOST_TOLD]),
    )


@dataclass(frozen=True)
class FetchedBackups:
    """What was got back, and from where into which folder."""

    place: str
    folder: Path
    fetched: FetchedCopy
    seconds: float

    def document(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {
            "place": self.place,
            "folder": str(self.folder),
            "objects": self.fetched.objects,
            "bytes": self.fetched.size,
            "seconds": round(self.seconds, 3),
        }


def fetch(
    settings: Settings, lines: list[str] | None, *, ca: Path | None = None, on_event: OnEvent
) -> FetchedBackups:
    """Get the folder back from the other place; what is there already is not asked for again.

    Args:
        settings: name the folder.
        lines: of a kit: the key, and the place with what it wants to see. None for the place that
            the operator's secrets name, whose copy of the sealed key is taken.
        ca: a file of certificates to trust for the place, instead of those that are named for it
            or this host's: a kit has none.
        on_event: told how far it is.

    Raises:
        UnsoundRepositoryError: VERIFICATION if something there is not what was written; the rest is
            here.
        RaveError: as `copy`; SECRETS if the key does not open what came.
    """
    began = time.monotonic()
    key, found = (None, named()) if lines is None else _of_kit(lines)
    if ca is not None:
        found = found.trusting(paths.read_trusted(ca).decode(errors="replace"))
    folder = vaults.folder(settings)
    if settings.text("RAVE_BACKUP_FOLDER") and not folder.is_dir():
        raise gone(folder)
    keys, _ = identity.ensure()
    paths.make_dir(folder)
    with (
        _alone(folder),
        _goes_on(on_event, "the same command"),
        step(on_event, STEP, f"Getting the backups from {found}") as doing,
        reached(found) as target,
    ):
        there = target.listing()
        if mirror.CONFIG not in there:
            raise _no_copy(found)
        mirror.refuse_another(folder, target, there, str(found))
        if key is not None and not (folder / mirror.KEY).exists():
            folders.seal(folder, key, folders.recipients(keys))
        paths.atomic_write(folder / "README", folders.README.encode(), mode=0o600)
        done = mirror.fetch(folder, target, there, _told(doing))
    if done.damaged:
        raise _damaged_here(str(found), folder, done.damaged)
    if key is not None:
        # A key that is there already gives way to one alone that opens what there is.
        Engine(folder / mirror.REPOSITORY, key.encode()).snapshots()
        folders.seal(folder, key, folders.recipients(keys))
    opened = folders.open_vault(folder, keys, sparing=settings.mode == "safe")
    opened.engine.snapshots()
    return FetchedBackups(str(found), folder, done, time.monotonic() - began)


def _of_kit(lines: list[str]) -> tuple[str, AwayPlace]:
    words = ("".join(line.split()) for line in lines)
    key = next((word for word in words if folders.KEY.fullmatch(word)), None)
    if key is None:
        raise RaveError(
            "there is no key to backups on standard input: it has 64 characters of 0 to 9 and a"
            " to f",
            hint="age --decrypt KEY.age | rave backup fetch --kit",
            exit_code=ExitCode.SECRETS,
        )
    return key, place.of_lines(lines)


def _no_copy(found: AwayPlace) -> RaveError:
    return RaveError(
        f"there is no copy of backups in {found}, or none that came to its end",
        hint="rave secrets edit   (backup-copy: place: …)",
        exit_code=ExitCode.USAGE,
    )


def _damaged_here(found: str, folder: Path, names: Sequence[str]) -> UnsoundRepositoryError:
    return UnsoundRepositoryError(
        f"{len(names)} objects in {found} are not what was written, and were left out",
        hint=f"all else is in {folder}: rave backup verify; rave backup list",
        exit_code=ExitCode.VERIFICATION,
        detail=tuple(names[:MOST_TOLD]),
    )


def _folder(settings: Settings) -> Path:
    folder = vaults.folder(settings)
    if not is_there(folder / "repository"):
        if not settings.text("RAVE_BACKUP_FOLDER"):
            raise RaveError(
                "there are no backups yet", hint="rave backup now NAME", exit_code=ExitCode.USAGE
            )
        raise gone(folder)
    return folder


def _told(doing: Step) -> Callable[[int, int], None]:
    last = [0.0]

    def told(done: int, total: int) -> None:
        if time.monotonic() - last[0] > TELLS:
            last[0] = time.monotonic()
            doing.progress(f"{done >> 20} of {total >> 20} MiB", done, total)

    return told


def _untold(on_event: OnEvent) -> Callable[[RaveError], None]:
    def tell(fault: RaveError) -> None:
        on_event(Event("warning", STEP, f"it cannot be noted: {fault.message}"))

    return tell


def due(settings: Settings) -> bool:
    """Return whether a place is named and lacks something, as far as is known without asking it.

    Raises:
        RaveError: SECRETS if the secrets cannot be read; HOST if the record is damaged.
    """
    folder = vaults.folder(settings)
    return (
        is_named()
        and is_there(folder / "repository")
        and record.is_due(record.load(folder), time.time())
    )
