"""The verbs secrets-install and secrets-boot: from the encrypted file to services that use it.

`secrets-install` reads one JSON document {"identity", "file"} from stdin, puts the secrets of the
plan in force, restarts what uses them, proves that it took them, keeps the encrypted file for the
next boot, and prints one JSON report without values. If any step fails, the secrets that were in
force before are in force again.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from rave_guest import generations
from rave_guest.placement import Direct, Kept, SopsNix, kept

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from rave_guest.placement import Placement

MAX_REQUEST = 4 << 20
_TIMEOUT = 60.0  # seconds for sops, and for systemctl


class World(NamedTuple):
    """Where things are on this machine."""

    plan: str = "/usr/lib/rave/plan.json"
    sops: str = "/usr/lib/rave/sops"
    store: str = "/var/lib/rave/secrets"
    lock: str = "/run/rave/secrets.lock"
    systemctl: str = "systemctl"
    place: generations.Place = generations.Place()


class Refused(Exception):  # noqa: N818 - it reads as what happened
    """The secrets cannot be put in force; `stage` says at which step. Never holds a value."""

    def __init__(self, stage: str, message: str) -> None:
        super().__init__(message)
        self.stage = stage


def main(argv: list[str]) -> int:
    """Run one of the two verbs; return the exit status."""
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # So that an installation that is told to end takes itself back first.
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(1))
    world = World()
    if argv[:1] == ["secrets-boot"]:
        return boot(world)
    report = install(world, sys.stdin.buffer.read(MAX_REQUEST + 1))
    sys.stdout.write(json.dumps(report) + "\n")
    return 0 if report["ok"] else 1


def boot(world: World) -> int:
    """Put the stored secrets in force, before the services that need them start."""
    try:
        identity = _read(f"{world.store}/age.key")
        file = _read(f"{world.store}/secrets.sops.yaml")
        with _locked(world.lock):
            with decrypting(world, identity, file) as decrypted:
                entries = _entries(_plan(world), decrypted())
            directory = generations.write(world.place, entries)
            generations.enforce(world.place, directory)
            generations.keep_only(world.place, directory)
    except (Refused, OSError) as error:
        sys.stderr.write(f"secrets: {error}\n")
        return 1
    return 0


def install(world: World, request: bytes) -> dict[str, Any]:
    """Do what `secrets-install` does and return its report."""
    clock = _Clock()
    try:
        identity, file = parse_request(request)
        with _locked(world.lock):
            report = _install(world, identity, file, clock)
    except (Refused, OSError) as error:
        stage = error.stage if isinstance(error, Refused) else "system"
        text = f"{error}; what was in force before is still in force"
        return {"ok": False, "stage": stage, "error": text, "seconds": clock.laps}
    _tell(len(report["secrets"]))
    return report


def parse_request(request: bytes) -> tuple[bytes, bytes]:
    """Return the age identity and the SOPS file of a request.

    Raises:
        Refused: it is not {"identity": text, "file": text}.
    """
    try:
        document = json.loads(request) if len(request) <= MAX_REQUEST else None
    except ValueError:
        document = None
    if not isinstance(document, dict) or set(document) != {"identity", "file"}:
        raise Refused("request", "the request is not a document with identity and file")
    identity, file = document["identity"], document["file"]
    if not isinstance(identity, str) or not isinstance(file, str):
        raise Refused("request", "identity and file must be text")
    if not re.fullmatch(r"AGE-SECRET-KEY-1[0-9A-Z]{58}", identity.strip()):
        raise Refused("request", "the identity is not an age secret key")
    return identity.strip().encode() + b"\n", file.encode()


@contextmanager
def decrypting(
    world: World, identity: bytes, file: bytes
) -> Iterator[Callable[[], dict[str, bytes]]]:
    """Let sops decrypt a file meanwhile; what is yielded waits for it and returns the values.

    Values are by name: the path joined with `/`.

    Raises:
        Refused: from the yielded function, if sops cannot decrypt it, or a value is not text.
    """
    argv = [world.sops, "--config", "/dev/null", "decrypt"]
    argv += ["--input-type", "yaml", "--output-type", "json"]
    with _memory_file(identity) as key, _memory_file(file) as source:
        # No home: no other key and no configuration than ours takes part.
        env = {"HOME": "/nonexistent", "SOPS_AGE_KEY_FILE": f"/proc/self/fd/{key}"}
        with subprocess.Popen(
            argv,
            stdin=source,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=(key,),
            cwd="/",
            env=env,
        ) as child:
            try:
                yield lambda: _decrypted(child)
            finally:
                child.kill()


def _decrypted(child: subprocess.Popen[bytes]) -> dict[str, bytes]:
    try:
        stdout, stderr = child.communicate(timeout=_TIMEOUT)
    except subprocess.TimeoutExpired as error:
        raise Refused("decrypt", f"sops did not end within {_TIMEOUT:g} s") from error
    if child.returncode:
        raise Refused("decrypt", f"sops cannot decrypt the file: {_last_line(stderr)}")
    values: dict[str, bytes] = {}
    _flatten(json.loads(stdout), (), values)
    return values


class _Installation(NamedTuple):
    """What is to be in force, what was, and the names that differ."""

    world: World
    plan: Mapping[str, Any]
    entries: Mapping[str, generations.Entry]
    before: Mapping[str, bytes]
    changed: list[str]

    def take_over(self, clock: _Clock) -> tuple[list[str], list[dict[str, Any]]]:
        """Restart what uses the changed secrets and prove it; return the units and the proofs.

        Where nothing changed but a service does not take what is in force (an installation was
        killed half way, or somebody changed a password by hand), everything is restarted once.
        """
        from rave_guest import takeover

        units = self.refresh(self.changed)
        clock.lap("refresh")
        try:
            proofs = self._prove(takeover.PATIENCE if units else takeover.AT_REST)
        except takeover.Unproven:
            if units:
                raise
            units = self.refresh(list(self.entries))
            proofs = self._prove(takeover.PATIENCE)
        clock.lap("prove")
        return units, proofs

    def take_back(self, placement: Placement) -> None:
        """Put in force what was before, as far as that can be done."""
        with suppress(Refused, OSError):
            placement.take_back()
            self.refresh(self.changed)

    def refresh(self, names: list[str]) -> list[str]:
        """Restart what uses these secrets; systemd orders the units among themselves."""
        secrets = self.plan["secrets"]
        units = list(dict.fromkeys(unit for name in names for unit in secrets[name]["refresh"]))
        if units:
            _restart(self.world, units)
        # Units that may take minutes to start, and that no proof asks.
        later = dict.fromkeys(unit for name in names for unit in secrets[name].get("later", ()))
        if later:
            _restart(self.world, ["--no-block", *later])
        return [*units, *later]

    def _prove(self, patience: float) -> list[dict[str, Any]]:
        from rave_guest import takeover

        values = {name: entry.value for name, entry in self.entries.items()}
        return takeover.prove(self.plan, takeover.Change(values, self.before), patience)


def _install(world: World, identity: bytes, file: bytes, clock: _Clock) -> dict[str, Any]:
    with decrypting(world, identity, file) as decrypted:
        # Importing takes a while under emulation, and sops works on another processor.
        from rave_guest import takeover

        plan = _plan(world)
        entries = _entries(plan, decrypted())
    clock.lap("decrypt")
    before = generations.read(generations.current(world.place))
    changed = sorted(name for name in entries if before.get(name) != entries[name].value)
    if plan["base"] == "nixos":
        placement = _by_sops_nix(world, identity, file)
    else:
        stale = bool(changed or set(before) - set(entries))
        placement = Direct(world.place, entries, stale=stale)
    installation = _Installation(world, plan, entries, before, changed)
    settled = False
    try:
        placement.put()
        clock.lap("write")
        units, proofs = installation.take_over(clock)
        _keep(world.store, identity, file, unchanged=not changed)
        settled = True
    except takeover.Unproven as error:
        raise Refused("prove", str(error)) from error
    finally:
        # However this ends: half of an installation must not stay.
        if not settled:
            installation.take_back(placement)
    placement.settle()
    clock.lap("keep")
    return {
        "ok": True,
        "changed": changed,
        "secrets": [_placed(world.place, name) for name in entries],
        "refreshed": units,
        "proofs": proofs,
        "seconds": clock.laps,
    }


def _by_sops_nix(world: World, identity: bytes, file: bytes) -> Placement:
    key, encrypted = f"{world.store}/age.key", f"{world.store}/secrets.sops.yaml"

    def restore(before: Kept) -> None:
        for path, data in ((key, before.key), (encrypted, before.file)):
            if data is not None:
                _replace(path, data)
            elif os.path.exists(path):
                os.unlink(path)

    return SopsNix(
        world.place,
        kept(key, encrypted),
        keep=lambda: _keep(world.store, identity, file, unchanged=False),
        restore=restore,
        restart=lambda unit: _restart(world, [unit]),
    )


def _restart(world: World, units: list[str]) -> None:
    try:
        done = subprocess.run(
            [world.systemctl, "restart", *units],
            capture_output=True,
            timeout=_TIMEOUT,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise Refused("refresh", f"services did not start within {_TIMEOUT:g} s") from error
    if done.returncode:
        raise Refused("refresh", f"a service does not start: {_last_line(done.stderr)}")


def _entries(plan: Mapping[str, Any], values: Mapping[str, bytes]) -> dict[str, generations.Entry]:
    missing = [name for name in plan["secrets"] if not values.get(name)]
    if missing:
        raise Refused("decrypt", f"the file lacks {', '.join(missing)}")
    return {
        name: generations.Entry(values[name], secret["owner"], int(secret["mode"], 8))
        for name, secret in plan["secrets"].items()
    }


def _flatten(node: object, path: tuple[str, ...], values: dict[str, bytes]) -> None:
    if isinstance(node, dict):
        for key, child in node.items():
            _flatten(child, (*path, key), values)
    elif isinstance(node, str):
        values["/".join(path)] = node.encode()
    else:
        raise Refused("decrypt", f"{'/'.join(path)} is not text")


def _placed(place: generations.Place, name: str) -> dict[str, str]:
    """Describe a secret in force by name, owner and mode."""
    import grp
    import pwd

    path = f"{place.link}/{name}"
    found = os.stat(path)
    return {
        "name": name,
        "path": path,
        "owner": pwd.getpwuid(found.st_uid).pw_name,
        "group": grp.getgrgid(found.st_gid).gr_name,
        "mode": f"{found.st_mode & 0o7777:04o}",
    }


def _keep(store: str, identity: bytes, file: bytes, *, unchanged: bool) -> None:
    """Keep key and encrypted file for the next boot; what says the same already is left alone."""
    os.makedirs(store, 0o700, exist_ok=True)
    os.chmod(store, 0o700)
    key, kept = f"{store}/age.key", f"{store}/secrets.sops.yaml"
    same_key = os.path.exists(key) and _read(key) == identity
    if not same_key:
        _replace(key, identity)
    if not (unchanged and same_key and os.path.exists(kept)):
        _replace(kept, file)
    fd = os.open(store, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _replace(path: str, data: bytes) -> None:
    temporary = f"{path}.new"
    with suppress(FileNotFoundError):
        os.unlink(temporary)
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o400)
    with os.fdopen(fd, "wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(fd)
    os.rename(temporary, path)


def _tell(count: int) -> None:
    from rave_guest import report

    report.send("secrets", state="installed", count=count)


def _plan(world: World) -> dict[str, Any]:
    plan: dict[str, Any] = json.loads(_read(world.plan))
    return plan


def _read(path: str) -> bytes:
    with open(path, "rb") as stream:
        return stream.read()


def _last_line(text: bytes) -> str:
    lines = text.decode(errors="replace").strip().splitlines()
    return lines[-1].strip() if lines else "it said nothing"


@contextmanager
def _locked(path: str) -> Iterator[None]:
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Refused("request", "another installation of secrets is running") from error
        yield
    finally:
        os.close(fd)


@contextmanager
def _memory_file(data: bytes) -> Iterator[int]:
    fd = os.memfd_create("rave", os.MFD_CLOEXEC)
    try:
        os.write(fd, data)
        os.lseek(fd, 0, os.SEEK_SET)
        yield fd
    finally:
        os.close(fd)


class _Clock:
    """Seconds per step."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = time.monotonic()

    def lap(self, name: str) -> None:
        """End the step `name`."""
        now = time.monotonic()
        self.laps[name] = round(now - self._last, 3)
        self._last = now
