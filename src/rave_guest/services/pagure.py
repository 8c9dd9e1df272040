"""Pagure: whether a project can be made, pushed to and cloned, how it proves that it took a secret,
whether people sign in to it, and what is kept of it.
"""

from __future__ import annotations

import json
import os
import re
import stat
import time
from functools import partial

from rave_guest import forging
from rave_guest import plan as plans
from rave_guest.check import Subject, check
from rave_guest.proof import WRONG, Proof, demand
from rave_guest.state import files
from rave_guest.verdict import Verdict, failed, missing, passed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from typing import Any

    from rave_guest.system import System
    from rave_guest.wire.forge import PagureUser

# Of rave's own programs, by a secret of the catalog.
USER, TOKEN = "rave", "pagure/token"
PROJECT = "rave-smoke"
JOURNEY = 420.0  # seconds for all of it, in an emulated guest on a busy host
STEP = 180.0  # seconds for one step of it, as nginx waits for an answer
PROVES = 20.0  # seconds for one request


def _token(about: Subject) -> dict[str, Any]:
    return {
        "port": plans.port_of(about.plan, "pagure", "web"),
        "secret": plans.secret(about.plan, TOKEN),
    }


@check(
    "pagure.repository", phase="health",
    title="Pagure: a project is made, pushed to, cloned and deleted",
    needs=("pagure.units", "pagure-worker.units"), timeout=JOURNEY, arguments=_token,
    figures={"create": "forge_create_seconds", "push": "forge_push_seconds",
             "clone": "forge_clone_seconds"},
)  # fmt: skip
def repository(arguments: Mapping[str, Any], system: System) -> Verdict:
    """Web, worker, queue, database, hooks and storage have a part in it."""
    from rave_guest.wire.forge import PagureError, PagureUser

    token = system.secret(arguments["secret"])
    if token is None:
        return missing(arguments["secret"])
    forge = PagureUser(arguments["port"], USER, token, STEP)
    try:
        with forge.trying(forge.private(PROJECT)) as folder:
            return _round_trip(forge, system, folder)
    except PagureError as error:
        return failed(str(error))


def _round_trip(forge: PagureUser, system: System, folder: str) -> Verdict:
    git = partial(forge.git, system)
    clock = [time.monotonic()]

    def lap() -> float:
        clock.append(time.monotonic())
        return round(clock[-1] - clock[-2], 2)

    address, word = forge.address(forge.create(PROJECT)), os.urandom(8).hex()
    create = lap()
    git(folder, "clone", "--quiet", address, "one")
    clone, one = lap(), f"{folder}/one"
    who = ("-c", "user.name=rave", "-c", "user.email=rave@rave.invalid")
    git(one, *who, "commit", "--quiet", "--allow-empty", "--message", word)
    lap()
    git(one, "push", "--quiet", "origin", "HEAD:main")
    push = lap()
    git(folder, "clone", "--quiet", address, "two")
    if git(f"{folder}/two", "log", "-1", "--format=%s") != word:
        return failed("what was pushed is not what is cloned")
    return passed(
        f"made within {create} s, cloned within {clone} s, pushed within {push} s",
        create=create, clone=clone, push=push,
    )  # fmt: skip


def proofs(plan: Mapping[str, Any], secret: str) -> Iterator[Proof]:
    """Whoever shows the new token is taken for rave, whoever shows another is nobody."""
    from rave_guest.wire.forge import PagureError, PagureUser

    port = plans.port_of(plan, "pagure", "web")

    def ask(value: str, old: str | None) -> list[str]:
        problems = []
        try:
            if PagureUser(port, USER, value, PROVES).whoami() != USER:
                problems.append("it does not take the installed token")
            if PagureUser(port, USER, old or WRONG, PROVES).whoami() is not None:
                problems.append("it takes another token")
        except PagureError as error:
            problems.append(f"it answers {error}")
        demand(problems)
        return ["previous" if old else "wrong"]

    yield Proof(f"pagure:{USER}", secret, ask)


@forging.step("sign-in", "somebody signs in to the forge, as whom their account says",
              figures={"seconds": "forge_sign_in_seconds"})  # fmt: skip
@forging.step("token", "a token that they make there is theirs")
@forging.step("disabled", "whoever is disabled is signed out of the forge, and their token ends")
def step(arguments: Mapping[str, Any], system: System) -> Verdict:
    """A step of the one journey that all these checks are about."""
    return forging.verdict(arguments, system)


# The objects of a repository, and what is being received.
OBJECTS = re.compile(r".*\.git/objects(/.*)?")
RECEIVED = "tmp"


def keep(
    _plan: Mapping[str, Any], path: str, _folder: str
) -> Iterator[tuple[str, Iterable[bytes]]]:
    """Its repositories and files. Of a repository that is pushed to meanwhile what names objects
    comes first, and then the objects, which are there before anything names them.
    """
    entries: list[files.Entry] = []

    def read() -> Iterator[bytes]:
        yield from files.read(path, _later, entries)
        yield from _objects(path, entries)

    yield files.BYTES, read()
    yield files.LIST, [json.dumps(entries).encode()]


def _later(name: str) -> bool:
    return name == RECEIVED or bool(OBJECTS.fullmatch(name))


def _objects(path: str, entries: list[files.Entry]) -> Iterator[bytes]:
    """Yield the objects of all repositories; packs last, for what is packed goes afterwards."""
    for folder, folders, names in os.walk(path):
        folders.sort()
        below = os.path.relpath(folder, path)
        if OBJECTS.fullmatch(below):
            entries.append((below, stat.S_IMODE(os.lstat(folder).st_mode), None))
            for name in sorted(names):
                yield from files.file(f"{folder}/{name}", f"{below}/{name}", entries)


def put(folder: str, target: str, _ours: str) -> None:
    """Lay them where it looks. Links are not kept: the hooks of repositories are the system's."""
    files.put(folder, target)


def marks(_plan: Mapping[str, Any], path: str, lines: list[str] | None) -> list[str]:
    """A file of rave's own beside its repositories (state/marks.py)."""
    return files.marks(path, lines)
