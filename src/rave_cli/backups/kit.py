"""The page that is kept outside of this host: what opens the backups when the host is lost.

It goes into a file that its owner alone may read, and from there onto paper: never into a log.
"""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rave_cli import paths
from rave_cli.backups import sealed
from rave_cli.errors import RaveError
from rave_cli.records import RecordFormat

if TYPE_CHECKING:
    from pathlib import Path

SHORTEST_PASSPHRASE = 12  # characters
RECORD = "kit.json"

PAGE = """\
RAVE BACKUP KIT                                         {date}
==================================================================

For whoever has to restore the machines of {host}
when that host is lost. Keep this page in another place.

1. What you need
   - a copy of the folder of backups    {folder}
   - restic, and rave or this page
   - EITHER the age identity of         {recipients}
            (it was in {identity})
     OR the key below

2. The key of the repository ({sealed})

{key}
3. With rave on a new host
   export RAVE_BACKUP_FOLDER=/where/the/folder/is
   {opened}rave backup key --put-back
   rave backup verify
   rave backup list
   rave backup restore MACHINE --to MACHINE
{copy}
4. Without rave
   {opened_to}
   restic --repo $RAVE_BACKUP_FOLDER/repository \\
     --password-file KEYFILE snapshots

Not in the backups: the secrets file (secrets.sops.yaml) and its
.sops.yaml. Keep a copy of them with the folder: they are sealed, too.
Key checksum: {checksum}
"""

# What gets the folder back where no copy of it is at hand.
COPIED = """\
   A copy of the folder is in
     {place}
   which gets it back, with the key in its place:
   {opened}rave backup fetch --kit
"""
# Certificates do not belong on a page that is typed.
TRUSTED = """\
   It shows a certificate of an authority of your own. Keep that one's
   certificates with the secrets file, and name their file:
   {opened}rave backup fetch --kit --ca FILE
"""
WIDTH = 72  # characters of a line that is typed


@dataclass(frozen=True)
class KitRecord:
    """That a kit was made.

    Attributes:
        at: seconds since the epoch.
        checksum: of the key that is on it.
        sealed: whether the key on it is sealed to a passphrase.
    """

    at: float
    checksum: str
    sealed: bool


KIT = RecordFormat(title="the record of a backup kit", shape=KitRecord, version=1)


@dataclass(frozen=True)
class KitFacts:
    """What a page tells besides the key.

    Attributes:
        host: the name of this host.
        folder: of the backups.
        recipients: the public halves of the age identities that open the key in the folder.
        identity: where the operator's own is.
        copy: the address of the other place that keeps a copy; None if there is none.
        trusted: whether certificates of one's own are named for it.
    """

    host: str
    folder: Path
    recipients: tuple[str, ...]
    identity: str
    copy: str | None = None
    trusted: bool = False


def page(facts: KitFacts, key: str, passphrase: str | None, more: tuple[str, ...] = ()) -> str:
    """Return the page; the key on it is sealed to a passphrase, or as it is with None. `more` is
    what the other place wants to see, and is beside the key.
    """
    if passphrase is None:
        # Groups are read and typed with fewer mistakes; --put-back takes them so.
        groups = [key[at : at + 8] for at in range(0, len(key), 8)]
        shown = "".join(f"{line}\n" for line in (" ".join(groups), *_folded(more)))
        opened, opened_to = "", "put the key, without spaces, into a file KEYFILE"
    else:
        text = "".join(f"{line}\n" for line in (key, *more))
        shown = sealed.seal(text.encode(), passphrase)
        opened, opened_to = "age --decrypt KEY.age | ", "age --decrypt KEY.age >KEYFILE"
        shown += "\n   (KEY.age is what is between and with the lines of dashes)\n"
    indent = "\n" + " " * 39
    return PAGE.format(
        date=time.strftime("%Y-%m-%d", time.gmtime()), host=facts.host, folder=facts.folder,
        recipients=indent.join(facts.recipients), identity=facts.identity, key=shown,
        sealed="as it is: whoever reads it reads the backups" if passphrase is None
        else "sealed to the passphrase that you chose",
        opened=opened, opened_to=opened_to, checksum=checksum(key),
        copy=_copied(facts, opened),
    )  # fmt: skip


def _copied(facts: KitFacts, opened: str) -> str:
    if facts.copy is None:
        return ""
    told = COPIED.format(place=facts.copy, opened=opened)
    return told + TRUSTED.format(opened=opened) if facts.trusted else told


def _folded(lines: tuple[str, ...]) -> list[str]:
    """Return lines so that they fit on paper: what goes on in the next ends with a backslash."""
    found = []
    for line in lines:
        pieces = [line[at : at + WIDTH] for at in range(0, len(line), WIDTH)]
        found += [f"{piece}\\" for piece in pieces[:-1]] + pieces[-1:]
    return found


def unfolded(text: str) -> list[str]:
    """Return the lines of a kit, those that go on in the next as one."""
    return text.replace("\\\r\n", "").replace("\\\n", "").splitlines()


def checksum(key: str) -> str:
    """Return what tells a key from another, and does not tell the key: it has 256 random bits."""
    return hashlib.sha256(f"rave-backup-kit:{key}".encode()).hexdigest()[:16]


def noted(folder: Path, key: str, *, is_sealed: bool) -> None:
    """Note that a kit was made.

    Raises:
        RaveError: HOST if it cannot be written.
    """
    KIT.write(folder / RECORD, KitRecord(time.time(), checksum(key), is_sealed), mode=0o600)


def missing(folder: Path, key: bytes) -> str | None:
    """Return why there may be no kit that opens a folder; None if one was made."""
    place = folder / RECORD
    with paths.refusing(place):
        there = place.exists()
    if not there:
        return "no kit was made: what opens the backups may be on this host alone"
    try:
        record = KIT.read(place, hint="rave backup kit makes one")
    except RaveError as error:
        return error.message
    if record.checksum != checksum(key.decode()):
        return "the kit that was made is of another key"
    return None
