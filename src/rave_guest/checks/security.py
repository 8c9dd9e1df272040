"""Hardening, looked at where it takes effect: sshd, sudo, kernel settings, accounts, fail2ban."""

from __future__ import annotations

import glob
import os
import re
import stat
import time
from typing import TYPE_CHECKING, Any

from rave_guest import facts
from rave_guest.manager import Manager
from rave_guest.system import read, run
from rave_guest.verdict import Verdict, failed, judge, passed
from rave_guest.wire.fail2ban import ask_fail2ban

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rave_guest.system import System

# sshd_config(5), as `sshd -T` prints the values in force.
SSHD = {
    "passwordauthentication": {"no"},
    "kbdinteractiveauthentication": {"no"},
    "permitemptypasswords": {"no"},
    "permitrootlogin": {"no"},
    "pubkeyauthentication": {"yes"},
    "hostbasedauthentication": {"no"},
    "x11forwarding": {"no"},
    "permituserenvironment": {"no"},
    "strictmodes": {"yes"},
}
SSHD_MOST = {"maxauthtries": 6, "logingracetime": 60}

# What only root may change.
OURS = ("/etc", "/usr/lib/rave", "/usr/local", "/var/lib/rave")
# kernel.org/doc/Documentation/admin-guide/sysctl; a value passes if it is one of these.
SYSCTL = {
    "kernel/kptr_restrict": {"1", "2"},
    "kernel/dmesg_restrict": {"1"},
    "kernel/unprivileged_bpf_disabled": {"1", "2"},
    "kernel/sysrq": {"0"},
    "kernel/randomize_va_space": {"2"},
    "fs/suid_dumpable": {"0", "2"},
    "fs/protected_hardlinks": {"1"},
    "fs/protected_symlinks": {"1"},
    "net/ipv4/tcp_syncookies": {"1"},
    "net/ipv4/ip_forward": {"0"},
    "net/ipv4/conf/all/accept_redirects": {"0"},
    "net/ipv4/conf/all/send_redirects": {"0"},
    "net/ipv4/conf/all/accept_source_route": {"0"},
}


def sshd(ask: Mapping[str, Any], _system: System) -> Verdict:
    """The settings sshd really runs with: keys only, no root, nothing forwarded to X."""
    done = run(["sshd", "-T"], ask["timeout"])
    if done.returncode != 0:
        return failed(f"sshd -T: {done.stderr.strip()[:200]}")
    return judge_sshd(facts.keywords(done.stdout))


def judge_sshd(found: Mapping[str, list[str]]) -> Verdict:
    """Compare `sshd -T` with the rules."""
    problems = []
    for name, allowed in SSHD.items():
        value = found.get(name, ["unset"])[-1]
        if value not in allowed:
            problems.append(f"{name} is {value}")
    for name, most in SSHD_MOST.items():
        value = found.get(name, ["unset"])[-1]
        if not value.isdigit() or not 0 < int(value) <= most:
            problems.append(f"{name} is {value}, more than {most}")
    return judge(problems, f"{len(SSHD) + len(SSHD_MOST)} settings as they must be")


def sudo(ask: Mapping[str, Any], _system: System) -> Verdict:
    """Only the operator's account may become root without a password; the files are root's."""
    rules = {}
    for path in ["/etc/sudoers", *sorted(glob.glob("/etc/sudoers.d/*"))]:
        if os.path.isfile(path):
            found = os.stat(path)
            rules[path] = (found.st_uid, stat.S_IMODE(found.st_mode), read(path))
    return judge_sudo(rules, ask["operator"])


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


def sysctl(_ask: Mapping[str, Any], _system: System) -> Verdict:
    """Kernel settings that make attacks harder."""
    return judge_sysctl({name: read(f"/proc/sys/{name}").strip() for name in SYSCTL})


def judge_sysctl(found: Mapping[str, str]) -> Verdict:
    """Compare with the rules; a setting this kernel does not have reads as empty."""
    wrong = [
        f"{name.replace('/', '.')} is {value}"
        for name, value in found.items()
        if value and value not in SYSCTL[name]
    ]
    return judge(wrong, f"{sum(map(bool, found.values()))} settings as they must be")


def accounts(_ask: Mapping[str, Any], _system: System) -> Verdict:
    """No account can be opened with a password, and root is the only superuser."""
    return judge_accounts(read("/etc/shadow"), read("/etc/passwd"))


def judge_accounts(shadow: str, passwd: str) -> Verdict:
    """Read the two account files."""
    problems = [f"{name} can log in with a password" for name in facts.usable_passwords(shadow)]
    problems += [f"{name} has user id 0" for name in facts.superusers(passwd) if name != "root"]
    if not shadow or not passwd:
        problems.append("the account files cannot be read")
    return judge(problems, f"{len(shadow.splitlines())} accounts, none opens with a password")


def failed_units(_ask: Mapping[str, Any], _system: System) -> Verdict:
    """No unit is in the state failed."""
    manager = Manager()
    try:
        return judge([f"{name} failed" for name in manager.failed()], "none")
    finally:
        manager.close()


def file_modes(ask: Mapping[str, Any], _system: System) -> Verdict:
    """Nobody but root can change configuration or our own code; keys are private."""
    roots = [path for path in OURS if os.path.isdir(path)]
    loose = ["-perm", "-0002", "!", "-type", "l", "!", "-perm", "-1000"]
    done = run(["find", *roots, "-xdev", *loose, "-print"], ask["timeout"])
    writable = done.stdout.splitlines()
    private = [*glob.glob("/etc/ssh/ssh_host_*_key"), "/etc/shadow", "/etc/gshadow"]
    exposed = [p for p in private if os.path.exists(p) and os.stat(p).st_mode & 0o007]
    return judge_modes(writable, exposed)


def judge_modes(writable: list[str], exposed: list[str]) -> Verdict:
    """Read paths that everybody may write, and private files that everybody may read."""
    problems = [f"everybody may write {path}" for path in writable[:5]]
    problems += [f"everybody may read {path}" for path in exposed]
    return judge(problems, "configuration and code are root's, keys are private")


def fail2ban_settings(ask: Mapping[str, Any], _system: System) -> Verdict:
    """The jail of sshd bans after the promised number of failures."""
    retries = ask_fail2ban(["get", "sshd", "maxretry"], ask["timeout"])
    seconds = ask_fail2ban(["get", "sshd", "bantime"], ask["timeout"])
    actions = ask_fail2ban(["get", "sshd", "actions"], ask["timeout"])
    return judge_jail(retries, seconds, actions, ask["maxretry"])


def judge_jail(retries: Any, seconds: Any, actions: Any, maxretry: int) -> Verdict:
    """Read the jail's settings as fail2ban gives them: numbers, and a list of action names."""
    problems = []
    if int(retries) > maxretry:
        problems.append(f"bans after {retries} failures instead of {maxretry}")
    if 0 <= int(seconds) < 60:
        problems.append(f"bans for {seconds} s only")
    if not actions:
        problems.append("has no action")
    return judge(
        problems, f"bans after {retries} failures for {seconds} s",
        maxretry=int(retries), bantime=int(seconds),
    )  # fmt: skip


def fail2ban_release(ask: Mapping[str, Any], _system: System) -> Verdict:
    """Wait until this run's own failed logins got their address banned, let the host feel it for
    `hold` seconds, and lift it.
    """
    deadline = time.monotonic() + ask["timeout"] - ask["hold"] - 1
    banned = _is_banned(ask["address"], ask["timeout"])
    while not banned and time.monotonic() < deadline:
        time.sleep(0.1)
        banned = _is_banned(ask["address"], ask["timeout"])
    if banned:
        time.sleep(ask["hold"])
    listed = ask["address"] in run(["nft", "list", "ruleset"], ask["timeout"]).stdout
    ask_fail2ban(["set", "sshd", "unbanip", ask["address"]], ask["timeout"])
    return judge_ban(banned=banned, enforced=listed)


def fail2ban_forgive(ask: Mapping[str, Any], _system: System) -> Verdict:
    """Lift the ban of an address, if there is one."""
    ask_fail2ban(["set", "sshd", "unbanip", ask["address"]], ask["timeout"])
    return passed("no ban")


def _is_banned(address: str, timeout: float) -> bool:
    return address in str(ask_fail2ban(["get", "sshd", "banip"], timeout))


def judge_ban(*, banned: bool, enforced: bool) -> Verdict:
    """Read whether fail2ban banned the address, and whether the firewall knows it."""
    if not banned:
        return failed("the failed logins did not get their address banned")
    problems = [] if enforced else ["fail2ban banned the address, but nftables does not know it"]
    return judge(problems, "banned, and in nftables")
