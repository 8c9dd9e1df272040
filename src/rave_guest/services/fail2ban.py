"""fail2ban: alive, its jail, and a ban that is really imposed."""

from __future__ import annotations

import time

from rave_guest.check import Subject, askable, check
from rave_guest.questions import Question
from rave_guest.verdict import Verdict, failed, judge, passed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from rave_guest.system import System

UNITS = ("fail2ban.units",)
JAIL = "sshd"


def alive(_record: Mapping[str, Any]) -> list[Question]:
    """The list of jails, asked of the server as fail2ban-client does (a pickled list)."""
    end = b"<F2B_END_COMMAND>"
    command = b"(lp0\nVstatus\np1\na." + end
    place = "/run/fail2ban/fail2ban.sock"
    return [Question("status", place, command, lambda a: JAIL.encode() in a, end)]


def _say(words: list[str], arguments: Mapping[str, Any]) -> Any:
    # It brings pickle, which whoever only asks whether fail2ban lives does without.
    from rave_guest.wire.fail2ban import ask_fail2ban

    return ask_fail2ban(words, arguments["timeout"])


@check("fail2ban.jail", phase="health", title="fail2ban watches sshd", needs=UNITS, timeout=10,
       retry_for=15)  # fmt: skip
def jail(arguments: Mapping[str, Any], _system: System) -> Verdict:
    """The jail of sshd is there."""
    _say(["status", JAIL], arguments)
    return passed(f"the jail {JAIL} is there")


def _settings(about: Subject) -> dict[str, Any]:
    return {"maxretry": about.plan["facts"]["failedLogins"]}


# The ban goes by its figures, so it is asked first, by itself.
@check("security.fail2ban", phase="security", title="fail2ban bans after {maxretry} failures",
       needs=UNITS, step="early", arguments=_settings)  # fmt: skip
def settings(arguments: Mapping[str, Any], _system: System) -> Verdict:
    """The jail of sshd bans after the promised number of failures."""
    retries = _say(["get", JAIL, "maxretry"], arguments)
    seconds = _say(["get", JAIL, "bantime"], arguments)
    actions = _say(["get", JAIL, "actions"], arguments)
    return judge_jail(retries, seconds, actions, arguments["maxretry"])


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


@askable
def release(arguments: Mapping[str, Any], system: System) -> Verdict:
    """Wait until the run's own failed logins got their address banned, let the host feel it for
    `hold` seconds, and lift it.
    """
    deadline = time.monotonic() + arguments["timeout"] - arguments["hold"] - 1
    banned = _is_banned(arguments)
    while not banned and time.monotonic() < deadline:
        time.sleep(0.1)
        banned = _is_banned(arguments)
    # fail2ban says so before it has told nftables, which takes a program to start.
    enforced = _is_enforced(arguments, system)
    while banned and not enforced and time.monotonic() < deadline:
        time.sleep(0.1)
        enforced = _is_enforced(arguments, system)
    if banned:
        time.sleep(arguments["hold"])
    _say(["set", JAIL, "unbanip", arguments["address"]], arguments)
    return judge_ban(banned=banned, enforced=enforced)


@askable
def forgive(arguments: Mapping[str, Any], _system: System) -> Verdict:
    """Lift the ban of an address, if there is one."""
    _say(["set", JAIL, "unbanip", arguments["address"]], arguments)
    return passed("no ban")


def _is_banned(arguments: Mapping[str, Any]) -> bool:
    return arguments["address"] in str(_say(["get", JAIL, "banip"], arguments))


def _is_enforced(arguments: Mapping[str, Any], system: System) -> bool:
    ruleset = system.run(["nft", "list", "ruleset"], arguments["timeout"]).stdout
    return arguments["address"] in ruleset


def judge_ban(*, banned: bool, enforced: bool) -> Verdict:
    """Read whether fail2ban banned the address, and whether the firewall knows it."""
    if not banned:
        return failed("the failed logins did not get their address banned")
    problems = [] if enforced else ["fail2ban banned the address, but nftables does not know it"]
    return judge(problems, "banned, and in nftables")
