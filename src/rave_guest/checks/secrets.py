"""The secrets' places, and that services took them: shown by name, owner and mode, never value."""

from __future__ import annotations

import os
import pwd
import stat
from typing import TYPE_CHECKING, Any, NamedTuple

from rave_guest import facts
from rave_guest.system import read
from rave_guest.verdict import Verdict, failed, judge, skipped
from rave_guest.wire import postgres
from rave_guest.wire.nats import Nats, NatsError
from rave_guest.wire.redis import Redis, RedisError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from rave_guest.system import System

ROOT = "/run/secrets"
STORE = "/var/lib/rave/secrets"
ABSENT = "no secrets are installed (rave secrets install)"


class Entry(NamedTuple):
    """What lies at a path; `kind` is "file", "dir" or "other"."""

    kind: str
    mode: int
    owner: str
    size: int


def look(path: str) -> Entry | None:
    """Return what lies at `path` itself, or None."""
    try:
        found = os.lstat(path)
    except OSError:
        return None
    kind = "file" if stat.S_ISREG(found.st_mode) else "dir" if stat.S_ISDIR(found.st_mode) else ""
    try:
        owner = pwd.getpwuid(found.st_uid).pw_name
    except KeyError:
        owner = str(found.st_uid)
    return Entry(kind or "other", stat.S_IMODE(found.st_mode), owner, found.st_size)


def known_owner(name: str) -> str:
    """Return the owner a secret gets: root where the base has no such account."""
    try:
        return pwd.getpwnam(name).pw_name
    except KeyError:
        return "root"


def tree(root: str) -> dict[str, Entry]:
    """Return everything below `root`, by path relative to it."""
    found = {}
    for place, directories, files in os.walk(root):
        for name in (*directories, *files):
            path = os.path.join(place, name)
            entry = look(path)
            if entry:
                found[os.path.relpath(path, root)] = entry
    return found


def secret_files(ask: Mapping[str, Any], _system: System) -> Verdict:
    """Every secret of the plan is there, with its owner and mode, and nothing else is."""
    if not os.path.isdir(ROOT):
        return skipped(ABSENT)
    expected = {
        name: (known_owner(entry["owner"]), int(entry["mode"], 8))
        for name, entry in ask["secrets"].items()
    }
    return judge_files(tree(os.path.realpath(ROOT)), expected)


def judge_files(found: Mapping[str, Entry], expected: Mapping[str, tuple[str, int]]) -> Verdict:
    """Compare the files below /run/secrets with name -> (owner, mode)."""
    problems = []
    for name, (owner, mode) in sorted(expected.items()):
        entry = found.get(name)
        if entry is None:
            problems.append(f"{name} is missing")
        elif entry.kind != "file" or entry.size == 0:
            problems.append(f"{name} is no file with content")
        elif (entry.owner, entry.mode) != (owner, mode):
            problems.append(f"{name} is {entry.mode:04o} {entry.owner}, not {mode:04o} {owner}")
    for name, entry in sorted(found.items()):
        if entry.kind == "dir":
            if entry.mode & 0o026 or entry.owner != "root":
                problems.append(f"the directory {name} is {entry.mode:04o} {entry.owner}")
        elif name not in expected:
            problems.append(f"{name} is not in the plan")
    return judge(problems, f"{len(expected)} secrets, each with its owner and mode")


def secret_mount(_ask: Mapping[str, Any], _system: System) -> Verdict:
    """Plain secrets lie in memory only: a mount that never swaps, runs nothing, holds no device."""
    if not os.path.isdir(ROOT):
        return skipped(ABSENT)
    table = facts.mounts(read("/proc/self/mountinfo"))
    swaps = len(read("/proc/swaps").splitlines()) > 1
    return judge_mount(facts.mount_of(os.path.realpath(ROOT), table), swaps)


def judge_mount(mount: facts.Mount | None, swaps: bool) -> Verdict:
    """Read the mount that holds the secrets, and whether the machine swaps at all."""
    if mount is None:
        return failed("/run/secrets is on no mount")
    problems = []
    if mount.kind not in {"ramfs", "tmpfs"}:
        problems.append(f"{mount.point} is {mount.kind}")
    if mount.kind == "tmpfs" and "noswap" not in mount.options and swaps:
        problems.append(f"{mount.point} is a tmpfs that may be swapped out")
    missing = sorted({"nosuid", "nodev", "noexec"} - mount.options)
    if missing:
        problems.append(f"{mount.point} lacks {', '.join(missing)}")
    return judge(problems, f"{mount.kind} on {mount.point}")


def secret_store(_ask: Mapping[str, Any], _system: System) -> Verdict:
    """What survives a reboot is encrypted, and the machine's own key is root's alone."""
    names = ("age.key", "secrets.sops.yaml")
    found = {name: look(f"{STORE}/{name}") for name in names}
    if not any(found.values()):
        return skipped(ABSENT)
    return judge_store(look(STORE), found, read(f"{STORE}/secrets.sops.yaml"))


def judge_store(
    directory: Entry | None, found: Mapping[str, Entry | None], document: str
) -> Verdict:
    """Read modes and the encrypted document: every value outside sops' own part is ENC[…]."""
    problems = []
    if directory is None or (directory.owner, directory.mode) != ("root", 0o700):
        problems.append(f"{STORE} is not 0700 root")
    for name, entry in found.items():
        if entry is None:
            problems.append(f"{name} is missing")
        elif (entry.owner, entry.mode) != ("root", 0o400):
            problems.append(f"{name} is {entry.mode:04o} {entry.owner}, not 0400 root")
    problems += [f"{name} is not encrypted" for name in plain_values(document)]
    if "sops:" not in document:
        problems.append("secrets.sops.yaml is no SOPS file")
    return judge(problems, "encrypted, 0400 root")


def plain_values(document: str) -> list[str]:
    """Return the keys of a SOPS YAML document whose value is readable; sops' own part is not data.

    sops writes one `key: ENC[…]` per line and its metadata last.
    """
    plain = []
    for line in document.partition("\nsops:")[0].splitlines():
        name, separator, value = line.partition(":")
        text = value.strip()
        if separator and text and not text.startswith("ENC["):
            plain.append(name.strip())
    return plain


def postgresql_login(ask: Mapping[str, Any], system: System) -> Verdict:
    """Each role is admitted with its password, and with no other."""
    problems, asked = [], 0
    for entry in ask["roles"]:
        password = system.secret(entry["path"])
        if password is None:
            return skipped(ABSENT)
        asked += 1
        problems += _role(entry["role"], entry["name"] or "postgres", password, ask["timeout"])
    return judge(problems, f"{asked} roles admitted with their password only")


def _role(role: str, database: str, password: str, timeout: float) -> list[str]:
    problems = []
    try:
        postgres.log_in(role, database, password, timeout)
    except postgres.Refused as error:
        problems.append(f"{role} is refused: {error}")
    try:
        postgres.log_in(role, database, f"{password}-wrong", timeout)
        problems.append(f"{role} is admitted with a wrong password")
    except postgres.Refused as error:
        # 28P01 invalid_password, 28000 invalid_authorization_specification
        if error.code not in {"28P01", "28000"}:
            problems.append(f"{role} with a wrong password: {error}")
    return problems


def redis_login(ask: Mapping[str, Any], system: System) -> Verdict:
    """Redis reads and writes with the password, and refuses without it and with a wrong one."""
    password = system.secret(ask["secret"])
    tries: dict[str, Callable[[Redis], object]] = {
        "without a password": lambda redis: redis.ask("GET", "rave:probe"),
        "with a wrong password": lambda redis: redis.ask("AUTH", "rave-probe-wrong"),
    }
    problems = []
    for name, attempt in tries.items():
        try:
            with Redis(ask["timeout"]) as redis:
                attempt(redis)
            problems.append(f"admits {name}")
        except RedisError:
            continue
    if password is None:
        return failed("; ".join(problems)) if problems else skipped(ABSENT)
    try:
        with Redis(ask["timeout"]) as redis:
            redis.ask("AUTH", password)
    except RedisError as error:
        problems.append(f"refuses the installed password: {error}")
    return judge(problems, "admits the installed password only")


def nats_login(ask: Mapping[str, Any], system: System) -> Verdict:
    """NATS admits the installed password, and nobody without it or with a wrong one."""
    password = system.secret(ask["secret"])
    tries = {"without a password": (None, None), "with a wrong one": (ask["user"], "rave-wrong")}
    problems = [
        f"admits a client {name}"
        for name, (user, word) in tries.items()
        if _nats(ask["timeout"], user, word) is None
    ]
    if password is None:
        return failed("; ".join(problems)) if problems else skipped(ABSENT)
    refusal = _nats(ask["timeout"], ask["user"], password)
    if refusal is not None:
        problems.append(f"refuses the installed password: {refusal}")
    return judge(problems, "admits the installed password only")


def _nats(timeout: float, user: str | None, password: str | None) -> str | None:
    """Log in; return the refusal, or None when admitted."""
    try:
        Nats(timeout, user=user, password=password).close()
    except NatsError as error:
        return str(error)
    return None


def certificate_pair(ask: Mapping[str, Any], system: System) -> Verdict:
    """The key of nginx belongs to its certificate, and both are the installed ones."""
    if system.secret(ask["certificate"]) is None:
        return skipped(ABSENT)
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(ask["certificate"], ask["key"])
    except ssl.SSLError as error:
        return failed(f"the key does not belong to the certificate: {error.reason}")
    return judge([], "the key belongs to the certificate")
