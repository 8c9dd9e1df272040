"""Look at the webhook dispatcher's events, and have them handed over again; prints JSON.

Usage: python -m rave_platform.events SETTINGS.toml list [--state STATE] [--source NAME] [--most N]
       python -m rave_platform.events SETTINGS.toml show UUID
       python -m rave_platform.events SETTINGS.toml replay (--dead | UUID...)
       python -m rave_platform.events SETTINGS.toml dead
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

from rave_platform.adapters import settings
from rave_platform.adapters.configuration import SettingsError
from rave_platform.adapters.store import SqliteEvents
from rave_platform.application import administration
from rave_platform.application.administration import UnknownEventError
from rave_platform.application.ports import StoreUnavailableError
from rave_platform.domain.handover import HandoverState

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rave_platform.application.ports import EventArchive


def parser() -> argparse.ArgumentParser:
    """Return what understands the command line."""
    top = argparse.ArgumentParser(prog="rave_platform.events", description=__doc__)
    top.add_argument("settings", type=Path)
    verbs = top.add_subparsers(dest="verb", required=True)
    listing = verbs.add_parser("list", help="the newest events")
    listing.add_argument("--state", type=HandoverState, choices=list(HandoverState))
    listing.add_argument("--source", default="")
    listing.add_argument("--most", type=int, default=50)
    verbs.add_parser("dead", help="what the stream did not take")
    showing = verbs.add_parser("show", help="one event with its payload")
    showing.add_argument("uuid", type=UUID)
    again = verbs.add_parser("replay", help="hand events over again")
    again.add_argument("uuids", type=UUID, nargs="*", metavar="uuid")
    again.add_argument("--dead", action="store_true", help="all that the stream did not take")
    return top


def answer(archive: EventArchive, asked: argparse.Namespace) -> object:
    """Return the document that answers.

    Raises:
        UnknownEventError: if an event is not there.
    """
    match asked.verb:
        case "list":
            return administration.listed(archive, asked.most, asked.state, asked.source)
        case "dead":
            return administration.listed(archive, administration.MOST, HandoverState.DEAD)
        case "show":
            return administration.shown(archive, asked.uuid)
        case _:
            if asked.dead:
                return {"replayed": administration.replay_dead(archive)}
            return {"replayed": administration.replay(archive, asked.uuids)}


def become_owner(store: Path) -> None:
    """Be the dispatcher's user from here on, where root asks.

    What SQLite makes beside the store must belong to the dispatcher, and nothing that lies in its
    directory is to be read with root's rights.
    """
    owner = store.lstat()
    if os.geteuid() == 0 and owner.st_uid != 0:
        os.setgroups([])
        os.setgid(owner.st_gid)
        os.setuid(owner.st_uid)


def main(words: Sequence[str]) -> int:
    """Answer one question; 2 for what was asked, 1 for what is wrong."""
    asked = parser().parse_args(words)
    try:
        found = settings.read(asked.settings)
        become_owner(found.store)
        with SqliteEvents(found.store, found.retention_days, create=False) as store:
            document = answer(store, asked)
    except (SettingsError, StoreUnavailableError, UnknownEventError, OSError) as fault:
        sys.stderr.write(f"{fault}\n")
        return 1
    json.dump(document, sys.stdout, indent=1)
    sys.stdout.write("\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
