"""The secrets' places, shown by name, owner and mode, never by value."""

from __future__ import annotations

import os
import pwd
import stat
from collections import namedtuple

from rave_guest import facts
from rave_guest import plan as plans
from rave_guest.check import Subject, check
from rave_guest.secrets.places import HERE
from rave_guest.system import read
from rave_guest.verdict import ABSENT, Verdict, failed, judge, skipped

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from rave_guest.system import System

ROOT = "/run/secrets"
STORE = "/var/lib/rave/secrets"


class FileStatus(namedtuple("FileStatus", ("kind", "mode", "owner", "size"))):
    """What lies at a path; `kind` is "file", "dir" or "other"."""

    __slots__ = ()
    kind: str
    mode: int
    owner: str
    size: int


def look(path: str) -> FileStatus | None:
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
    return FileStatus(kind or "other", stat.S_IMODE(found.st_mode), owner, found.st_size)


def known_owner(name: str) -> str:
    """Return the owner a secret gets: root where the base has no such account."""
    try:
        return pwd.getpwnam(name).pw_name
    except KeyError:
        return "root"


def tree(root: str) -> dict[str, FileStatus]:
    """Return everything below `root`, by path relative to it."""
    found = {}
    for place, directories, files in os.walk(root):
        for name in (*directories, *files):
            path = os.path.join(place, name)
            entry = look(path)
            if entry:
                found[os.path.relpath(path, root)] = entry
    return found


def _entries(about: Subject) -> dict[str, Any]:
    secrets = about.plan["secrets"].items()
    return {"secrets": {n: {"owner": s["owner"], "mode": s["mode"]} for n, s in secrets}}


@check("secrets.files", phase="secrets",
       title="every secret is there, with its owner and mode, no other",
       arguments=_entries)  # fmt: skip
def files(arguments: Mapping[str, Any], _system: System) -> Verdict:
    """Every secret of the plan is there, with its owner and mode, and nothing else is."""
    if not os.path.isdir(ROOT):
        return skipped(ABSENT)
    expected = {
        name: (known_owner(entry["owner"]), int(entry["mode"], 8))
        for name, entry in arguments["secrets"].items()
    }
    return judge_files(tree(os.path.realpath(ROOT)), expected | rendered(plans.own()))


def rendered(own: Mapping[str, Any]) -> dict[str, tuple[str, int]]:
    """What this guest's base renders beside the secrets: templates of sops-nix."""
    entries = own.get("rendered", {})
    return {n: (known_owner(e["owner"]), int(e["mode"], 8)) for n, e in entries.items()}


def judge_files(
    found: Mapping[str, FileStatus], expected: Mapping[str, tuple[str, int]]
) -> Verdict:
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


@check("secrets.memory", phase="secrets", title="plain secrets lie in memory only")
def mount(_arguments: Mapping[str, Any], _system: System) -> Verdict:
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


@check("secrets.store", phase="secrets", title="what survives a reboot is encrypted")
def store(_arguments: Mapping[str, Any], _system: System) -> Verdict:
    """What survives a reboot is encrypted, and what opens it comes with each boot from the host."""
    names = ("age.key", "secrets.sops.yaml")
    found = {name: look(f"{STORE}/{name}") for name in names}
    if not any(found.values()):
        return skipped(ABSENT)
    handed = os.path.exists(HERE.handed)
    return judge_store(look(STORE), found, read(f"{STORE}/secrets.sops.yaml"), handed=handed)


def judge_store(
    directory: FileStatus | None,
    found: Mapping[str, FileStatus | None],
    document: str,
    *,
    handed: bool,
) -> Verdict:
    """Read modes and the encrypted document: every value outside sops' own part is ENC[…].

    `handed` says whether the host handed the machine's identity over; then it must not lie there.
    """
    problems = []
    if handed and found.get("age.key") is not None:
        problems.append("age.key lies beside what it opens")
    if handed:
        found = {name: entry for name, entry in found.items() if name != "age.key"}
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
