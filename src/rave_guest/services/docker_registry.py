"""The registry: whether an image can be pushed and pulled, who is refused, what is kept of it."""

from __future__ import annotations

import json
import os
import re
import stat
import time
from contextlib import suppress

from rave_guest import plan as plans
from rave_guest.check import Subject, check
from rave_guest.proof import WRONG, Proof, demand
from rave_guest.state import files
from rave_guest.verdict import Verdict, failed, missing, passed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from typing import Any, TypeVar

    from rave_guest.system import System

    T = TypeVar("T")

# Of rave's own programs and of robots, by a secret of the catalog.
USER, PASSWORD = "rave", "docker-registry/password"
REPOSITORY = "rave-smoke"
REQUEST = 30.0  # seconds, in an emulated guest on a busy host
PROVES = 20.0  # seconds for one request

# What is being received.
RECEIVED = re.compile(r".*/_uploads(/.*)?")
# The layers. What names them lies beside it.
BLOBS = "docker/registry/v2/blobs"


def _web(about: Subject) -> dict[str, Any]:
    return {
        "port": plans.port_of(about.plan, "docker-registry", "web"),
        "secret": plans.secret(about.plan, PASSWORD),
    }


@check(
    "docker-registry.image", phase="health",
    title="Registry: an image is pushed, pulled by its digest and deleted; a wrong password is not",
    needs=("docker-registry.units",), timeout=6 * REQUEST, arguments=_web,
    figures={"push": "registry_push_seconds", "pull": "registry_pull_seconds"},
)  # fmt: skip
def image(arguments: Mapping[str, Any], system: System) -> Verdict:
    """Web, accounts and storage have a part in it."""
    from rave_guest.wire.images import Registry, RegistryError

    password = system.secret(arguments["secret"])
    if password is None:
        return missing(arguments["secret"])
    registry = Registry(arguments["port"], USER, password, REQUEST)
    pushed = ""
    try:
        if Registry(arguments["port"], USER, WRONG, REQUEST).known():
            return failed("it takes a wrong password")
        layer = os.urandom(1024)
        push, pushed = _timed(lambda: registry.push(REPOSITORY, layer))
        pull, found = _timed(lambda: registry.pull(REPOSITORY, pushed))
    except RegistryError as error:
        return failed(str(error))
    finally:
        if pushed:
            with suppress(RegistryError, OSError):
                registry.delete(REPOSITORY, pushed)
    if found != layer:
        return failed("what was pushed is not what is pulled")
    return passed(f"pushed within {push} s, pulled within {pull} s", push=push, pull=pull)


def _timed(do: Callable[[], T]) -> tuple[float, T]:
    began = time.monotonic()
    found = do()
    return round(time.monotonic() - began, 2), found


def proofs(plan: Mapping[str, Any], secret: str) -> Iterator[Proof]:
    """Whoever shows the new password is let in, and nobody with another."""
    from rave_guest.wire.images import Registry, RegistryError

    port = plans.port_of(plan, "docker-registry", "web")

    def ask(value: str, old: str | None) -> list[str]:
        problems = []
        try:
            if not Registry(port, USER, value, PROVES).known():
                problems.append("it does not take the installed password")
            if Registry(port, USER, old or WRONG, PROVES).known():
                problems.append("it takes another password")
        except RegistryError as error:
            problems.append(str(error))
        demand(problems)
        return ["previous" if old else "wrong"]

    yield Proof(f"docker-registry:{USER}", secret, ask)


def keep(
    _plan: Mapping[str, Any], path: str, _folder: str
) -> Iterator[tuple[str, Iterable[bytes]]]:
    """Its images. What names layers comes first, and then the layers: of an image that is pushed
    meanwhile they are there before anything names them.
    """
    entries: list[files.Entry] = []

    def read() -> Iterator[bytes]:
        yield from files.read(path, _later, entries)
        yield from _layers(path, entries)

    yield files.BYTES, read()
    yield files.LIST, [json.dumps(entries).encode()]


def _later(name: str) -> bool:
    return name == BLOBS or bool(RECEIVED.fullmatch(name))


def _layers(path: str, entries: list[files.Entry]) -> Iterator[bytes]:
    for folder, folders, names in os.walk(f"{path}/{BLOBS}"):
        folders.sort()
        below = os.path.relpath(folder, path)
        entries.append((below, stat.S_IMODE(os.lstat(folder).st_mode), None))
        for name in sorted(names):
            yield from files.file(f"{folder}/{name}", f"{below}/{name}", entries)


def put(folder: str, target: str, _ours: str) -> None:
    """Lay them where it looks."""
    files.put(folder, target)


def marks(_plan: Mapping[str, Any], path: str, lines: list[str] | None) -> list[str]:
    """A file of rave's own beside its images (state/marks.py)."""
    return files.marks(path, lines)
