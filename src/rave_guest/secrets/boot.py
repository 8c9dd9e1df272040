"""`rave-guest secrets-boot`: the stored secrets in force, before the services that need them."""

from __future__ import annotations

import sys

from rave_guest import report
from rave_guest.refusal import Refused
from rave_guest.secrets import generations, store
from rave_guest.secrets.decryption import decrypting, entries, undumpable
from rave_guest.secrets.places import HERE, Places, locked, read_plan


def main(_argv: list[str]) -> int:
    """Put them in force; return the exit status."""
    undumpable()
    return boot(HERE)


def boot(places: Places) -> int:
    """Decrypt what is kept and put it in force, replacing whatever is."""
    try:
        with locked(places):
            if store.foreign(places.store, report.instance()):
                store.forget(places.store)
                sys.stderr.write("secrets: those on this disk are another machine's: removed\n")
                return 0
            _put_in_force(places, store.kept(places.store), store.handed(places.handed))
    except (Refused, OSError) as error:
        sys.stderr.write(f"secrets: {error}\n")
        return 1
    return 0


def _put_in_force(places: Places, kept: store.KeptSecrets, handed: bytes | None) -> None:
    identity = handed or kept.key
    if kept.file is None:
        raise Refused("decrypt", f"{places.store} lacks the file")
    if identity is None:
        raise Refused("decrypt", "the host handed no age identity over, and none is kept")
    with decrypting(places.sops, identity, kept.file) as decrypted:
        wanted = entries(read_plan(places), decrypted())
    directory = generations.write(places.generations, wanted)
    generations.enforce(places.generations, directory)
    generations.keep_only(places.generations, directory)
    if handed is not None:
        store.forget_key(places.store)
