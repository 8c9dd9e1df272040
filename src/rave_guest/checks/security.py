"""Hardening, looked at where it takes effect: sudo, kernel settings, accounts."""

from __future__ import annotations

import glob
import os
import re
import stat

from rave_guest import facts
from rave_guest.check import Subject, check
from rave_guest.manager import Manager
from rave_guest.system import read, run
from rave_guest.verdict import Verdict, judge

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from rave_guest.system import System

# What only root may change; the last may be a link to the data disk.
OURS = ("/etc", "/usr/lib/rave", "/usr/local", "/var/lib/rave/")
# What the kernel has by itself, and nothing may have changed; the rest is a fact of the catalog.
DEFAULTS = {"kernel.randomize_va_space": 2, "net.ipv4.ip_forward": 0}


def _operator(about: Subject) -> dict[str, Any]:
    return {"operator": about.plan["facts"]["operator"]}


@check("security.sudo", phase="security", title="only the operator's account becomes root",
       arguments=_operator)  # fmt: skip
def sudo(arguments: Mapping[str, Any], _system: System) -> Verdict:
    """Only the operator's account may become root without a password; the files are root's."""
    rules = {}
    for path in ["/etc/sudoers", *sorted(glob.glob("/etc/sudoers.d/*"))]:
        if os.path.isfile(path):
            found = os.stat(path)
            rules[path] = (found.st_uid, stat.S_IMODE(found.st_mode), read(path))
    return judge_sudo(rules, arguments["operator"])


def judge_sudo(files: Mapping[str, tuple[int, int, str]], operator: str) -> Verdict:
    """Read sudoers files as path -> (owner, mode, text)."""
    problems = []
    lines: list[str] = []
    for path, (owner, mode, text) in files.items():
        if owner != 0 or mode & 0o022:
            problems.append(f"{path} is {mode:04o} of user {owner}")
        lines += text.replace("\\\n", " ").splitlines()
    for line in lines:
        words = line.split("#")[0] if not line.startswith("#") else ""
        if "!authenticate" in words:
            problems.append("!authenticate is set")
        who = words.split()[0] if words.split() else ""
        if "NOPASSWD" in words and who not in {operator, "root"}:
            problems.append(f"{who} needs no password")
    if not any(re.match(r"\s*Defaults\s.*\buse_pty\b", line) for line in lines):
        problems.append("use_pty is not set")
    return judge(problems, f"without a password: {operator} alone")


def _settings(about: Subject) -> dict[str, Any]:
    return {"settings": DEFAULTS | about.plan["facts"]["sysctl"]}


@check("security.sysctl", phase="security", title="the kernel is hardened", arguments=_settings)
def sysctl(arguments: Mapping[str, Any], _system: System) -> Verdict:
    """Every kernel setting of the catalog is in force: no later file overruled it."""
    wanted = arguments["settings"]
    return judge_sysctl(
        wanted, {n: read(f"/proc/sys/{n.replace('.', '/')}").strip() for n in wanted}
    )


def judge_sysctl(wanted: Mapping[str, int], found: Mapping[str, str]) -> Verdict:
    """Compare; a setting that this kernel does not have reads as empty."""
    wrong = [
        f"{name} is {value} instead of {wanted[name]}"
        for name, value in found.items()
        if value and value != str(wanted[name])
    ]
    return judge(wrong, f"{sum(map(bool, found.values()))} settings as they must be")


@check("security.accounts", phase="security", title="no account opens with a password")
def accounts(_arguments: Mapping[str, Any], _system: System) -> Verdict:
    """No account can be opened with a password, and root is the only superuser."""
    return judge_accounts(read("/etc/shadow"), read("/etc/passwd"))


def judge_accounts(shadow: str, passwd: str) -> Verdict:
    """Read the two account files."""
    problems = [f"{name} can log in with a password" for name in facts.usable_passwords(shadow)]
    problems += [f"{name} has user id 0" for name in facts.superusers(passwd) if name != "root"]
    if not shadow or not passwd:
        problems.append("the account files cannot be read")
    return judge(problems, f"{len(shadow.splitlines())} accounts, none opens with a password")


@check("security.failed-units", phase="security", title="no unit has failed")
def failed_units(_arguments: Mapping[str, Any], _system: System) -> Verdict:
    """No unit is in the state failed."""
    manager = Manager()
    try:
        return judge([f"{name} failed" for name in manager.failed()], "none")
    finally:
        manager.close()


@check("security.file-modes", phase="security", title="configuration is root's, keys are private")
def file_modes(arguments: Mapping[str, Any], _system: System) -> Verdict:
    """Nobody but root can change configuration or our own code; keys are private."""
    roots = [path for path in OURS if os.path.isdir(path)]
    loose = ["-perm", "-0002", "!", "-type", "l", "!", "-perm", "-1000"]
    done = run(["find", *roots, "-xdev", *loose, "-print"], arguments["timeout"])
    writable = done.stdout.splitlines()
    private = [*glob.glob("/etc/ssh/ssh_host_*_key"), "/etc/shadow", "/etc/gshadow"]
    exposed = [p for p in private if os.path.exists(p) and os.stat(p).st_mode & 0o007]
    return judge_modes(writable, exposed)


def judge_modes(writable: list[str], exposed: list[str]) -> Verdict:
    """Read paths that everybody may write, and private files that everybody may read."""
    problems = [f"everybody may write {path}" for path in writable[:5]]
    problems += [f"everybody may read {path}" for path in exposed]
    return judge(problems, "configuration and code are root's, keys are private")
